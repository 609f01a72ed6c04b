"""Sessions: an MCP or CLI session id, bound to a tenant through the key that opened it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum

from .verdict import Verdict


class SessionExpiry(IntEnum):
    """How a session's end moves."""

    FIXED = 1
    """It ends `ttl` after it was bound."""
    SLIDING = 2
    """It ends `ttl` after it was last validated by the service; what the near-cache answers does not count."""


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
    """The outcome of binding a session."""

    verdict: Verdict
    """`VALID` when bound, `TENANT_MISMATCH` when another tenant holds it, else the verdict on the key."""
    session: Session | None
    """When the verdict is `VALID`."""
    already_bound: bool

    @property
    def is_valid(self) -> bool:
        """Whether the session is bound to the key's tenant now."""
        return self.verdict.is_valid

    def __bool__(self) -> bool:
        """Refused: a denial is an outcome too."""
        raise TypeError("a binding is neither true nor false: ask its is_valid")
