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


class AsyncFlights:
    """The calls in flight, by request."""

    def __init__(self, clock: Clock, longest: float) -> None:
        self._clock = clock
        # The call must not fail early for other callers because the one that started it has a short timeout.
        self._longest = longest
        self._flights: dict[Hashable, asyncio.Task[Validation | TenantAuthError]] = {}

    async def join(self, question: Hashable, load: Load, timeout: float) -> Validation:
        """Returns the result of a call in flight, or of a new call. A caller that gives up does not end the call for
        the others.
        """
        deadline = self._clock.monotonic() + timeout
        while True:
            left = deadline - self._clock.monotonic()
            if left <= 0:
                raise _status.late()
            flight = self._flights.get(question)
            joined = flight is not None
            if flight is None:
                flight = asyncio.create_task(self._fly(load, max(left, self._longest)))
                self._flights[question] = flight
                flight.add_done_callback(lambda done: self._forget(question, done))
            try:
                async with asyncio.timeout(left):
                    outcome = await asyncio.shield(flight)
            except TimeoutError:
                outcome = _status.late()
                joined = False
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if flight.cancelled() and task is not None and not task.cancelling():
                    raise _status.closed() from None
                raise
            if isinstance(outcome, Validation):
                return outcome
            if joined and isinstance(outcome, DeadlineExceededError):
                # The call started before this caller joined, and this caller has time left.
                continue
            raise outcome.again()

    async def close(self) -> None:
        flights = tuple(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)

    async def _fly(self, load: Load, timeout: float) -> Validation | TenantAuthError:
        try:
            return await load(timeout)
        except TenantAuthError as error:
            return error

    def _forget(self, question: Hashable, done: asyncio.Task[Validation | TenantAuthError]) -> None:
        if self._flights.get(question) is done:
            del self._flights[question]
