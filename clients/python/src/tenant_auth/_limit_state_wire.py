"""Converts the state of limits."""

from __future__ import annotations

from . import _status
from ._limit_wire import optional_seconds
from ._wire import check_text, seconds, to_datetime
from .limit_state import (
    CalendarWindow,
    CreditRefill,
    Credits,
    Limit,
    LimitState,
    LimitSubject,
    OutagePolicy,
    Quota,
    Rate,
)
from .proto import limit_pb2


def request(tenant_id: str | None, key_id: str | None) -> limit_pb2.GetLimitStateRequest:
    if (tenant_id is None) == (key_id is None):
        raise ValueError("limit_state needs tenant_id or key_id: give exactly one")
    if tenant_id is not None:
        return limit_pb2.GetLimitStateRequest(tenant_id=check_text(tenant_id, "tenant_id"))
    return limit_pb2.GetLimitStateRequest(key_id=check_text(key_id or "", "key_id"))


def states(message: limit_pb2.GetLimitStateResponse) -> list[LimitState]:
    return [state(one) for one in message.limits]


def state(message: limit_pb2.LimitState) -> LimitState:
    if not message.HasField("limit"):
        raise _status.invalid_response("the response contains no limit")
    return LimitState(
        limit=limit(message.limit),
        used=message.used,
        leased=message.leased,
        reserved=message.reserved,
        unaccounted=message.unaccounted,
        remaining=message.remaining,
        window_start=to_datetime(message.window_start) if message.HasField("window_start") else None,
        reset_after=optional_seconds(message, "reset_after"),
    )


def limit(message: limit_pb2.Limit) -> Limit:
    of = message.subject
    return Limit(
        subject=LimitSubject(plan=of.plan, tenant_id=of.tenant_id, key_id=of.key_id),
        name=message.name,
        metric=message.metric,
        rule=rule(message),
        on_outage=OutagePolicy.from_wire(message.on_outage),
        shadow=message.shadow,
        version=message.version,
        updated_at=to_datetime(message.updated_at) if message.HasField("updated_at") else None,
    )


def rule(message: limit_pb2.Limit) -> Quota | Credits | Rate | None:
    kind = message.WhichOneof("rule")
    if kind == "quota":
        quota = message.quota
        rolling = quota.WhichOneof("window") == "rolling"
        window = seconds(quota.rolling) if rolling else CalendarWindow.from_wire(quota.calendar)
        return Quota(amount=quota.amount, window=window)
    if kind == "credits":
        refill = message.credits.refill
        periodic = CreditRefill(
            amount=refill.amount, every=CalendarWindow.from_wire(refill.every), max_balance=refill.max_balance
        )
        return Credits(initial=message.credits.initial, refill=periodic if message.credits.HasField("refill") else None)
    if kind == "rate":
        rate = message.rate
        # The contract's defaults, so that callers need not know them.
        per = seconds(rate.per) if rate.HasField("per") else 1.0
        return Rate(amount=rate.amount, per=per, burst=rate.burst or rate.amount)
    return None
