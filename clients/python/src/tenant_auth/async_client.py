"""The client for asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self, TypeVar, cast

import grpc
import grpc.aio

from . import _status, _wire
from ._async_flights import AsyncFlights
from ._async_watch import AsyncWatch
from ._core import Core, Metadata
from ._scopes import checkable, checked
from ._usage_buffer import OnRejected, RecorderOptions
from .async_recorder import AsyncUsageRecorder
from .options import Options
from .proto import info_pb2, session_pb2, usage_pb2, validation_pb2
from .raw import AsyncRaw
from .results import Outcome, Question, ServerInfo, SessionValidation, Validation, WatchState
from .sessions import Binding, Session, SessionExpiry
from .usage import UsageBucket, UsageEvent, UsageReceipt, UsageSum

Request = TypeVar("Request")
Response = TypeVar("Response")
V = TypeVar("V", bound=Validation)


class AsyncClient:
    """Asks tenant-auth, from one event loop. Make one for the process and close it at the end.

    `endpoints` is `host:port`, a URL with `http://` or `https://`, or several of them with IP addresses. Every method
    takes a `timeout` in seconds for this call alone, and raises a `TenantAuthError` when there is no answer; a denial
    is an answer.
    """

    def __init__(self, endpoints: str | Sequence[str], options: Options | None = None) -> None:
        self._core = Core(endpoints, options or Options())
        self._flights = AsyncFlights(self._core.clock, self._core.options.timeout)
        self._channel: grpc.aio.Channel | None = None
        self._raw: AsyncRaw | None = None
        self._watch: AsyncWatch | None = None
        self._closed = False

    async def validate_key(self, key: str, scopes: Iterable[str] = (), *, timeout: float | None = None) -> Validation:
        """Decides about a key, without a `Bearer ` in front. It must hold all scopes; none: any live key is good."""

        async def ask(required: Sequence[str], timeout: float | None) -> Validation:
            request = validation_pb2.ValidateKeyRequest(key=_wire.presentable(key, "key"), required_scopes=required)
            reply, _ = await self._call(self.raw.validation.ValidateKey, request, timeout, (key,))
            return _wire.validation(reply)

        return await self._decide(("key", key), None, ask, tuple(scopes), timeout)

    async def validate_session(
        self, session_id: str, key: str | None = None, scopes: Iterable[str] = (), *, timeout: float | None = None
    ) -> SessionValidation:
        """Decides about a session. A key presented along with it must belong to the session's tenant."""

        async def ask(required: Sequence[str], timeout: float | None) -> SessionValidation:
            request = validation_pb2.ValidateSessionRequest(
                session_id=_wire.presentable(session_id, "session_id"),
                key=_wire.presentable(key or "", "key"),
                required_scopes=required,
            )
            reply, _ = await self._call(self.raw.validation.ValidateSession, request, timeout, (key or "",))
            return _wire.session_validation(reply)

        return await self._decide(("session", session_id, key or ""), session_id, ask, tuple(scopes), timeout)

    async def validate_keys(
        self, keys: Sequence[str | Question], scopes: Iterable[str] = (), *, timeout: float | None = None
    ) -> list[Outcome]:
        """Decides about 1 to 1,000 keys at once, in their order. An undecidable key is an error in its place.

        `scopes` are required of the keys given as text. Asks the service each time.
        """
        required = tuple(scopes)
        questions = [key if isinstance(key, Question) else Question(key, required) for key in keys]
        secrets = [question.key for question in questions]
        request = _wire.batch_request(questions)
        reply, request_id = await self._call(self.raw.validation.BatchValidateKeys, request, timeout, secrets)
        return _wire.batch(reply, questions, request_id)

    async def bind_session(
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
        request = session_pb2.BindSessionRequest(
            session_id=session_id,
            key=_wire.presentable(key, "key"),
            ttl=_wire.duration(ttl),
            expiry=session_pb2.SessionExpiry.ValueType(expiry),
            attributes=attributes,
        )
        try:
            reply, _ = await self._call(self.raw.session.BindSession, request, timeout, (key,))
        finally:
            self._forget_session(session_id)
        return _wire.binding(reply)

    async def unbind_session(self, session_id: str, tenant_id: str, *, timeout: float | None = None) -> bool:
        """Ends a session; tells whether it was bound until now. Repeating it changes nothing."""
        request = session_pb2.UnbindSessionRequest(session_id=session_id, tenant_id=tenant_id)
        try:
            reply, _ = await self._call(self.raw.session.UnbindSession, request, timeout)
        finally:
            self._forget_session(session_id)
        return reply.was_bound

    async def list_sessions(
        self, tenant_id: str, *, page_size: int = 0, timeout: float | None = None
    ) -> AsyncIterator[Session]:
        """A tenant's sessions, newest first. Pages are fetched as they are needed; `timeout` is for each."""
        request = session_pb2.ListSessionsRequest(tenant_id=tenant_id, page_size=page_size)
        while True:
            page, _ = await self._call(self.raw.session.ListSessions, request, timeout)
            for message in page.sessions:
                yield _wire.session(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def record_usage(
        self, events: Sequence[UsageEvent], request_id: str, *, timeout: float | None = None
    ) -> UsageReceipt:
        """Records 1 to 500 events. Repeat a failure with the same id and the same events: they count once."""
        request = _wire.usage_request(events, request_id)
        reply, rpc_id = await self._call(self.raw.usage.RecordUsage, request, timeout)
        return _wire.receipt(reply, events, rpc_id)

    async def query_usage(
        self,
        tenant_id: str,
        start: datetime,
        end: datetime,
        *,
        metric: str = "",
        bucket: UsageBucket = UsageBucket.DAY,
        page_size: int = 0,
        timeout: float | None = None,
    ) -> AsyncIterator[UsageSum]:
        """A tenant's usage from `start` until before `end`, by time and metric; an empty `metric` means all."""
        request = usage_pb2.QueryUsageRequest(
            tenant_id=tenant_id,
            metric=metric,
            start_time=_wire.timestamp(start),
            end_time=_wire.timestamp(end),
            bucket=usage_pb2.UsageBucket.ValueType(bucket),
            page_size=page_size,
        )
        while True:
            page, _ = await self._call(self.raw.usage.QueryUsage, request, timeout)
            for message in page.sums:
                yield _wire.usage_sum(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def usage_recorder(
        self, options: RecorderOptions | None = None, on_rejected: OnRejected | None = None
    ) -> AsyncUsageRecorder:
        """Records usage in the background. Close it before the client."""

        async def send(events: Sequence[UsageEvent], request_id: str, timeout: float) -> UsageReceipt:
            return await self.record_usage(events, request_id, timeout=timeout)

        return AsyncUsageRecorder(send, self._core.options, options or RecorderOptions(), on_rejected)

    async def server_info(self, *, timeout: float | None = None) -> ServerInfo:
        """Describes the process that answers."""
        reply, _ = await self._call(self.raw.info.GetServerInfo, info_pb2.GetServerInfoRequest(), timeout)
        return _wire.server_info(reply)

    @property
    def watch_state(self) -> WatchState:
        """How the near-cache is kept informed."""
        return WatchState(live=False, revision=0) if self._core.near is None else self._core.near.watch_state()

    @property
    def raw(self) -> AsyncRaw:
        """The generated stubs; see `tenant_auth.raw`. Connects, and starts to follow invalidations."""
        if self._closed:
            raise _status.closed()
        if self._raw is None:
            target, options = self._core.target, self._core.options
            credentials, settings = target.credentials(), target.settings(options)
            self._channel = (
                grpc.aio.insecure_channel(target.address, settings)
                if credentials is None
                else grpc.aio.secure_channel(target.address, credentials, settings)
            )
            self._raw = AsyncRaw(self._channel)
            if self._core.near is not None and self._core.watches:
                self._watch = AsyncWatch(self._core, self._core.near, self._raw)
        return self._raw

    def metadata(self) -> Metadata:
        """The caller token as of now, for calls through `raw`."""
        return self._core.metadata()

    async def close(self) -> None:
        """Ends what is under way and the connections."""
        self._closed = True
        if self._watch is not None:
            await self._watch.close()
        await self._flights.close()
        if self._channel is not None:
            await self._channel.close(grace=None)

    async def __aenter__(self) -> Self:
        _ = self.raw
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def _decide(
        self,
        question: tuple[str, ...],
        session_id: str | None,
        ask: Callable[[Sequence[str], float | None], Awaitable[V]],
        scopes: Sequence[str],
        timeout: float | None,
    ) -> V:
        near = self._core.near
        _ = self.raw
        if near is None or not checkable(scopes):
            return await ask(scopes, timeout)
        if self._watch is not None:
            self._watch.check()
        digest = near.digest(*question)

        async def load(timeout: float) -> Validation:
            ticket = near.ticket()
            answer = await ask((), timeout)
            near.put(digest, ticket, answer, session_id)
            return answer

        answer = near.get(digest)
        if answer is None:
            limit = self._core.options.timeout if timeout is None else timeout
            answer = await self._flights.join((digest, near.epoch), load, limit)
        # A digest says what kind of question it stands for, so the answer is of its kind.
        return checked(cast(V, answer), scopes)

    async def _call(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[Request, Response],
        request: Request,
        timeout: float | None,
        secrets: Sequence[str] = (),
    ) -> tuple[Response, str]:
        """The reply, and the name of the request. Tries again where that may help."""
        attempts = self._core.attempts(timeout)
        while True:
            limit = attempts.next_timeout()
            try:
                metadata = self._core.metadata(attempts.request_id)
                return await method(request, timeout=limit, metadata=metadata), attempts.request_id
            except grpc.RpcError as status:
                error = _status.from_rpc(status, attempts.request_id, secrets)
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if self._closed and task is not None and not task.cancelling():
                    raise _status.closed() from None
                raise
            # Outside of the handler, so that the error does not carry the original, which nobody has cleaned.
            pause = attempts.pause_after(error)
            if pause is None:
                raise error
            await self._core.clock.sleep(pause)

    def _forget_session(self, session_id: str) -> None:
        if self._core.near is not None:
            self._core.near.forget_session(session_id)
