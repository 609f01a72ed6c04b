"""How a client behaves. Durations are seconds."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ._version import __version__
from .clock import Clock, SystemClock


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS to the service. Without `ca_file` the machine's own roots are trusted."""

    ca_file: str | Path | None = None
    """PEM; the only roots that are trusted."""
    cert_file: str | Path | None = None
    """PEM; this client's certificate chain, together with `key_file`."""
    key_file: str | Path | None = None
    server_name: str | None = None
    """The name in the service's certificate, where it is not that of the endpoint."""

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together")


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A caller token in a file that may be replaced at any time: it is read again when it has changed."""

    path: str | Path


Token = str | TokenFile | Callable[[], str]
"""The caller token itself, where to read it, or what to call for it before each call."""


@dataclass(frozen=True, slots=True)
class NearCache:
    """Answers that are kept in this process."""

    max_entries: int = 10_000
    watch: bool = True
    """Whether to follow the service's invalidations, so that answers may be used for `watched_for`."""
    watched_for: float = 60.0
    """How long an answer may be used while invalidations arrive without a break."""

    def __post_init__(self) -> None:
        if self.max_entries < 1:
            raise ValueError("max_entries must be at least 1; to keep nothing, give no NearCache at all")


@dataclass(frozen=True, slots=True)
class Retry:
    """Repeating what failed in passing, within the deadline of the call."""

    max_attempts: int = 4
    base: float = 0.05
    """The first pause is random up to this, each further one up to twice as long."""
    longest: float = 1.0
    budget: float = 0.1
    """Retries per call that all calls together may make: an outage must not multiply the load."""
    burst: int = 10
    """Retries that may be made before the budget counts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Everything about a client but its endpoint."""

    timeout: float = 1.0
    """How long a call may take, retries included, unless the call says otherwise."""
    tls: Tls | None = None
    """`None`: plaintext, unless the endpoint starts with `https://`."""
    token: Token | None = field(default=None, repr=False)
    """Sent as `authorization: Bearer …`; it says who calls, and has nothing to do with customers' keys."""
    near_cache: NearCache | None = field(default_factory=NearCache)
    """`None`: ask the service each time."""
    retry: Retry | None = field(default_factory=Retry)
    """`None`: fail at the first failure."""
    user_agent: str = f"tenant-auth-python/{__version__}"
    clock: Clock = field(default_factory=SystemClock)
    jitter: Callable[[], float] = random.random
    """From 0 up to 1; for tests."""

    def __post_init__(self) -> None:
        if self.timeout <= 0:
            raise ValueError("timeout must be more than 0 seconds")
