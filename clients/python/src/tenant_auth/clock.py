"""Time, so that tests can hold it still."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Protocol


class Clock(Protocol):
    """What the clients ask about time. `tenant_auth.testing.ManualClock` is one that a test moves."""

    def monotonic(self) -> float:
        """Seconds that never go back, from any start."""
        ...

    def time(self) -> float:
        """Seconds since 1970, to compare with moments that the service names."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Lets time pass in a task."""
        ...

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        """Lets time pass in a thread, or until `stop` is set; tells whether it is."""
        ...


class SystemClock:
    """The machine's own time."""

    def monotonic(self) -> float:
        return time.monotonic()

    def time(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        return stop.wait(seconds)
