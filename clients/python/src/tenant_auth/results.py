"""What is answered. Durations are seconds, moments are aware datetimes in UTC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from ._checks import texts
from .errors import TenantAuthError
from .verdict import Source, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """How much an answer is worth."""

    source: Source = Source.UNSPECIFIED
    age: float = 0.0
    """Time since the database was asked."""
    revision: int = 0
    """The database's change-log sequence number that the answer reflects."""
    cacheable_for: float = 0.0
    """How long the answer may be reused, counted from before it was asked for; zero: not at all."""
    cacheable_while_watched: float = 0.0
    """The same for whoever follows the service's invalidations; never of use beyond this client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """Who was let in: what a handler needs to know about its caller."""

    tenant_id: str
    tenant_name: str
    plan: str
    key_id: str
    """The key's public id, safe to log."""
    scopes: tuple[str, ...]


class DeniedError(Exception):
    """A denial, from `require_key`, `require_session` or the principal of a denied answer. Not a `TenantAuthError`."""

    def __init__(self, validation: Validation) -> None:
        super().__init__(f"denied: {validation.verdict}")
        self.validation = validation
        self.verdict = validation.verdict
        """Why."""
        self.missing_scopes = validation.missing_scopes
        """With `INSUFFICIENT_SCOPE`: the required scopes that the key lacks."""
        self.provenance = validation.provenance
        """Where the denial came from."""

    def __reduce__(self) -> tuple[type[Self], tuple[Validation]]:
        # It is made from the answer, not from its own words: a pool of processes breaks on what it cannot copy.
        return type(self), (self.validation,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """The decision about a key, and whose key it is. Has no truth of its own: ask `is_valid`, or use `require_key`.

    For `UNKNOWN` and `MALFORMED` nothing but the verdict and its provenance is known.
    """

    verdict: Verdict
    tenant_id: str = ""
    tenant_name: str = ""
    plan: str = ""
    key_id: str = ""
    """The key's public id, safe to log."""
    scopes: tuple[str, ...] = ()
    """Every scope the key holds, sorted."""
    expires_at: datetime | None = None
    """When it ends by itself; `None`: never."""
    missing_scopes: tuple[str, ...] = ()
    """With `INSUFFICIENT_SCOPE`: the required scopes that the key lacks."""
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def is_valid(self) -> bool:
        """Whether the request may proceed."""
        return self.verdict.is_valid

    def __bool__(self) -> bool:
        """Refused: a denial is an answer too, so `if validation:` would admit everybody."""
        raise TypeError("an answer is neither true nor false: ask its is_valid, or use require_key or require_session")

    @property
    def principal(self) -> Principal:
        """Who is calling. Only a valid answer has one, else `DeniedError`: nobody denied is taken for a tenant."""
        if not self.is_valid:
            raise DeniedError(self)
        return Principal(
            tenant_id=self.tenant_id,
            tenant_name=self.tenant_name,
            plan=self.plan,
            key_id=self.key_id,
            scopes=self.scopes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionValidation(Validation):
    """The decision about a session, and whose session it is."""

    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)
    """What was attached when the session was bound."""
    presented_key_id: str = ""
    """The public id of the key presented along with the session, where it is one of the session's tenant."""


Outcome = Validation | TenantAuthError
"""One key's place in a batch: a decision, or why there is none."""


@dataclass(frozen=True, slots=True)
class Question:
    """A key to decide about in a batch, with scopes of its own."""

    key: str = field(repr=False)
    scopes: str | Iterable[str] = ()
    """As with `validate_key`: a single one may be given as text."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "scopes", texts("scopes", self.scopes))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """The process that answered."""

    version: str
    commit: str
    dirty: bool
    branch: str
    database: str
    """`EMBEDDED`, `REMOTE`, or the number of a kind that this version does not know."""
    revision: int
    uptime: float
    now: datetime | None
    schema_version: int


@dataclass(frozen=True, slots=True)
class WatchState:
    """How the near-cache is kept informed."""

    live: bool
    """Whether invalidations arrive, so that answers may be used beyond their `cacheable_for`."""
    revision: int
    """The last revision that was handled."""
