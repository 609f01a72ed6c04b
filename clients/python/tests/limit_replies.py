"""Responses of the fake service about limits."""

from __future__ import annotations

import threading
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2

from replies import answer, session_answer
from tenant_auth.proto import limit_pb2, validation_pb2

QUOTA_EXCEEDED, RATE_LIMITED = 8, 9


def duration(seconds: float) -> Duration:
    made = Duration()
    made.FromNanoseconds(round(seconds * 1e9))
    return made


def limit(name: str = "hourly", **more: Any) -> limit_pb2.LimitDecision:
    """What a quota of 100 per hour says. Durations may be given in seconds; `None` leaves them out."""
    fields: dict[str, Any] = {"metric": "requests", "limit": 100, "remaining": 99, "decided_by": 1}
    fields |= {"window": 3_600.0, "reset_after": 1_800.0}
    given: dict[str, Any] = {
        field: duration(value) if isinstance(value, float) else value
        for field, value in (fields | more).items()
        if value is not None
    }
    return limit_pb2.LimitDecision(name=name, **given)


def exceeded(name: str = "hourly", **more: Any) -> limit_pb2.LimitDecision:
    return limit(name, **({"remaining": 0, "exceeded": True, "retry_after": 90.5} | more))


def consumed(verdict: int = 1, *limits: Any, session: bool = False, about: Any = None, **more: Any) -> Any:
    """A decision about the key `key_1` of the tenant `acme`, or about a session of it."""
    by_limit = verdict in (QUOTA_EXCEEDED, RATE_LIMITED)
    known = (session_answer if session else answer)(1 if by_limit else verdict) if about is None else about
    part = {"session" if session else "key": known}
    return limit_pb2.ConsumeResponse(verdict=verdict, limits=limits, **part, **more)  # type: ignore[arg-type]


def batch_of(*results: Any) -> limit_pb2.BatchConsumeResponse:
    made = [
        limit_pb2.BatchConsumeResult(**{"error" if isinstance(one, status_pb2.Status) else "response": one})
        for one in results
    ]
    return limit_pb2.BatchConsumeResponse(results=made)


def credential_of(key: str) -> limit_pb2.LimitCredential:
    return limit_pb2.LimitCredential(key=validation_pb2.ValidateKeyRequest(key=key))


def reserved(verdict: int = 1, *limits: Any, expires_in: float = 600.0, **more: Any) -> Any:
    about = answer(1 if verdict in (QUOTA_EXCEEDED, RATE_LIMITED) else verdict)
    made: Any = limit_pb2.ReserveResponse(verdict=verdict, key=about, limits=limits, **more)  # type: ignore[arg-type]
    if verdict == 1:
        made.expires_in.CopyFrom(duration(expires_in))
    return made


def settled(**more: Any) -> limit_pb2.SettleResponse:
    one = limit_pb2.SettledLimit(name="hourly", metric="tokens", reserved=10, charged=4, exceeded_by=0)
    return limit_pb2.SettleResponse(state=limit_pb2.RESERVATION_STATE_SETTLED, limits=[one], **more)


def cancelled() -> limit_pb2.CancelResponse:
    return limit_pb2.CancelResponse(state=limit_pb2.RESERVATION_STATE_CANCELLED)


def state_of_hourly() -> limit_pb2.GetLimitStateResponse:
    definition = limit_pb2.Limit(
        subject=limit_pb2.LimitSubject(tenant_id="acme"),
        name="hourly",
        metric="requests",
        quota=limit_pb2.Quota(amount=100, rolling=duration(3_600.0)),
        on_outage=limit_pb2.OUTAGE_POLICY_LOCAL_SHARE,
        version=3,
        updated_at=Timestamp(seconds=1),
    )
    state = limit_pb2.LimitState(
        limit=definition, used=1, leased=2, reserved=3, unaccounted=4, remaining=90, reset_after=duration(60.0)
    )
    return limit_pb2.GetLimitStateResponse(limits=[state])


class Book:
    """A quota of which chunks are reserved, as the service counts it."""

    def __init__(self, amount: int) -> None:
        self.amount = amount
        self.held: dict[str, int] = {}
        self.charged: dict[str, int] = {}
        self.sizes: list[int] = []
        """The sizes of all reservations that were asked for."""
        self._lock = threading.Lock()

    @property
    def used(self) -> int:
        return sum(self.charged.values())

    @property
    def left(self) -> int:
        return self.amount - self.used - sum(self.held.values())

    def replies(self) -> dict[str, Any]:
        """Returns the responses for a fake service."""
        return {"Reserve": self.reserve, "Settle": self.settle, "Cancel": self.cancel}

    def reserve(self, request: Any) -> Any:
        with self._lock:
            (cost,) = request.costs
            self.sizes.append(cost.amount)
            if cost.amount > self.left:
                return reserved(QUOTA_EXCEEDED, exceeded(remaining=self.left))
            self.held[request.reservation_id] = cost.amount
            return reserved(1, limit(remaining=self.left), expires_in=request.expires_in.ToSeconds())

    def settle(self, request: Any) -> Any:
        with self._lock:
            held = self.held.pop(request.reservation_id)
            actual = request.actual[0].amount
            assert 0 <= actual <= held
            self.charged[request.reservation_id] = actual
            return settled()

    def cancel(self, request: Any) -> Any:
        with self._lock:
            self.held.pop(request.reservation_id, None)
            return cancelled()
