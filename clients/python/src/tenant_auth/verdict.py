"""Verdicts, and the sources of answers."""

from __future__ import annotations

from enum import IntEnum


class Verdict(IntEnum):
    """The decision about a key or a session. Only `VALID` admits a request.

    An unknown value is kept with the name `UNRECOGNIZED(n)` and is a denial.
    """

    VALID = 1
    """The key or session is active and holds all required scopes."""
    UNKNOWN = 2
    """The key or session does not exist."""
    MALFORMED = 3
    """The text is not a key."""
    EXPIRED = 4
    """The key has expired."""
    REVOKED = 5
    """The key was revoked."""
    TENANT_SUSPENDED = 6
    """The key is active, but its tenant is suspended."""
    INSUFFICIENT_SCOPE = 7
    """The key is active but does not hold all required scopes."""
    QUOTA_EXCEEDED = 8
    """The tenant has used up its quota."""
    RATE_LIMITED = 9
    """The tenant exceeds its rate limit."""
    UNBOUND = 10
    """The session is not bound to a tenant."""
    SESSION_EXPIRED = 11
    """The session has expired."""
    TENANT_MISMATCH = 12
    """The session belongs to another tenant than the key."""
    DISABLED = 13
    """The key is disabled until an operator enables it."""
    ADDRESS_REQUIRED = 14
    """The key may be used from certain networks only, and the request has no address."""
    ADDRESS_NOT_ALLOWED = 15
    """The key may be used from certain networks only, and the address is in none of them."""

    @property
    def is_valid(self) -> bool:
        """Whether the request may proceed."""
        return self is Verdict.VALID

    def __str__(self) -> str:
        return self.name

    @classmethod
    def _missing_(cls, value: object) -> Verdict | None:
        if not isinstance(value, int):
            return None
        # Not cached: a sender of random numbers must not fill the memory.
        member = int.__new__(cls, value)
        member._name_ = f"UNRECOGNIZED({value})"
        member._value_ = value
        return member


class Source(IntEnum):
    """Where an answer comes from."""

    NEAR = -1
    """From this client's near cache; never sent by the service."""
    UNSPECIFIED = 0
    """No lookup was needed, or this version does not know the source."""
    DATABASE = 1
    """Read from the database for this request."""
    FRESH = 2
    """From the server's cache, within the fresh lifetime."""
    REFRESHING = 3
    """From the server's cache, past the fresh lifetime, while the entry is being reloaded (stale-while-revalidate)."""
    STALE = 4
    """From the server's cache, past the fresh lifetime, because the database does not respond (stale-if-error)."""
    NEGATIVE = 5
    """From a negative entry of the server's cache: a recent database read did not find it."""

    def __str__(self) -> str:
        return self.name

    @classmethod
    def from_wire(cls, number: int) -> Source:
        """Converts the number of the service. `NEAR` cannot come from the service."""
        return cls(number) if 0 <= number <= max(cls) else cls.UNSPECIFIED
