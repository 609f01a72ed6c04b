"""Usage: what tenants consumed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import IntEnum

from .errors import TenantAuthError


class UsageBucket(IntEnum):
    """The width of a bucket, in UTC."""

    HOUR = 1
    DAY = 2
    MONTH = 3


@dataclass(frozen=True, slots=True)
class UsageEvent:
    """One thing that a tenant consumed."""

    tenant_id: str
    metric: str
    """A lower-case name such as `api.calls`."""
    quantity: int
    """In the metric's own unit; not negative."""
    occurred_at: datetime | None = None
    """`None`: on arrival."""

    def __post_init__(self) -> None:
        if self.occurred_at is not None and self.occurred_at.tzinfo is None:
            raise ValueError("occurred_at needs a time zone")


@dataclass(frozen=True, slots=True)
class RejectedEvent:
    """An event that can never be counted, and why."""

    index: int
    """Its position in the request, from 0."""
    event: UsageEvent
    error: TenantAuthError


@dataclass(frozen=True, slots=True)
class UsageReceipt:
    """The outcome of a recording."""

    accepted: int
    """Events that are counted now, by this call or by an earlier one with the same request id."""
    rejected: tuple[RejectedEvent, ...]
    already_recorded: bool


@dataclass(frozen=True, slots=True)
class UsageSum:
    """One metric's sum over one bucket."""

    metric: str
    bucket_start: datetime
    quantity: int


@dataclass(frozen=True, slots=True)
class UnsentUsage:
    """Events that were not recorded. Give them to `record_usage` with the same request id, and none counts twice."""

    request_id: str
    events: tuple[UsageEvent, ...]
    error: TenantAuthError | None
    """The last failure; `None`: they were never sent."""
