# Generated from _async_limit_calls.py by tools/generate_sync.py. Do not edit.
"""The methods of the clients about limits: for asyncio, and for threads, which are generated from it."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from dataclasses import replace

from . import _limit_state_wire, _limit_wire, _methods, reservation
from ._conditions import apply_conditions
from ._core import Core
from ._engine import Engine
from ._limit_wire import ConsumeBatch, Holder
from .errors import TenantAuthError
from .limit_state import LimitState
from .limits import (
    ConsumeOutcome,
    ConsumeRequest,
    Consumption,
    Costs,
    LimitCredential,
    ReservationExpiry,
    ReservationState,
    Settlement,
)
from .local_limiter import LocalLimiter
from .reservation import Reservation


class LimitCalls:
    """A part of the client."""

    _core: Core
    _engine: Engine

    def consume(
        self,
        credential: LimitCredential,
        costs: Costs,
        consume_id: str | None = None,
        *,
        timeout: float | None = None,
    ) -> Consumption:
        """Validates a key or a session and takes amounts from its limits, in one decision: all of them, or none.

        `credential`: a key as text, a `KeyQuery` or a `SessionQuery`. With a `consume_id`, 1 to 128 printable ASCII
        characters, a repetition within 24 hours counts once, so the client retries the call. Without one it never does:
        after an error, the amounts may or may not be taken. The near cache never answers this.
        """
        holder = Holder(credential)
        request = _limit_wire.consume_request(holder, costs, consume_id)
        if holder.malformed is not None:
            self._engine.open()
            return holder.malformed
        reply, _ = self._engine.call(_methods.CONSUME, request, timeout, (), holder.secrets)
        made = holder.decision(reply, already_consumed=reply.already_consumed)
        return self._current(holder, made, timeout)

    def consume_many(self, requests: Sequence[ConsumeRequest], *, timeout: float | None = None) -> list[ConsumeOutcome]:
        """Makes 1 to 1,000 calls of `consume` in one, in order. Each is decided by itself. A request that cannot be
        decided has an error as its outcome. The call is retried only if all requests have an id.
        """
        batch = ConsumeBatch(requests)
        if not batch.holders and requests:
            self._engine.open()
            return batch.in_order([])
        secrets = batch.secrets
        reply, request_id = self._engine.call(_methods.BATCH_CONSUME, batch.request, timeout, (), secrets)
        decided = batch.decisions(reply, request_id)
        for index, one in enumerate(decided):
            if isinstance(one, Consumption):
                decided[index] = self._current(batch.holders[index], one, timeout)
        return batch.in_order(decided)

    def reserve(
        self,
        credential: LimitCredential,
        costs: Costs,
        *,
        reservation_id: str | None = None,
        expires_in: float | None = None,
        on_expiry: ReservationExpiry = ReservationExpiry.RELEASE,
        timeout: float | None = None,
    ) -> Reservation:
        """Validates a key or a session and sets amounts aside, whose actual value is known only later.

        Use the result as a context, which cancels the reservation unless it is settled in the block:
        `async with await client.reserve(key, {"tokens": 2_000}) as reservation: …`. Without `async`, it is
        `with client.reserve(…)`.

        `reservation_id`: 1 to 128 printable ASCII characters; by default a random id. The call is retried, because an
        id is reserved once. `expires_in`: when the reservation ends by itself, from 1 second to 24 hours; by default
        after 10 minutes.
        """
        holder = Holder(credential)
        used_id = uuid.uuid4().hex if reservation_id is None else reservation_id
        request = _limit_wire.reserve_request(holder, costs, used_id, expires_in, on_expiry)
        cancellation = _limit_wire.cancel_request(used_id)
        if holder.malformed is not None:
            self._engine.open()
            return Reservation(self._engine, used_id, holder.malformed, None, False)
        try:
            reply, _ = self._engine.call(_methods.RESERVE, request, timeout, (), holder.secrets)
            made = self._current(holder, holder.decision(reply), timeout)
        except BaseException as error:
            # It may be reserved, and nobody else knows a random id.
            may_hold = not isinstance(error, TenantAuthError) or error.is_transient
            if reservation_id is None and may_hold:
                self._engine.abandon(cancellation)
            raise
        if reply.verdict == made.verdict:
            expiry = _limit_wire.optional_seconds(reply, "expires_in")
            return Reservation(self._engine, used_id, made, expiry, reply.already_reserved)
        self._engine.abandon(cancellation)
        return Reservation(self._engine, used_id, made, None, reply.already_reserved)

    def settle_reservation(
        self, reservation_id: str, actual: Costs | None = None, *, timeout: float | None = None
    ) -> Settlement:
        """Like `settle` of a reservation. Raises a `TenantAuthError` with the code `NOT_FOUND` for an unknown id."""
        request = _limit_wire.settle_request(reservation_id, actual)
        return reservation.settle(self._engine, request, timeout)

    def cancel_reservation(self, reservation_id: str, *, timeout: float | None = None) -> ReservationState:
        """Like `cancel` of a reservation. Raises a `TenantAuthError` with the code `NOT_FOUND` for an unknown id."""
        return reservation.cancel(self._engine, _limit_wire.cancel_request(reservation_id), timeout)

    def limit_state(
        self, *, tenant_id: str | None = None, key_id: str | None = None, timeout: float | None = None
    ) -> list[LimitState]:
        """Reads the limits of a tenant, or of a key and its tenant, and what is used of them from the database.

        Raises a `TenantAuthError` with the code `NOT_FOUND` if there is no such tenant or key.
        """
        request = _limit_state_wire.request(tenant_id, key_id)
        reply, _ = self._engine.call(_methods.GET_LIMIT_STATE, request, timeout)
        return _limit_state_wire.states(reply)

    def local_limiter(self, metric: str) -> LocalLimiter:
        """Returns a limiter that admits most requests without a call, for callers with a near cache. Close it before
        the client.

        It reserves amounts of one metric in advance, for each key about what is used in 2 seconds: a part of the limit
        that other processes cannot use meanwhile. A key that the near cache knows to be revoked is not admitted.
        """
        return LocalLimiter(self._engine, self._core, metric)

    def _current(self, holder: Holder, made: Consumption, timeout: float | None) -> Consumption:
        """Returns a decision that is not weaker than what the near cache knows of the key or the session."""
        near = self._core.near_cache
        if near is None or not made.validation.is_valid:
            return made
        known = near.get(near.digest(*holder.call.cache_key))
        if known is not None and known.provenance.revision >= made.validation.provenance.revision:
            validation = apply_conditions(known, holder.call.address, holder.scopes)
        elif near.is_outdated(made.validation, holder.session_id):
            # A replica that does not know the change yet has decided.
            validation = self._engine.decide(holder.call, holder.scopes, timeout)
        else:
            return made
        if validation.is_valid:
            return made
        return replace(made, verdict=validation.verdict, validation=validation, limits=())
