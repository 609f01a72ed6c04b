"""Options of a client. Durations are seconds, at most a day. Invalid values are rejected immediately."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from . import _checks
from ._version import __version__
from .clock import Clock, SystemClock

Pem = str | Path | bytes
"""The path of a PEM file, which is read again for new connections after a change, or the content as bytes."""


@dataclass(frozen=True, slots=True)
class Tls:
    """TLS to the service. Without `ca`, the system roots are trusted."""

    ca: Pem | None = None
    """The only trusted roots."""
    cert: Pem | None = None
    """This client's certificate chain, for `key`."""
    key: Pem | None = field(default=None, repr=False)
    server_name: str | None = None
    """The name in the service's certificate, if it is not the host of the endpoint."""

    def __post_init__(self) -> None:
        for name in ("ca", "cert", "key"):
            source = getattr(self, name)
            _checks.instance(f"tls.{name}", source, str, Path, bytes, type(None))
            if isinstance(source, str) and ("-----BEGIN" in source or "\0" in source or not source):
                raise ValueError(f"tls.{name} is not a path: give the path of a file, or its content as bytes")
        if (self.cert is None) != (self.key is None):
            raise ValueError("tls.cert and tls.key belong together: give both or none")
        if self.server_name is not None:
            _checks.header_text("tls.server_name", self.server_name)
            if any(character in self.server_name for character in " :/"):
                raise ValueError(f"tls.server_name is {self.server_name!r}: give a host name without a port")


@dataclass(frozen=True, slots=True)
class TokenFile:
    """A caller token in a file, which may be replaced at any time and is read again after a change."""

    path: str | Path

    def __post_init__(self) -> None:
        _checks.instance("token.path", self.path, str, Path)


Token = str | TokenFile | Callable[[], str]
"""The caller token, its file, or a function that is called before each attempt and must not block."""


@dataclass(frozen=True, slots=True)
class NearCache:
    """Options of the near cache, which keeps each answer for as long as the service allows."""

    max_entries: int = 10_000
    watch: bool = True
    """Whether to follow the watch stream, so that answers are cached for longer."""
    watched_for: float | None = None
    """Maximum time that an answer is cached while the watch stream is live; `None`: as long as the service allows."""

    def __post_init__(self) -> None:
        _checks.count("near_cache.max_entries", self.max_entries, 1, _checks.MAX_ENTRIES)
        _checks.flag("near_cache.watch", self.watch)
        _checks.optional_duration("near_cache.watched_for", self.watched_for)


@dataclass(frozen=True, slots=True)
class Retry:
    """Options of retries. Transient failures are retried within the deadline of the call."""

    max_attempts: int = 4
    initial_backoff: float = 0.05
    """Limit of the first random delay. The limit doubles with each further attempt."""
    max_backoff: float = 1.0
    """Limit of every random delay."""
    budget: float = 0.1
    """Maximum number of retries and hedges per call, on average, so that an outage does not multiply the load."""
    burst: int = 10
    """Number of retries and hedges that are allowed before the budget applies."""

    def __post_init__(self) -> None:
        _checks.count("retry.max_attempts", self.max_attempts, 1, 100)
        _checks.duration("retry.initial_backoff", self.initial_backoff)
        _checks.duration("retry.max_backoff", self.max_backoff)
        _checks.fraction("retry.budget", self.budget)
        _checks.count("retry.burst", self.burst, 0, _checks.MAX_ENTRIES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """All options of a client."""

    timeout: float = 1.0
    """Default timeout of a call, including retries."""
    tls: Tls | None = None
    """`None`: plaintext, unless the endpoint starts with `https://`."""
    token: Token | None = field(default=None, repr=False)
    """Sent as `authorization: Bearer …`. It identifies this caller and is unrelated to customer keys."""
    near_cache: NearCache | None = field(default_factory=NearCache)
    """`None`: no cache."""
    retry: Retry | None = field(default_factory=Retry)
    """`None`: no retries and no hedging."""
    hedge_after: float | None = None
    """When a read without a response is sent to another replica too; `None`: after a quarter of its timeout."""
    use_environment_proxy: bool = False
    """Whether to use `https_proxy` (with TLS), `http_proxy` and `no_proxy`; never for loopback and cluster-local names.
    """
    user_agent: str = f"tenant-auth-python/{__version__}"
    clock: Clock = field(default_factory=SystemClock)
    """The clock of retries, the near cache and the recorder. Connections use the system clock."""
    jitter: Callable[[], float] = random.random
    """Returns a random number from 0 up to 1; replaceable for tests."""

    def __post_init__(self) -> None:
        _checks.duration("timeout", self.timeout)
        _checks.instance("tls", self.tls, Tls, type(None))
        _checks.instance("near_cache", self.near_cache, NearCache, type(None))
        _checks.instance("retry", self.retry, Retry, type(None))
        _checks.optional_duration("hedge_after", self.hedge_after)
        _checks.flag("use_environment_proxy", self.use_environment_proxy)
        _checks.header_text("user_agent", self.user_agent)
        _checks.sync_function("jitter", self.jitter)
        if self.token is not None and not isinstance(self.token, str | TokenFile) and not callable(self.token):
            raise TypeError(f"token is {type(self.token).__name__}: give text, a TokenFile or a function")
        if callable(self.token):
            _checks.sync_function("token", self.token)
        for name in ("monotonic", "time", "sleep", "wait"):
            _checks.function(f"clock.{name}", getattr(self.clock, name, None))
