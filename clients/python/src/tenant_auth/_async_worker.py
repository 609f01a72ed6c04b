"""A background task, and its synchronisation with other tasks. `_worker` has the same classes for threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from .clock import Clock


class AsyncSignal:
    """Wakes the worker."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        self._event.clear()

    async def wait(self, seconds: float | None) -> None:
        """Waits until the signal is set, for at most `seconds`."""
        waits: set[asyncio.Future[object]] = {asyncio.ensure_future(self._event.wait())}
        if seconds is not None:
            waits.add(asyncio.ensure_future(self._clock.sleep(seconds)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()


class AsyncProgress:
    """Wakes those who wait for the worker."""

    def __init__(self) -> None:
        self._condition = asyncio.Condition()

    async def notify(self) -> None:
        async with self._condition:
            self._condition.notify_all()

    async def wait_for(self, reached: Callable[[], bool], timeout: float | None) -> bool:
        """Waits until the condition is met. Returns whether it was met within the timeout."""
        try:
            async with asyncio.timeout(timeout), self._condition:
                return await self._condition.wait_for(reached)
        except TimeoutError:
            return False


class AsyncWorker:
    """Runs a background task, which ends when `stopped` is set."""

    def __init__(self, clock: Clock) -> None:
        self.stopped = False
        self._clock = clock
        self._task: asyncio.Task[None] | None = None

    def signal(self) -> AsyncSignal:
        """Returns a new signal to the task."""
        return AsyncSignal(self._clock)

    def start(self, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._task = asyncio.create_task(run())

    async def stop(self) -> None:
        """Cancels the task."""
        self.stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def stop_at_exit(self, _timeout: float) -> None:
        """Does nothing: at exit, the event loop of the task no longer runs."""
