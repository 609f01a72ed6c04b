"""Time source, replaceable in tests."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Protocol


class Clock(Protocol):
    """The time source of the clients. `tenant_auth.testing.ManualClock` is one that a test controls."""

    def monotonic(self) -> float:
        """Seconds of a monotonic clock with an arbitrary start."""
        ...

    def time(self) -> float:
        """Seconds since 1970, comparable with the service's timestamps."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Waits in a task."""
        ...

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        """Waits in a thread, or until `stop` is set. Returns whether it is set."""
        ...


class SystemClock:
    """The system clock."""

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        return stop.wait(seconds)
