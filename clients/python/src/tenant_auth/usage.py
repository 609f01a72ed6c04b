"""Usage of tenants."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum

from .errors import TenantAuthError, Violation

TENANT_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
METRIC = re.compile(r"[a-z][a-z0-9_.]{0,63}")
MAX_QUANTITY = 10**12
MIN_TIME = datetime(1970, 1, 1, tzinfo=UTC)
MAX_TIME = datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)


class UsageBucket(IntEnum):
    """The width of a time bucket, in UTC."""

    HOUR = 1
    DAY = 2
    MONTH = 3


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """One usage event."""

    tenant_id: str
    metric: str
    """The name of the metric in lower case, such as `api.calls`."""
    quantity: int
    """In the unit of the metric; not negative."""
    occurred_at: datetime | None = None
    """`None`: the time of arrival."""

    def __post_init__(self) -> None:
        if self.occurred_at is not None:
            if not isinstance(self.occurred_at, datetime):
                raise TypeError(f"occurred_at is {type(self.occurred_at).__name__}: give a datetime")
            if self.occurred_at.tzinfo is None:
                raise ValueError("occurred_at needs a time zone")


def violations_of(event: UsageEvent, prefix: str = "") -> list[Violation]:
    """Returns all violations of the contract in an event."""
    found = []

    def wrong(field: str, why: str) -> None:
        found.append(Violation(prefix + field, why))

    if not isinstance(event.tenant_id, str) or not TENANT_ID.fullmatch(event.tenant_id):
        wrong("tenant_id", "must be 1 to 64 characters of A-Z a-z 0-9 _ -")
    if not isinstance(event.metric, str) or not METRIC.fullmatch(event.metric):
        wrong("metric", "must be a lower-case letter, then up to 63 characters of a-z 0-9 _ .")
    if type(event.quantity) is not int or not 0 <= event.quantity <= MAX_QUANTITY:
        wrong("quantity", f"must be an int from 0 to {MAX_QUANTITY}")
    at = event.occurred_at
    if at is not None and not MIN_TIME <= at <= MAX_TIME:
        wrong("occurred_at", "must be from 1970 to 9999")
    return found


def encoding_violations(event: UsageEvent, prefix: str) -> list[Violation]:
    """Returns the fields that no message can contain. All other errors are left to the service, which rejects only this
    event.
    """
    found = []
    for field, text in (("tenant_id", event.tenant_id), ("metric", event.metric)):
        if not isinstance(text, str) or any("\ud800" <= char <= "\udfff" for char in text):
            found.append(Violation(prefix + field, "must be valid Unicode text"))
    if type(event.quantity) is not int or not -(2**63) <= event.quantity < 2**63:
        found.append(Violation(prefix + "quantity", "must be a 64-bit integer"))
    return found


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """An event that was rejected for good, with the reason."""

    index: int
    """Index of the event in the request, starting at 0."""
    event: UsageEvent
    error: TenantAuthError


@dataclass(frozen=True, slots=True)
class UsageReceipt:
    """The result of recording events."""

    accepted: int
    """Number of events that are counted, by this call or by an earlier one with the same request id."""
    rejected: tuple[RejectedEvent, ...]
    already_recorded: bool


@dataclass(frozen=True, slots=True)
class UsageSum:
    """The sum of one metric over one time bucket."""

    metric: str
    bucket_start: datetime
    quantity: int


@dataclass(frozen=True, slots=True)
class UnsentUsage:
    """Events that were not recorded. Pass them to `record_usage` with the same request id, so that they count once."""

    request_id: str
    events: tuple[UsageEvent, ...]
    error: TenantAuthError | None
    """The last failure; `None`: the events were never sent."""
