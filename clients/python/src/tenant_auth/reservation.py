# Generated from async_reservation.py by tools/generate_sync.py. Do not edit.
"""Reservations: `AsyncReservation` for asyncio, and `Reservation` for threads, which is generated from it."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from . import _limit_wire, _methods
from ._engine import Engine
from .errors import InvalidRequestError
from .limits import Consumption, Costs, Decided, ReservationState, Settlement
from .proto import limit_pb2


class Reservation(Decided):
    """Amounts that are set aside until `settle`, `cancel` or the expiry; see the method `reserve` of the client.

    As a context, it raises the denial if the amounts were not set aside. It is cancelled at the end of the block unless
    it was settled, also if the block raises an exception. A `settle` whose outcome is unknown is not cancelled: repeat
    it with `settle_reservation`, or the reservation ends at its expiry.
    """

    def __init__(
        self,
        engine: Engine,
        reservation_id: str,
        decision: Consumption,
        expires_in: float | None,
        already_reserved: bool,
    ) -> None:
        self._engine = engine
        self._is_open = decision.allowed
        self.reservation_id = reservation_id
        """Identifies the reservation, also for `settle_reservation` and `cancel_reservation` of the client."""
        self.verdict = decision.verdict
        """As of a `Consumption`. `VALID`: everything is set aside."""
        self.validation = decision.validation
        """As of a `Consumption`."""
        self.limits = decision.limits
        """As of a `Consumption`."""
        self.expires_in = expires_in
        """Time until the reservation ends by itself, counted from before the request was sent. `None` if denied."""
        self.already_reserved = already_reserved
        """Whether an earlier call with this id had reserved the amounts. Then `limits` is empty."""
        if decision._presented is not None:
            self._present(decision._presented)

    def settle(self, actual: Costs | None = None, *, timeout: float | None = None) -> Settlement:
        """Replaces the reserved amounts with the actual ones, from 0. A metric that is missing counts as reserved.

        Idempotent: the first call decides. If an actual amount is larger than the reserved one, the difference is taken
        as far as the limit permits, and `exceeded_by` is the rest.
        """
        request = _limit_wire.settle_request(self.reservation_id, actual)
        was_open, self._is_open = self._is_open, False
        try:
            return settle(self._engine, request, timeout)
        except InvalidRequestError:
            # Nothing is settled, so the end of the block still cancels it.
            self._is_open = was_open
            raise

    def cancel(self, *, timeout: float | None = None) -> ReservationState:
        """Gives all reserved amounts back. Idempotent. Returns `CANCELLED`, or `EXPIRED` if it had ended by itself.

        Raises a `TenantAuthError` with the code `FAILED_PRECONDITION` if it was settled.
        """
        state = cancel(self._engine, _limit_wire.cancel_request(self.reservation_id), timeout)
        self._is_open = False
        return state

    def __enter__(self) -> Self:
        if not self.allowed:
            raise self._denial
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._is_open:
            self._is_open = False
            self._engine.give_back(_limit_wire.cancel_request(self.reservation_id))


def settle(engine: Engine, request: limit_pb2.SettleRequest, timeout: float | None) -> Settlement:
    reply, _ = engine.call(_methods.SETTLE, request, timeout)
    return _limit_wire.settlement(reply)


def cancel(engine: Engine, request: limit_pb2.CancelRequest, timeout: float | None) -> ReservationState:
    reply, _ = engine.call(_methods.CANCEL, request, timeout)
    return ReservationState.from_wire(reply.state)
