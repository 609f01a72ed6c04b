"""Many tasks with one question make one call."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable

from . import _status
from .clock import Clock
from .errors import DeadlineExceededError, TenantAuthError
from .results import Validation

Load = Callable[[float], Awaitable[Validation]]
"""Makes the call, within this many seconds."""


class AsyncFlights:
    """The calls under way, by what they ask."""

    def __init__(self, clock: Clock, longest: float) -> None:
        self._clock = clock
        # A hasty caller starts the call for patient ones too.
        self._longest = longest
        self._flights: dict[Hashable, asyncio.Task[Validation | TenantAuthError]] = {}

    async def join(self, question: Hashable, load: Load, timeout: float) -> Validation:
        """The answer, from the call under way or a new one. Giving up does not end it for the others."""
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
                # It began before this caller came, who has time left.
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
