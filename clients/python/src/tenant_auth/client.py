"""The client for threads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self, cast

from . import _wire
from ._checks import texts
from ._loop_thread import LoopThread
from ._usage_buffer import OnRejected, RecorderOptions
from .async_client import AsyncClient
from .options import Options
from .raw import Raw
from .recorder import UsageRecorder
from .results import Outcome, Principal, Question, ServerInfo, SessionValidation, Validation, WatchState
from .sessions import Binding, Session, SessionExpiry
from .usage import UsageBucket, UsageEvent, UsageReceipt, UsageSum


class Client:
    """A tenant-auth client for any thread. Create one per process and close it at the end.

    It runs an `AsyncClient` on an event loop in a background thread, which starts on first use. Therefore do not use it
    before a fork and then after it in the child.
    """

    def __init__(self, endpoints: str | Sequence[str], options: Options | None = None) -> None:
        self._inner = AsyncClient(endpoints, options)
        self._core = self._inner._core
        self._loop = LoopThread()
        self._raw = Raw(self._inner._raw_call, self._inner._engine.stream, self._loop.run, self._loop.each)

    def require_key(self, key: str, scopes: str | Iterable[str] = (), *, timeout: float | None = None) -> Principal:
        """Returns the owner of a valid key that holds all scopes. Raises `DeniedError` with the reason otherwise."""
        return self.validate_key(key, scopes, timeout=timeout).principal

    def require_session(
        self,
        session_id: str,
        key: str | None = None,
        scopes: str | Iterable[str] = (),
        *,
        timeout: float | None = None,
    ) -> Principal:
        """Returns the owner of a valid session, presented with a valid key if any. Raises `DeniedError` otherwise."""
        return self.validate_session(session_id, key, scopes, timeout=timeout).principal

    def validate_key(self, key: str, scopes: str | Iterable[str] = (), *, timeout: float | None = None) -> Validation:
        """Validates a key, given without the `Bearer ` prefix. It must hold all scopes; without scopes, it must be
        active.
        """
        required = texts("scopes", scopes)
        # A cached answer does not need the other thread.
        known = self._inner._engine.cached(_wire.key_cache_key(key), required)
        return known if known is not None else self._loop.run(self._inner.validate_key(key, required, timeout=timeout))

    def validate_session(
        self,
        session_id: str,
        key: str | None = None,
        scopes: str | Iterable[str] = (),
        *,
        timeout: float | None = None,
    ) -> SessionValidation:
        """Validates a session. A key presented with it must belong to the tenant of the session."""
        required = texts("scopes", scopes)
        known = self._inner._engine.cached(_wire.session_cache_key(session_id, key), required)
        if known is not None:
            return cast(SessionValidation, known)
        return self._loop.run(self._inner.validate_session(session_id, key, required, timeout=timeout))

    def validate_keys(
        self, keys: Sequence[str | Question], scopes: str | Iterable[str] = (), *, timeout: float | None = None
    ) -> list[Outcome]:
        """Validates 1 to 1,000 keys in one call, in order. A key that cannot be decided has an error as its outcome.

        `scopes` apply to the keys given as text. Does not use the near cache.
        """
        return self._loop.run(self._inner.validate_keys(keys, scopes, timeout=timeout))

    def bind_session(
        self,
        session_id: str,
        key: str,
        ttl: float,
        *,
        expiry: SessionExpiry = SessionExpiry.FIXED,
        attributes: Mapping[str, str] | None = None,
        timeout: float | None = None,
    ) -> Binding:
        """Binds a session to the tenant of a key for `ttl` seconds. Idempotent."""
        bind = self._inner.bind_session
        return self._loop.run(bind(session_id, key, ttl, expiry=expiry, attributes=attributes, timeout=timeout))

    def unbind_session(self, session_id: str, tenant_id: str, *, timeout: float | None = None) -> bool:
        """Ends a session. Returns whether it was bound before this call. Idempotent."""
        return self._loop.run(self._inner.unbind_session(session_id, tenant_id, timeout=timeout))

    def list_sessions(self, tenant_id: str, *, page_size: int = 0, timeout: float | None = None) -> Iterator[Session]:
        """Iterates over a tenant's sessions, newest first, page by page. `timeout` applies to each page."""
        return self._loop.each(self._inner.list_sessions(tenant_id, page_size=page_size, timeout=timeout))

    def record_usage(
        self, events: Sequence[UsageEvent], request_id: str, *, timeout: float | None = None
    ) -> UsageReceipt:
        """Records 1 to 500 events. After a failure, repeat the call with the same id and events: they count once."""
        return self._loop.run(self._inner.record_usage(events, request_id, timeout=timeout))

    def query_usage(
        self,
        tenant_id: str,
        start: datetime,
        end: datetime,
        *,
        metric: str = "",
        bucket: UsageBucket = UsageBucket.DAY,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> Iterator[UsageSum]:
        """Iterates over a tenant's usage from `start` to before `end`, by time and metric. An empty `metric`: all."""
        query = self._inner.query_usage
        return self._loop.each(
            query(tenant_id, start, end, metric=metric, bucket=bucket, page_size=page_size, timeout=timeout)
        )

    def usage_recorder(
        self, options: RecorderOptions | None = None, on_rejected: OnRejected | None = None
    ) -> UsageRecorder:
        """Starts a recorder that sends usage events in the background. Close it before the client."""

        def send(events: Sequence[UsageEvent], request_id: str, timeout: float) -> UsageReceipt:
            return self.record_usage(events, request_id, timeout=timeout)

        return UsageRecorder(send, self._core, options, on_rejected, self._inner._new_client)

    def server_info(self, *, timeout: float | None = None) -> ServerInfo:
        """Describes the replica that responds."""
        return self._loop.run(self._inner.server_info(timeout=timeout))

    @property
    def watch_state(self) -> WatchState:
        """State of the watch stream."""
        return self._inner.watch_state

    @property
    def raw(self) -> Raw:
        """The generated stubs; see `tenant_auth.raw`."""
        return self._raw

    def close(self) -> None:
        """Rejects new calls and waits until calls in flight have completed or timed out. Idempotent."""
        self._loop.close(self._inner.close)

    def __enter__(self) -> Self:
        self._loop.run(self._inner.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
