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
    """Asks tenant-auth, from any thread. Make one for the process and close it at the end.

    It is an `AsyncClient` on an event loop in a thread, which starts at the first use. So make it before a
    fork, or use it only after it.
    """

    def __init__(self, endpoints: str | Sequence[str], options: Options | None = None) -> None:
        self._inner = AsyncClient(endpoints, options)
        self._core = self._inner._core
        self._loop = LoopThread()
        self._raw = Raw(self._inner._raw_call, self._inner._engine.stream, self._loop.run, self._loop.each)

    def require_key(self, key: str, scopes: str | Iterable[str] = (), *, timeout: float | None = None) -> Principal:
        """Who a key belongs to. It must be good and hold all scopes; else: `DeniedError`, which says why."""
        return self.validate_key(key, scopes, timeout=timeout).principal

    def require_session(
        self,
        session_id: str,
        key: str | None = None,
        scopes: str | Iterable[str] = (),
        *,
        timeout: float | None = None,
    ) -> Principal:
        """Who a session belongs to. It must be good, and so must the key presented with it; else: `DeniedError`."""
        return self.validate_session(session_id, key, scopes, timeout=timeout).principal

    def validate_key(self, key: str, scopes: str | Iterable[str] = (), *, timeout: float | None = None) -> Validation:
        """Decides about a key, without a `Bearer ` in front. It must hold all scopes; none: any live key is good."""
        required = texts("scopes", scopes)
        # What is known needs no other thread.
        known = self._inner._engine.known(_wire.about_key(key), required)
        return known if known is not None else self._loop.run(self._inner.validate_key(key, required, timeout=timeout))

    def validate_session(
        self,
        session_id: str,
        key: str | None = None,
        scopes: str | Iterable[str] = (),
        *,
        timeout: float | None = None,
    ) -> SessionValidation:
        """Decides about a session. A key presented along with it must belong to the session's tenant."""
        required = texts("scopes", scopes)
        known = self._inner._engine.known(_wire.about_session(session_id, key), required)
        if known is not None:
            return cast(SessionValidation, known)
        return self._loop.run(self._inner.validate_session(session_id, key, required, timeout=timeout))

    def validate_keys(
        self, keys: Sequence[str | Question], scopes: str | Iterable[str] = (), *, timeout: float | None = None
    ) -> list[Outcome]:
        """Decides about 1 to 1,000 keys at once, in their order. An undecidable key is an error in its place.

        `scopes` are required of the keys given as text. Asks the service each time.
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
        """Binds a session to the tenant of a key for `ttl` seconds. Repeating it changes nothing."""
        bind = self._inner.bind_session
        return self._loop.run(bind(session_id, key, ttl, expiry=expiry, attributes=attributes, timeout=timeout))

    def unbind_session(self, session_id: str, tenant_id: str, *, timeout: float | None = None) -> bool:
        """Ends a session; tells whether it was bound until now. Repeating it changes nothing."""
        return self._loop.run(self._inner.unbind_session(session_id, tenant_id, timeout=timeout))

    def list_sessions(self, tenant_id: str, *, page_size: int = 0, timeout: float | None = None) -> Iterator[Session]:
        """A tenant's sessions, newest first. Pages are fetched as they are needed; `timeout` is for each."""
        return self._loop.each(self._inner.list_sessions(tenant_id, page_size=page_size, timeout=timeout))

    def record_usage(
        self, events: Sequence[UsageEvent], request_id: str, *, timeout: float | None = None
    ) -> UsageReceipt:
        """Records 1 to 500 events. Repeat a failure with the same id and the same events: they count once."""
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
        """A tenant's usage from `start` until before `end`, by time and metric; an empty `metric` means all."""
        query = self._inner.query_usage
        return self._loop.each(
            query(tenant_id, start, end, metric=metric, bucket=bucket, page_size=page_size, timeout=timeout)
        )

    def usage_recorder(
        self, options: RecorderOptions | None = None, on_rejected: OnRejected | None = None
    ) -> UsageRecorder:
        """Records usage in the background. Close it before the client."""

        def send(events: Sequence[UsageEvent], request_id: str, timeout: float) -> UsageReceipt:
            return self.record_usage(events, request_id, timeout=timeout)

        return UsageRecorder(send, self._core, options, on_rejected, self._inner._reopened)

    def server_info(self, *, timeout: float | None = None) -> ServerInfo:
        """Describes the process that answers."""
        return self._loop.run(self._inner.server_info(timeout=timeout))

    @property
    def watch_state(self) -> WatchState:
        """How the near-cache is kept informed."""
        return self._inner.watch_state

    @property
    def raw(self) -> Raw:
        """The generated stubs; see `tenant_auth.raw`."""
        return self._raw

    def close(self) -> None:
        """Takes no new calls, and returns when those under way are answered or late. Repeating it changes nothing."""
        self._loop.close(self._inner.close)

    def __enter__(self) -> Self:
        self._loop.run(self._inner.__aenter__())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
