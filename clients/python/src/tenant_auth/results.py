"""Results of the calls. Durations are seconds, times are timezone-aware datetimes in UTC."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Self

from ._checks import texts
from ._credential import Presented
from .errors import TenantAuthError
from .networks import NO_NETWORKS, ClientAddress, Networks
from .verdict import Source, Verdict


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """Source and age of an answer, and how long it may be cached."""

    source: Source = Source.UNSPECIFIED
    age: float = 0.0
    """Time since the server queried the database."""
    revision: int = 0
    """The database's change-log sequence number that the answer reflects."""
    cacheable_for: float = 0.0
    """How long the answer may be cached, counted from before the request was sent; zero: not at all."""
    cacheable_while_watched: float = 0.0
    """How long a client may cache the answer that follows the watch stream. Only meaningful within this client."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal(Presented):
    """The customer of an admitted request: what a handler needs to know."""

    tenant_id: str
    tenant_name: str
    plan: str
    key_id: str
    """The key's public id. It is safe to log."""
    scopes: tuple[str, ...]


class DeniedError(Exception):
    """A denial, raised by `require_key`, `require_session` and the principal of a denied answer. Not a
    `TenantAuthError`.
    """

    def __init__(self, validation: Validation) -> None:
        super().__init__(f"denied: {validation.verdict}")
        self.validation = validation
        self.verdict = validation.verdict
        """The reason."""
        self.missing_scopes = validation.missing_scopes
        """With `INSUFFICIENT_SCOPE`: the required scopes that the key does not hold."""
        self.provenance = validation.provenance
        """The source of the denial."""

    def __reduce__(self) -> tuple[type[Self], tuple[Validation]]:
        # Pickling must call the constructor with the answer. Process pools fail on exceptions that cannot be pickled.
        return type(self), (self.validation,)


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """The verdict on a key, and the tenant that owns it. It has no truth value: use `is_valid` or `require_key`.

    With `UNKNOWN` and `MALFORMED` only the verdict and its provenance are set.
    """

    verdict: Verdict
    tenant_id: str = ""
    tenant_name: str = ""
    plan: str = ""
    key_id: str = ""
    """The key's public id. It is safe to log."""
    scopes: tuple[str, ...] = ()
    """All scopes that the key holds, sorted."""
    expires_at: datetime | None = None
    """Time at which it expires; `None`: it does not expire."""
    missing_scopes: tuple[str, ...] = ()
    """With `INSUFFICIENT_SCOPE`: the required scopes that the key does not hold."""
    allowed_networks: Networks = NO_NETWORKS
    """The networks from which the key may be used, sorted; empty: from everywhere."""
    provenance: Provenance = field(default_factory=Provenance)

    @property
    def is_valid(self) -> bool:
        """Whether the request may proceed."""
        return self.verdict.is_valid

    def __bool__(self) -> bool:
        """Raises an error: a denial is an object too, so `if validation:` would admit every request."""
        raise TypeError("a validation has no truth value: use is_valid, require_key or require_session")

    @property
    def principal(self) -> Principal:
        """Returns the customer of a valid answer. Raises `DeniedError` otherwise, so that a denied key has no
        principal.
        """
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
    """The verdict on a session, and the tenant of the session."""

    attributes: Mapping[str, str] = field(default_factory=dict, hash=False)
    """The attributes that were attached when the session was bound."""
    presented_key_id: str = ""
    """The public id of the key presented with the session. Set only if it belongs to the tenant of the session."""
    presented_key_allowed_networks: Networks = NO_NETWORKS
    """The networks from which the key presented with the session may be used. Empty if it is the session's key."""


Outcome = Validation | TenantAuthError
"""The result for one key of a batch: a validation or an error."""


@dataclass(frozen=True, slots=True)
class KeyQuery:
    """A key of a batch or of a call about limits, with its own required scopes and address."""

    key: str = field(repr=False)
    scopes: str | Iterable[str] = ()
    """As for `validate_key`: a single scope may be given as text."""
    client_address: ClientAddress = None
    """As for `validate_key`. An invalid address is the error of this key alone."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "scopes", texts("scopes", self.scopes))


@dataclass(frozen=True, slots=True)
class SessionQuery:
    """A session that takes something from limits, with the key that is presented with it, if any."""

    session_id: str
    key: str | None = field(default=None, repr=False)
    scopes: str | Iterable[str] = ()
    """As for `validate_session`: a single scope may be given as text."""
    client_address: ClientAddress = None
    """As for `validate_session`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "scopes", texts("scopes", self.scopes))


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerInfo:
    """The replica that responded."""

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
    """State of the watch stream."""

    live: bool
    """Whether the stream is live, so that answers may be cached beyond their `cacheable_for`."""
    revision: int
    """The last revision that was handled."""
