# Generated from async_client.py by tools/generate_sync.py. Do not edit.
"""The client: `AsyncClient` for asyncio, and `Client` for threads, which is generated from it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from types import TracebackType
from typing import Any, Self

from . import _methods, _wire
from ._checks import texts
from ._core import Core, Metadata
from ._credential import Credential
from ._engine import Engine
from ._limit_calls import LimitCalls
from ._usage_buffer import OnRejected, RecorderOptions
from .networks import ClientAddress
from .options import Options
from .proto import info_pb2, session_pb2, usage_pb2
from .raw import Raw
from .recorder import UsageRecorder
from .results import KeyQuery, Outcome, Principal, ServerInfo, SessionValidation, Validation, WatchState
from .sessions import Binding, Session, SessionExpiry
from .usage import UsageBucket, UsageEvent, UsageReceipt, UsageSum
from .verifier import PrincipalVerifier


class Client(LimitCalls):
    """A tenant-auth client. Create one per process and close it at the end.

    `endpoints` is `host:port`, `dns:///host:port`, a URL with `http://` or `https://`, or several of them, as a list or
    separated by commas. The client connects when it is entered or first used. Every method has a `timeout` in seconds
    for this call, and raises a `TenantAuthError` if there is no result. A denial is a result.

    An `AsyncClient` belongs to the event loop on which it was first used. A `Client` may be used from any thread. It
    runs an event loop in a background thread, so do not use it before a fork and then after it in the child.
    """

    def __init__(self, endpoints: str | Sequence[str], options: Options | None = None) -> None:
        self._core = Core(endpoints, options)
        self._engine = Engine(self._core)
        self._raw = Raw(self._raw_call, self._engine.stream)

    def require_key(
        self,
        key: str,
        scopes: str | Iterable[str] = (),
        *,
        client_address: ClientAddress = None,
        timeout: float | None = None,
    ) -> Principal:
        """Returns the owner of a valid key that holds all scopes. Raises `DeniedError` with the reason otherwise."""
        call, required = _methods.validate_key(key, client_address), texts("scopes", scopes)
        validation = self._engine.decide(call, required, timeout)
        return validation.principal._present(Credential(key, None, required, call.address))

    def require_session(
        self,
        session_id: str,
        key: str | None = None,
        scopes: str | Iterable[str] = (),
        *,
        client_address: ClientAddress = None,
        timeout: float | None = None,
    ) -> Principal:
        """Returns the owner of a valid session, presented with a valid key if any. Raises `DeniedError` otherwise."""
        call, required = _methods.validate_session(session_id, key, client_address), texts("scopes", scopes)
        validation = self._engine.decide(call, required, timeout)
        return validation.principal._present(Credential(key, session_id, required, call.address))

    def validate_key(
        self,
        key: str,
        scopes: str | Iterable[str] = (),
        *,
        client_address: ClientAddress = None,
        timeout: float | None = None,
    ) -> Validation:
        """Validates a key, given without the `Bearer ` prefix. It must hold all scopes; without scopes, it must be
        active.

        `client_address`: the customer's address, as the connection or a trusted proxy reports it. A key that is limited
        to networks is valid only with an address in one of them.
        """
        call = _methods.validate_key(key, client_address)
        return self._engine.decide(call, texts("scopes", scopes), timeout)

    def validate_session(
        self,
        session_id: str,
        key: str | None = None,
        scopes: str | Iterable[str] = (),
        *,
        client_address: ClientAddress = None,
        timeout: float | None = None,
    ) -> SessionValidation:
        """Validates a session. A key presented with it must belong to the tenant of the session. `client_address` must
        be allowed by the networks of the session's key and of the presented key.
        """
        call = _methods.validate_session(session_id, key, client_address)
        return self._engine.decide(call, texts("scopes", scopes), timeout)

    def validate_keys(
        self,
        keys: Sequence[str | KeyQuery],
        scopes: str | Iterable[str] = (),
        *,
        client_address: ClientAddress = None,
        timeout: float | None = None,
    ) -> list[Outcome]:
        """Validates 1 to 1,000 keys in one call, in order. A key that cannot be decided has an error as its outcome.

        `scopes` and `client_address` apply to the keys given as text. Does not use the near cache.
        """
        batch = _wire.Batch(keys, texts("scopes", scopes), client_address)
        if not batch.request.requests and keys:
            return batch.outcomes(None, "")
        secrets = batch.secrets
        reply, request_id = self._engine.call(_methods.BATCH_VALIDATE_KEYS, batch.request, timeout, (), secrets)
        return batch.outcomes(reply, request_id)

    def bind_session(
        self,
        session_id: str,
        key: str,
        ttl: float,
        *,
        expiry: SessionExpiry = SessionExpiry.FIXED,
        attributes: Mapping[str, str] | None = None,
        client_address: ClientAddress = None,
        timeout: float | None = None,
    ) -> Binding:
        """Binds a session to the tenant of a key for `ttl` seconds. Idempotent."""
        request = session_pb2.BindSessionRequest(
            session_id=_wire.check_text(session_id, "session_id"),
            key=_wire.check_text(key, "key"),
            ttl=_wire.duration("ttl", ttl),
            expiry=session_pb2.SessionExpiry.ValueType(expiry),
            attributes=attributes,
            client_address=_wire.address_text(_wire.client_address(client_address)),
        )
        reply, _ = self._engine.call(_methods.BIND_SESSION, request, timeout, secrets=(key,))
        return _wire.binding(reply)

    def unbind_session(self, session_id: str, tenant_id: str, *, timeout: float | None = None) -> bool:
        """Ends a session. Returns whether it was bound before this call. Idempotent."""
        request = session_pb2.UnbindSessionRequest(
            session_id=_wire.check_text(session_id, "session_id"), tenant_id=_wire.check_text(tenant_id, "tenant_id")
        )
        reply, _ = self._engine.call(_methods.UNBIND_SESSION, request, timeout)
        return bool(reply.was_bound)

    def list_sessions(self, tenant_id: str, *, page_size: int = 0, timeout: float | None = None) -> Iterator[Session]:
        """Iterates over a tenant's sessions, newest first, page by page. `timeout` applies to each page."""
        tenant_id = _wire.check_text(tenant_id, "tenant_id")
        request = session_pb2.ListSessionsRequest(tenant_id=tenant_id, page_size=page_size)
        while True:
            page, _ = self._engine.call(_methods.LIST_SESSIONS, request, timeout)
            for message in page.sessions:
                yield _wire.session(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def record_usage(
        self, events: Sequence[UsageEvent], request_id: str, *, timeout: float | None = None
    ) -> UsageReceipt:
        """Records 1 to 500 events. After a failure, repeat the call with the same id and events: they count once."""
        request = _wire.usage_request(events, request_id)
        reply, rpc_id = self._engine.call(_methods.RECORD_USAGE, request, timeout)
        return _wire.receipt(reply, events, rpc_id)

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
        request = usage_pb2.QueryUsageRequest(
            tenant_id=_wire.check_text(tenant_id, "tenant_id"),
            metric=_wire.check_text(metric, "metric"),
            start_time=_wire.timestamp(start, "start"),
            end_time=_wire.timestamp(end, "end"),
            bucket=usage_pb2.UsageBucket.ValueType(bucket),
            page_size=page_size,
        )
        while True:
            page, _ = self._engine.call(_methods.QUERY_USAGE, request, timeout)
            for message in page.sums:
                yield _wire.usage_sum(message)
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    def usage_recorder(
        self, options: RecorderOptions | None = None, on_rejected: OnRejected | None = None
    ) -> UsageRecorder:
        """Starts a recorder that sends usage events in the background. Close it before the client."""
        return UsageRecorder(self.record_usage, self._core, options, on_rejected)

    def principal_verifier(self, audience: str) -> PrincipalVerifier:
        """Returns a verifier of the principal tokens that a proxy passes on, signed for this audience.

        It is closed with the client. Raises `ImportError` without the extra `principal`.
        """
        return PrincipalVerifier(self._engine, self._core, audience)

    def server_info(self, *, timeout: float | None = None) -> ServerInfo:
        """Describes the replica that responds."""
        reply, _ = self._engine.call(_methods.GET_SERVER_INFO, info_pb2.GetServerInfoRequest(), timeout)
        return _wire.server_info(reply)

    @property
    def watch_state(self) -> WatchState:
        """State of the watch stream."""
        return (
            WatchState(live=False, revision=0) if self._core.near_cache is None else self._core.near_cache.watch_state()
        )

    @property
    def raw(self) -> Raw:
        """The generated stubs; see `tenant_auth.raw`."""
        return self._raw

    def close(self) -> None:
        """Rejects new calls and waits until calls in flight have completed or timed out. Idempotent."""
        self._engine.close()

    def __enter__(self) -> Self:
        self._engine.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _raw_call(self, method: Any, request: Any, timeout: float | None, metadata: Metadata) -> Any:
        reply, _ = self._engine.call(method, request, timeout, tuple(metadata or ()), _wire.secrets_in(request))
        return reply
