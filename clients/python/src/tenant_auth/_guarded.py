"""Iterates over a stream under a guard."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import TypeVar

from ._guard import Guard

T = TypeVar("T")


async def guarded(guard: Guard, stream: AsyncIterable[T]) -> AsyncIterator[T]:
    """Yields the items of a stream until it ends, or until the guard ends it, and raises the guard's reason."""
    # Only now: an iterator that is never used is never closed either.
    guard.start()
    items = aiter(stream)
    try:
        while True:
            try:
                # The item is awaited in the caller's task, which the guard interrupts: another task would read ahead,
                # and a generator with a cancel scope must stay in one task.
                async with guard.interrupting():
                    item = await anext(items)
            except StopAsyncIteration:
                return
            yield item
    finally:
        guard.release()
        close = getattr(items, "aclose", None)
        if close is not None:
            await close()
