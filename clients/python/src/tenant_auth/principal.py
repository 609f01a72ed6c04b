"""The result of verifying a principal token, and the error about an invalid one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Self

from .results import DeniedError, Validation
from .verdict import Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedPrincipal:
    """The customer of a request that a proxy has admitted, from a verified principal token."""

    tenant_id: str
    key_id: str
    """The key's public id. It is safe to log."""
    plan: str
    scopes: tuple[str, ...]
    """The scopes that the token names; see `omitted_scopes`."""
    omitted_scopes: int
    """How many scopes of the key did not fit into the token."""
    revision: int
    """The database's change-log sequence number that the token reflects."""
    issued_at: datetime
    expires_at: datetime
    """Time at which the token expires, not the key: at most 60 s after `issued_at`."""


class InvalidPrincipalError(DeniedError):
    """The text is not a valid principal token for this audience. Its `verdict` is `MALFORMED`."""

    def __init__(self, reason: str) -> None:
        super().__init__(Validation(verdict=Verdict.MALFORMED))
        self.args = (f"invalid principal token: {reason}",)
        self.reason = reason
        """What is wrong with the token, for a log. It contains no part of the token."""

    def __reduce__(self) -> tuple[type[Self], tuple[str]]:  # type: ignore[override]
        return type(self), (self.reason,)
