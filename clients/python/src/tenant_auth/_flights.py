"""Many threads with one question make one call."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable

from . import _status
from .clock import Clock
from .errors import DeadlineExceededError, TenantAuthError
from .results import Validation

Load = Callable[[float], Validation]
"""Makes the call, within this many seconds."""


class Flight:
    """A call under way in the thread that was first."""

    def __init__(self) -> None:
        self.landed = threading.Event()
        # What everybody gets if the first thread is torn out of its call, such as by Ctrl-C: they ask themselves.
        self.outcome: Validation | TenantAuthError = _status.late()


class Flights:
    """The calls under way, by what they ask."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._flights: dict[Hashable, Flight] = {}

    def join(self, question: Hashable, load: Load, timeout: float) -> Validation:
        """The answer, from the call under way in another thread or from one made here."""
        deadline = self._clock.monotonic() + timeout
        while True:
            left = deadline - self._clock.monotonic()
            if left <= 0:
                raise _status.late()
            with self._lock:
                flight = self._flights.get(question)
                first = flight is None
                if flight is None:
                    flight = self._flights[question] = Flight()
            if first:
                return self._fly(question, flight, load, left)
            if not flight.landed.wait(left):
                raise _status.late()
            if isinstance(flight.outcome, Validation):
                return flight.outcome
            if not isinstance(flight.outcome, DeadlineExceededError):
                raise flight.outcome.again()
            # The first thread had less time than this one has.

    def _fly(self, question: Hashable, flight: Flight, load: Load, timeout: float) -> Validation:
        try:
            flight.outcome = load(timeout)
            return flight.outcome
        except TenantAuthError as error:
            flight.outcome = error.again()
            raise
        finally:
            with self._lock:
                del self._flights[question]
            flight.landed.set()
