"""An event loop in a thread, for callers without one. All `Client` objects share it; it ends with the process."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, TypeVar

from . import _status
from .errors import TenantAuthError

T = TypeVar("T")
END = object()

lock = threading.Lock()
loops: dict[int, asyncio.AbstractEventLoop] = {}
"""By process id: a fork does not inherit the thread of its parent's loop."""


def shared_loop() -> asyncio.AbstractEventLoop:
    with lock:
        loop = loops.get(os.getpid())
        if loop is None:
            loop = loops[os.getpid()] = asyncio.new_event_loop()
            threading.Thread(target=serve, args=(loop,), name="tenant-auth", daemon=True).start()
        return loop


def serve(loop: asyncio.AbstractEventLoop) -> None:
    asyncio.set_event_loop(loop)
    loop.run_forever()


class LoopThread:
    """Runs the coroutines of one client on the shared loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._closing: concurrent.futures.Future[None] | None = None

    def run(self, work: Awaitable[T]) -> T:
        """Returns the result of a coroutine. An interrupt of the waiting thread cancels the coroutine."""
        try:
            with self._lock:
                loop = self._opened()
                future = asyncio.run_coroutine_threadsafe(await_result(work), loop)
        except BaseException:
            if asyncio.iscoroutine(work):
                work.close()
            raise
        try:
            return future.result()
        except concurrent.futures.CancelledError:
            raise _status.closed_error() from None
        except BaseException:
            future.cancel()
            raise

    def each(self, items: AsyncIterator[T]) -> Iterator[T]:
        """Iterates over an asynchronous iterator, which is closed with this one."""
        try:
            while (item := self.run(next_item(items))) is not END:
                yield item
        finally:
            close = getattr(items, "aclose", None)
            if close is not None and self._closing is None:
                self.run(close())

    def close(self, last: Callable[[], Awaitable[None]]) -> None:
        """Runs the last coroutine and rejects further work."""
        with self._lock:
            if self._closing is None:
                done: concurrent.futures.Future[None] = concurrent.futures.Future()
                if self._loop is None or self._pid != os.getpid():
                    done.set_result(None)
                else:
                    done = asyncio.run_coroutine_threadsafe(await_result(last()), self._loop)
                self._closing = done
            closing = self._closing
        closing.result()

    def _opened(self) -> asyncio.AbstractEventLoop:
        if self._closing is not None:
            raise _status.closed_error()
        if self._loop is None:
            self._loop, self._pid = shared_loop(), os.getpid()
        elif self._pid != os.getpid():
            message = "a Client that was used before a fork cannot be used after it: create one in each process"
            raise TenantAuthError(message, code="FAILED_PRECONDITION")
        return self._loop


async def await_result(work: Awaitable[T]) -> T:
    return await work


async def next_item(items: AsyncIterator[Any]) -> Any:
    return await anext(items, END)
