"""The definition of limits, and what is used of them. Durations are seconds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from .limits import WireEnum


class CalendarWindow(WireEnum):
    """A window of the calendar, in UTC."""

    UNSPECIFIED = 0
    HOUR = 1
    DAY = 2
    MONTH = 3


class OutagePolicy(WireEnum):
    """What happens when the lease of a replica is spent and the database does not respond."""

    UNSPECIFIED = 0
    OPEN = 1
    """Requests are admitted. The limit can be exceeded."""
    LOCAL_SHARE = 2
    """Each replica holds a larger lease in advance. The limit is never exceeded."""
    CLOSED = 3
    """Requests are undecided. The limit is never exceeded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Quota:
    """An amount per window."""

    amount: int
    window: CalendarWindow | float
    """A window of the calendar, or the length of a rolling window."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CreditRefill:
    """A periodic refill of credits."""

    amount: int
    every: CalendarWindow
    max_balance: int
    """A refill raises the balance at most to this; 0: no maximum."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Credits:
    """A balance without a window."""

    initial: int
    refill: CreditRefill | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A token bucket."""

    amount: int
    """What flows in per period."""
    per: float
    burst: int
    """The capacity of the bucket."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitSubject:
    """Whose limit it is: one of these is set, the others are empty."""

    plan: str = ""
    tenant_id: str = ""
    key_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The definition of a limit."""

    subject: LimitSubject
    name: str
    metric: str
    rule: Quota | Credits | Rate | None
    """`None`: a kind of rule that this version does not know."""
    on_outage: OutagePolicy
    shadow: bool
    version: int
    updated_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitState:
    """A limit and what is used of it, in the database's view."""

    limit: Limit
    used: int
    """What was admitted and is counted in the current window; of a rate, what is missing in the bucket."""
    leased: int
    """What replicas hold: it counts against the limit and may still be admitted, or be given back."""
    reserved: int
    """What reservations hold."""
    unaccounted: int
    """What replicas held that ended without saying how much of it they had admitted. It counts as used."""
    remaining: int
    """What no replica holds."""
    window_start: datetime | None
    """Start of the current window. `None` for credits and rates."""
    reset_after: float | None
    """Time until the window ends, or until the next refill. `None`: nothing is added by itself."""
