"""How a client behaves. Durations are seconds, at most a day. Wrong values are refused when they are given."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import _checks
from ._version import __version__
from .clock import Clock, SystemClock

Pem = str | Path | bytes
"""The path of a file in PEM, which is read again for new connections when it has changed; or its content as bytes."""


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS to the service. Without `ca` the machine's own roots are trusted."""

    ca: Pem | None = None
    """The only roots that are trusted."""
    cert: Pem | None = None
    """This client's certificate chain, together with `key`."""
    key: Pem | None = field(default=None, repr=False)
    server_name: str | None = None
    """The name in the service's certificate, where it is not the host of the endpoint."""

    def __post_init__(self) -> None:
        for name in ("ca", "cert", "key"):
            source = getattr(self, name)
            _checks.instance(f"tls.{name}", source, str, Path, bytes, type(None))
            if isinstance(source, str) and ("-----BEGIN" in source or "\0" in source or not source):
                raise ValueError(f"tls.{name} is text: give the path of a file, or its content as bytes")
        if (self.cert is None) != (self.key is None):
            raise ValueError("tls.cert and tls.key belong together: give both or none")
        if self.server_name is not None:
            _checks.header_text("tls.server_name", self.server_name)
            if any(character in self.server_name for character in " :/"):
                raise ValueError(f"tls.server_name is {self.server_name!r}: give a host name without a port")


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A caller token in a file that may be replaced at any time: it is read again when it has changed."""

    path: str | Path

    def __post_init__(self) -> None:
        _checks.instance("token.path", self.path, str, Path)


Token = str | TokenFile | Callable[[], str]
"""The caller token itself, where to read it, or what to call before each attempt; the function must not block."""


@dataclass(frozen=True, slots=True)
class NearCache:
    """Answers that are kept in this process, for as long as each of them allows."""

    max_entries: int = 10_000
    watch: bool = True
    """Whether to follow the service's invalidations, so that answers may be used for longer."""
    watched_for: float | None = None
    """The longest that an answer is used while invalidations arrive; `None`: as long as the answer says."""

    def __post_init__(self) -> None:
        _checks.count("near_cache.max_entries", self.max_entries, 1, _checks.MAX_ENTRIES)
        _checks.flag("near_cache.watch", self.watch)
        _checks.optional_duration("near_cache.watched_for", self.watched_for)


@dataclass(frozen=True, slots=True)
class Retry:
    """Repeating what failed in passing, within the deadline of the call."""

    max_attempts: int = 4
    base: float = 0.05
    """The first pause is random up to this, each further one up to twice as long."""
    longest: float = 1.0
    budget: float = 0.1
    """Retries and hedges per call that all calls together may make: an outage must not multiply the load."""
    burst: int = 10
    """Those that may be made before the budget counts."""

    def __post_init__(self) -> None:
        _checks.count("retry.max_attempts", self.max_attempts, 1, 100)
        _checks.duration("retry.base", self.base)
        _checks.duration("retry.longest", self.longest)
        _checks.share("retry.budget", self.budget)
        _checks.count("retry.burst", self.burst, 0, _checks.MAX_ENTRIES)


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
    """`None`: fail at the first failure, and hedge nothing."""
    hedge_after: float | None = None
    """When a read without an answer is sent to another replica too; `None`: after a quarter of its timeout."""
    use_environment_proxy: bool = False
    """Whether `https_proxy` (with TLS), `http_proxy` and `no_proxy` count; never for loopback and cluster names."""
    user_agent: str = f"tenant-auth-python/{__version__}"
    clock: Clock = field(default_factory=SystemClock)
    """For retries, the near-cache and the recorder; connections keep the machine's time."""
    jitter: Callable[[], float] = random.random
    """From 0 up to 1; for tests."""

    def __post_init__(self) -> None:
        _checks.duration("timeout", self.timeout)
        _checks.instance("tls", self.tls, Tls, type(None))
        _checks.instance("near_cache", self.near_cache, NearCache, type(None))
        _checks.instance("retry", self.retry, Retry, type(None))
        _checks.optional_duration("hedge_after", self.hedge_after)
        _checks.flag("use_environment_proxy", self.use_environment_proxy)
        _checks.header_text("user_agent", self.user_agent)
        _checks.at_once("jitter", self.jitter)
        if self.token is not None and not isinstance(self.token, str | TokenFile) and not callable(self.token):
            raise TypeError(f"token is {type(self.token).__name__}: give text, a TokenFile or a function")
        if callable(self.token):
            _checks.at_once("token", self.token)
        for name in ("monotonic", "time", "sleep", "wait"):
            _checks.function(f"clock.{name}", getattr(self.clock, name, None))
