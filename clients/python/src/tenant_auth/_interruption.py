"""Interrupts a task when a guard ends."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._guard import Guard


class Interruption:
    """Interrupts the current task if the guard ends in the meantime, and then raises the guard's reason."""

    __slots__ = ("_guard", "_timeout")

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        # A timeout without a deadline costs no timer, and can be brought forward.
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        if self._guard.reason is not None:
            raise self._guard.reason
        await self._timeout.__aenter__()
        self._guard.on_end = self._interrupt

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._guard.on_end = None
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError as interrupted:
            if self._guard.reason is None:
                raise
            raise self._guard.reason from interrupted
        if self._guard.reason is not None and self._timeout.expired() and isinstance(error, Exception):
            # What was interrupted has turned that into an error of its own, or into its end.
            raise self._guard.reason from error

    def _interrupt(self) -> None:
        self._timeout.reschedule(0.0)
