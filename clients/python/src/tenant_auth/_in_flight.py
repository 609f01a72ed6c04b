"""Merges identical concurrent requests into one call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable

from . import _status
from .clock import Clock
from .errors import DeadlineExceededError, TenantAuthError
from .results import Validation

Load = Callable[[float], Awaitable[Validation]]
"""Makes the call. The argument is the timeout in seconds."""


class InFlightCalls:
    """The calls in flight, by request."""

    def __init__(self, clock: Clock, min_timeout: float) -> None:
        self._clock = clock
        # The call must not fail early for other callers because the one that started it has a short timeout.
        self._min_timeout = min_timeout
        self._in_flight: dict[Hashable, asyncio.Task[Validation | TenantAuthError]] = {}

    async def join(self, request: Hashable, load: Load, timeout: float) -> Validation:
        """Returns the result of a call in flight, or of a new call. A caller that gives up does not end the call for
        the others.
        """
        deadline = self._clock.monotonic() + timeout
        while True:
            remaining = deadline - self._clock.monotonic()
            if remaining <= 0:
                raise _status.deadline_exceeded()
            call = self._in_flight.get(request)
            # Waiting for a call that is done would not let the event loop run, and so not remove the call.
            joined = call is not None and not call.done()
            if call is None or call.done():
                call = asyncio.create_task(self._run_load(load, max(remaining, self._min_timeout)))
                self._in_flight[request] = call
                call.add_done_callback(lambda done: self._remove(request, done))
            try:
                async with asyncio.timeout(remaining):
                    outcome = await asyncio.shield(call)
            except TimeoutError:
                outcome = _status.deadline_exceeded()
                joined = False
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if call.cancelled() and task is not None and not task.cancelling():
                    raise _status.closed_error() from None
                raise
            if isinstance(outcome, Validation):
                return outcome
            if joined and isinstance(outcome, DeadlineExceededError):
                # The call started before this caller joined, and this caller has time left.
                continue
            raise outcome.copy()

    async def close(self) -> None:
        calls = tuple(self._in_flight.values())
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)

    async def _run_load(self, load: Load, timeout: float) -> Validation | TenantAuthError:
        try:
            return await load(timeout)
        except TenantAuthError as error:
            return error

    def _remove(self, request: Hashable, done: asyncio.Task[Validation | TenantAuthError]) -> None:
        if self._in_flight.get(request) is done:
            del self._in_flight[request]
