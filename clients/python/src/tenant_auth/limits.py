"""Limits: what a request costs, and what the limits of a tenant or a key say about it. Durations are seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum
from typing import Self

from ._credential import Presented
from .errors import TenantAuthError
from .results import DeniedError, KeyQuery, Principal, SessionQuery, Validation
from .verdict import Verdict

Costs = Mapping[str, int]
"""Amounts by metric, such as `{"requests": 1, "tokens": 2_000}`: 1 to 16 metrics, 1 to 1,000,000,000 of each."""

LimitCredential = str | KeyQuery | SessionQuery
"""Who takes something: a key, or a key or a session with the scopes that it must hold and the customer's address."""


class WireEnum(IntEnum):
    """An enum of the contract. A number that this version does not know is `UNSPECIFIED`."""

    def __str__(self) -> str:
        return self.name

    @classmethod
    def from_wire(cls, number: int) -> Self:
        return cls(number) if 0 <= number <= max(cls) else cls(0)


class DecidedBy(WireEnum):
    """Where a limit was decided."""

    UNSPECIFIED = 0
    LEASE = 1
    """From the lease of the replica, or from what the database said when it last refused."""
    DATABASE = 2
    """By the database, for this request."""
    LOCAL_SHARE = 3
    """From the lease of the replica, while the database does not respond."""
    OUTAGE_POLICY = 4
    """By the outage policy `OPEN`: the limit was not checked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitDecision:
    """What one limit says about a request."""

    name: str
    metric: str
    limit: int
    """The amount of a quota, the capacity of a rate's bucket, or the balance of credits when it was last read."""
    remaining: int
    """What is left, at least."""
    window: float | None = None
    """Length of a quota's window; of a rate, the time in which an empty bucket fills. `None` for credits."""
    reset_after: float | None = None
    """Time until the window ends, the bucket is full, or the next refill. `None`: nothing is added by itself."""
    retry_after: float | None = None
    """If exceeded: the time after which a retry can succeed, at the earliest. `None`: no time is known."""
    decided_by: DecidedBy = DecidedBy.UNSPECIFIED
    exceeded: bool = False
    """Whether less is left than the request costs."""
    shadow: bool = False
    """Whether it is a shadow limit, which never denies a request."""
    window_start: datetime | None = None
    """Start of the window that the amount is counted in. `None` for credits and rates."""


class LimitExceededError(DeniedError):
    """A limit has less left than the request costs. The verdict is `QUOTA_EXCEEDED` or `RATE_LIMITED`."""

    def __init__(self, validation: Validation, limits: Sequence[LimitDecision]) -> None:
        super().__init__(validation)
        names = ", ".join(one.name for one in exceeded(limits))
        self.args = (f"denied: {validation.verdict}: {names}" if names else f"denied: {validation.verdict}",)
        self.limits = tuple(limits)
        """The limits that apply to the costs, in the order of their names."""

    @property
    def retry_after(self) -> float | None:
        """Time after which a retry can succeed, at the earliest. `None`: no time is known."""
        return retry_after_of(self.limits)

    def __reduce__(self) -> tuple[type[Self], tuple[Validation, tuple[LimitDecision, ...]]]:  # type: ignore[override]
        return type(self), (self.validation, self.limits)


def exceeded(limits: Sequence[LimitDecision]) -> list[LimitDecision]:
    """Returns the limits that deny a request."""
    return [one for one in limits if one.exceeded and not one.shadow]


def retry_after_of(limits: Sequence[LimitDecision]) -> float | None:
    """Returns the time after which none of the limits denies a retry, or `None` if it is unknown of one of them."""
    denying = exceeded(limits)
    known = [one.retry_after for one in denying if one.retry_after is not None]
    return max(known) if known and len(known) == len(denying) else None


class Decided(Presented):
    """A decision about costs. It has no truth value: use `allowed`, or `principal`, which raises the denial."""

    __slots__ = ()

    verdict: Verdict
    validation: Validation
    limits: tuple[LimitDecision, ...]

    @property
    def allowed(self) -> bool:
        """Whether the request may proceed."""
        return self.verdict.is_valid

    @property
    def retry_after(self) -> float | None:
        """If a limit is exceeded: time after which a retry can succeed, at the earliest. `None`: no time is known."""
        return None if self.allowed else retry_after_of(self.limits)

    @property
    def principal(self) -> Principal:
        """Returns the customer of an admitted request. Raises `LimitExceededError` if a limit denies it, or
        `DeniedError` if the key or session is not valid.
        """
        if not self.allowed:
            raise self._denial
        principal = self.validation.principal
        credential = self._presented
        return principal if credential is None else principal._present(credential)

    @property
    def _denial(self) -> DeniedError:
        """Returns the denial, to raise."""
        if not self.validation.is_valid:
            return DeniedError(self.validation)
        return LimitExceededError(replace(self.validation, verdict=self.verdict), self.limits)

    def __bool__(self) -> bool:
        """Raises an error: a denial is an object too."""
        raise TypeError("a decision has no truth value: use allowed or principal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Consumption(Decided):
    """The decision about a request that takes something."""

    verdict: Verdict
    """`VALID`: everything is taken. `QUOTA_EXCEEDED`, `RATE_LIMITED`: a limit denies the request, and nothing is taken.
    Otherwise the verdict on the key or session.
    """
    validation: Validation
    """The validation of the key, or a `SessionValidation`. It is valid if a limit denies the request."""
    limits: tuple[LimitDecision, ...] = ()
    """The limits that apply to the costs, in the order of their names. Empty if the key or session is not valid."""
    already_consumed: bool = False
    """Whether an earlier call with the same id has taken the amounts. Then `limits` is empty."""


ConsumeOutcome = Consumption | TenantAuthError
"""The result for one request of a batch: a decision or an error."""


@dataclass(frozen=True, slots=True)
class ConsumeRequest:
    """A request of a batch."""

    credential: LimitCredential = field(repr=False)
    costs: Costs = field(hash=False)
    consume_id: str | None = None
    """With an id, a repetition within 24 hours counts once."""


class ReservationExpiry(WireEnum):
    """What happens to a reservation that is neither settled nor cancelled."""

    RELEASE = 1
    """The amounts are given back."""
    CHARGE = 2
    """The amounts count as used."""


class ReservationState(WireEnum):
    """The state of a reservation."""

    UNSPECIFIED = 0
    HELD = 1
    SETTLED = 2
    CANCELLED = 3
    EXPIRED = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class SettledLimit:
    """What one limit of a reservation counts."""

    name: str
    metric: str
    reserved: int
    charged: int
    """The amount that counts now."""
    exceeded_by: int
    """The part of the actual amount for which the limit had nothing left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """The result of settling a reservation."""

    state: ReservationState
    """`SETTLED`, or `CANCELLED` if it was cancelled before."""
    limits: tuple[SettledLimit, ...]
    already_settled: bool
    """Whether an earlier call had settled it; `limits` is then the result of that call."""
