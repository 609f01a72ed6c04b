"""What was decided, and where the answer came from."""

from __future__ import annotations

from enum import IntEnum


class Verdict(IntEnum):
    """The decision about a key or a session. Only `VALID` admits a request.

    A number that this version does not know is kept, named `UNRECOGNIZED(n)`, and denies.
    """

    VALID = 1
    """Known, live, and holding every scope that was asked for."""
    UNKNOWN = 2
    """No such key or session."""
    MALFORMED = 3
    """The text cannot be a key."""
    EXPIRED = 4
    """The key's lifetime is over."""
    REVOKED = 5
    """The key was withdrawn."""
    TENANT_SUSPENDED = 6
    """The key is live; its tenant is suspended."""
    INSUFFICIENT_SCOPE = 7
    """The key is live; it lacks a required scope."""
    QUOTA_EXCEEDED = 8
    """The tenant has used up its quota."""
    RATE_LIMITED = 9
    """The tenant calls too often."""
    UNBOUND = 10
    """The session is bound to no tenant."""
    SESSION_EXPIRED = 11
    """The session's lifetime is over."""
    TENANT_MISMATCH = 12
    """The session belongs to another tenant than the key."""

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
        # Not remembered: a sender of random numbers must not fill memory.
        member = int.__new__(cls, value)
        member._name_ = f"UNRECOGNIZED({value})"
        member._value_ = value
        return member


class Source(IntEnum):
    """Where an answer came from."""

    NEAR = -1
    """From this client's own near-cache; never sent by the service."""
    UNSPECIFIED = 0
    """No lookup was needed, or the service named a source that this version does not know."""
    DATABASE = 1
    """Read from the database for this request."""
    FRESH = 2
    """From the service's memory, within the fresh time."""
    REFRESHING = 3
    """From its memory, past the fresh time, while a reload runs."""
    STALE = 4
    """From its memory, past the fresh time, because the database does not answer."""
    NEGATIVE = 5
    """From its memory: the database was found not to hold it a moment ago."""

    def __str__(self) -> str:
        return self.name

    @classmethod
    def from_wire(cls, number: int) -> Source:
        """The service's own number; `NEAR` cannot come over the wire."""
        return cls(number) if 0 <= number <= max(cls) else cls.UNSPECIFIED
