"""Sessions: MCP or CLI session ids, each bound to a tenant by the key that opened the session."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum

from .verdict import Verdict


class SessionExpiry(IntEnum):
    """How the expiry of a session is determined."""

    FIXED = 1
    """The session expires `ttl` seconds after it was bound."""
    SLIDING = 2
    """The session expires `ttl` seconds after its last validation by the service. Answers of the near cache do not
    count.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """A bound session."""

    session_id: str
    tenant_id: str
    key_id: str
    created_at: datetime | None
    expires_at: datetime | None
    expiry: SessionExpiry
    attributes: Mapping[str, str] = field(hash=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """The result of binding a session."""

    verdict: Verdict
    """`VALID` if bound, `TENANT_MISMATCH` if it belongs to another tenant, otherwise the verdict on the key."""
    session: Session | None
    """Set if the verdict is `VALID`."""
    already_bound: bool

    @property
    def is_valid(self) -> bool:
        """Whether the session is bound to the key's tenant now."""
        return self.verdict.is_valid

    def __bool__(self) -> bool:
        """Raises an error: a denial is an object too."""
        raise TypeError("a binding has no truth value: use is_valid")
