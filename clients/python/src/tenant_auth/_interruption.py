"""Interrupts a task when a guard ends."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Protocol

from .errors import TenantAuthError
from .results import DeniedError

Reason = DeniedError | TenantAuthError
"""Why a stream ends."""


class Ending(Protocol):
    """A guard, or what has one."""

    on_end: Callable[[], None] | None
    """Called when the guard ends."""

    @property
    def reason(self) -> Reason | None: ...


class Interruption:
    """Interrupts the current task if the guard ends in the meantime, and then raises the guard's reason."""

    __slots__ = ("_guard", "_timeout")

    def __init__(self, guard: Ending) -> None:
        self._guard = guard
        # A timeout without a deadline costs no timer, and can be brought forward.
        self._timeout = asyncio.timeout(None)

    async def __aenter__(self) -> None:
        reason = self._guard.reason
        if reason is not None:
            raise reason
        await self._timeout.__aenter__()
        self._guard.on_end = self._interrupt

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._guard.on_end = None
        reason = self._guard.reason
        interrupted = False
        try:
            await self._timeout.__aexit__(kind, error, trace)
        except TimeoutError:
            if reason is None:
                raise
            interrupted = True
        if reason is not None and not interrupted:
            # What was interrupted may have turned that into an error of its own, or into its end.
            interrupted = self._timeout.expired() and isinstance(error, Exception)
        if reason is not None and interrupted:
            raise reason

    def _interrupt(self) -> None:
        self._timeout.reschedule(0.0)
