"""Helpers for tests of programs that use these clients."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass


@dataclass(eq=False)
class Sleeper:
    until: float
    loop: asyncio.AbstractEventLoop
    woken: asyncio.Future[None]


class ManualClock:
    """A clock that advances only when the test calls `advance`, or on each sleep if `auto` is set."""

    def __init__(self, *, auto: bool = False, start: float = 1_800_000_000.0) -> None:
        self._auto = auto
        self._start = start
        self._elapsed = 0.0
        self._lock = threading.Lock()
        self._sleepers: list[Sleeper] = []
        self.sleeps: list[float] = []
        """The durations of all sleeps, in order."""

    def monotonic(self) -> float:
        return self._elapsed

    def time(self) -> float:
        return self._start + self._elapsed

    def advance(self, seconds: float) -> None:
        """Advances the clock, and wakes the sleepers that are due."""
        with self._lock:
            self._elapsed += seconds
            due = [sleeper for sleeper in self._sleepers if sleeper.until <= self._elapsed]
            self._sleepers = [sleeper for sleeper in self._sleepers if sleeper.until > self._elapsed]
        for sleeper in due:
            sleeper.loop.call_soon_threadsafe(wake, sleeper.woken)

    async def sleep(self, seconds: float) -> None:
        self._record(seconds)
        if self._auto:
            self.advance(seconds)
            await asyncio.sleep(0)
            return
        loop = asyncio.get_running_loop()
        sleeper = Sleeper(self._elapsed + seconds, loop, loop.create_future())
        with self._lock:
            self._sleepers.append(sleeper)
        self.advance(0)
        try:
            await sleeper.woken
        finally:
            with self._lock:
                self._sleepers = [other for other in self._sleepers if other is not sleeper]

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        self._record(seconds)
        if self._auto:
            self.advance(seconds)
            return stop.is_set()
        until = self._elapsed + seconds
        # An event cannot be awaited together with this clock, so the event is polled.
        while self._elapsed < until and not stop.wait(0.002):
            pass
        return stop.is_set()

    def _record(self, seconds: float) -> None:
        with self._lock:
            self.sleeps.append(seconds)


def wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
