"""A tenant-auth service for tests. The test sets its responses; it counts requests and can hold responses back."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import Any

import grpc
from google.rpc import status_pb2

from replies import Failure, answer, session_answer
from tenant_auth.proto import (
    admin_pb2,
    info_pb2,
    info_pb2_grpc,
    limit_pb2,
    session_pb2,
    session_pb2_grpc,
    usage_pb2,
    usage_pb2_grpc,
    validation_pb2,
    validation_pb2_grpc,
    verdict_pb2,
    watch_pb2,
    watch_pb2_grpc,
)

ADMIN_SERVICE: Any = admin_pb2.DESCRIPTOR.services_by_name["AdminService"]
LIMIT_SERVICE: Any = limit_pb2.DESCRIPTOR.services_by_name["LimitService"]
EVENT_TIMEOUT = 20.0
"""Maximum time that a test waits for an expected event. Tests do not normally take this long."""


class Stream:
    """One subscriber of the watch stream."""

    def __init__(self, resumed_after: int) -> None:
        self.resumed_after = resumed_after
        self.events: SimpleQueue[watch_pb2.WatchResponse | Failure | None] = SimpleQueue()


class Fake(
    validation_pb2_grpc.ValidationServiceServicer,
    session_pb2_grpc.SessionServiceServicer,
    usage_pb2_grpc.UsageServiceServicer,
    info_pb2_grpc.InfoServiceServicer,
    watch_pb2_grpc.WatchServiceServicer,
):
    """The service. Set its attributes, then check `calls` and `requests`."""

    def __init__(self, credentials: grpc.ServerCredentials | None = None) -> None:
        self._changed = threading.Condition()
        self.calls: Counter[str] = Counter()
        self.requests: list[Any] = []
        self.metadata: list[dict[str, str]] = []
        self.keys: dict[str, Any] = {}
        self.sessions: dict[str, Any] = {}
        self.bound: dict[str, session_pb2.Session] = {}
        self.usage: dict[str, list[usage_pb2.UsageEvent]] = {}
        self.rejected_metrics: set[str] = set()
        self.unnamed_invalid_metrics: set[str] = set()
        """Metrics for which the whole request is rejected, without the index of the event."""
        self.failures: deque[Failure] = deque()
        self.permanent_failure: Failure | None = None
        self.limits: dict[str, Any] = {}
        """The responses of the methods about limits, or functions that return them."""
        self.pages: list[Any] = []
        self.drops_one_result = False
        self.responding = threading.Event()
        self.responding.set()
        self.watch_enabled = True
        self.watch_error = grpc.StatusCode.UNIMPLEMENTED
        self.streams: list[Stream] = []
        self.version = "1.2.3"
        self.jwks, self.issuer = '{"keys":[]}', ""
        # Each stream and each held-back response occupies a thread.
        self._server = grpc.server(ThreadPoolExecutor(64))
        validation_pb2_grpc.add_ValidationServiceServicer_to_server(self, self._server)
        session_pb2_grpc.add_SessionServiceServicer_to_server(self, self._server)
        usage_pb2_grpc.add_UsageServiceServicer_to_server(self, self._server)
        info_pb2_grpc.add_InfoServiceServicer_to_server(self, self._server)
        watch_pb2_grpc.add_WatchServiceServicer_to_server(self, self._server)
        check: Any = grpc.unary_unary_rpc_method_handler(self.check_health)
        health = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": check})
        admin = grpc.method_handlers_generic_handler(
            ADMIN_SERVICE.full_name, {name: self._admin_method(name) for name in ADMIN_SERVICE.methods_by_name}
        )
        methods = ("Consume", "BatchConsume", "Reserve", "Settle", "Cancel", "GetLimitState")
        limits = grpc.method_handlers_generic_handler(
            LIMIT_SERVICE.full_name, {name: self._limit_method(name) for name in methods}
        )
        self._server.add_generic_rpc_handlers((health, admin, limits))
        address = "127.0.0.1:0"
        self.port = (
            self._server.add_insecure_port(address)
            if credentials is None
            else self._server.add_secure_port(address, credentials)
        )
        self.endpoint = f"127.0.0.1:{self.port}"
        self._server.start()

    def stop(self) -> None:
        self.responding.set()
        for stream in tuple(self.streams):
            stream.events.put(None)
        self._server.stop(grace=None).wait()

    def until(self, condition: Callable[[], bool]) -> None:
        """Waits for an effect of calls."""
        with self._changed:
            assert self._changed.wait_for(condition, EVENT_TIMEOUT), "the expected event did not happen"

    def check_health(self, _request: bytes, _context: Any) -> bytes:
        """Responds even while other responses are held back."""
        with self._changed:
            self.calls["Check"] += 1
            self._changed.notify_all()
        return b""

    def _admin_method(self, name: str) -> Any:
        """Returns a handler that responds with an empty message."""

        def respond(request: bytes, context: Any) -> bytes:
            self._receive(name, request, context)
            return b""

        handler: Any = grpc.unary_unary_rpc_method_handler(respond)
        return handler

    def _limit_method(self, name: str) -> Any:
        """Returns a handler that responds as `limits` says."""

        def respond(request: Any, context: Any) -> Any:
            self._receive(name, request, context)
            made = self.limits[name]
            made = made(request) if callable(made) else made
            if isinstance(made, Failure):
                abort(context, made)
            return made

        handler: Any = grpc.unary_unary_rpc_method_handler(
            respond,
            getattr(limit_pb2, f"{name}Request").FromString,
            lambda message: message.SerializeToString(),
        )
        return handler

    # Invalidations

    def emit(self, **event: Any) -> None:
        for stream in tuple(self.streams):
            stream.events.put(watch_pb2.WatchResponse(**event))

    def heartbeat(self, revision: int) -> None:
        self.emit(revision=revision, heartbeat=watch_pb2.Heartbeat())

    def invalidate(self, scope: str, name: str, revision: int) -> None:
        number = watch_pb2.InvalidationScope.Value(f"INVALIDATION_SCOPE_{scope}")
        self.emit(revision=revision, invalidation=watch_pb2.Invalidation(scope=number, id=name, tenant_id="acme"))

    def start_over(self, revision: int) -> None:
        self.emit(revision=revision, start_over=watch_pb2.StartOver(reason="requested by the test"))

    def break_streams(self) -> None:
        for stream in tuple(self.streams):
            stream.events.put(Failure(grpc.StatusCode.UNAVAILABLE, "the stream breaks"))

    # RPCs

    def _receive(self, name: str, request: Any, context: Any) -> None:
        with self._changed:
            self.calls[name] += 1
            self.requests.append(request)
            self.metadata.append(dict(context.invocation_metadata()))
            failure = self.failures.popleft() if self.failures else self.permanent_failure
            self._changed.notify_all()
        context.send_initial_metadata((("x-request-id", f"fake-{name}"),))
        self.responding.wait(EVENT_TIMEOUT)
        if failure is not None:
            abort(context, failure)

    def ValidateKey(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._receive("ValidateKey", request, context)
        made = self.keys.get(request.key, answer(2))
        return made(request) if callable(made) else made

    def BatchValidateKeys(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._receive("BatchValidateKeys", request, context)
        results = []
        for one in request.requests:
            made = self.keys.get(one.key, answer(2))
            field = "error" if isinstance(made, status_pb2.Status) else "response"
            results.append(validation_pb2.BatchValidateKeysResult(**{field: made}))
        return validation_pb2.BatchValidateKeysResponse(results=results[self.drops_one_result :])

    def StreamValidateKeys(self, request: Any, context: Any) -> Any:  # noqa: N802
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "not by the fake")

    def ValidateSession(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._receive("ValidateSession", request, context)
        if request.session_id in self.bound:
            bound = self.bound[request.session_id]
            return session_answer(tenant_id=bound.tenant_id, key_id=bound.key_id, attributes=dict(bound.attributes))
        made = self.sessions.get(request.session_id, session_answer(10, cacheable_for=0, watched=0))
        return made(request) if callable(made) else made

    def BindSession(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._receive("BindSession", request, context)
        about = self.keys.get(request.key, answer(2))
        if about.verdict != 1:
            return session_pb2.BindSessionResponse(verdict=about.verdict)
        known = self.bound.get(request.session_id)
        if known is not None and known.tenant_id != about.tenant_id:
            return session_pb2.BindSessionResponse(verdict=verdict_pb2.VERDICT_TENANT_MISMATCH)
        if known is not None:
            return session_pb2.BindSessionResponse(verdict=about.verdict, session=known, already_bound=True)
        made = session_pb2.Session(
            session_id=request.session_id,
            tenant_id=about.tenant_id,
            key_id=about.key_id,
            expiry=request.expiry,
            attributes=request.attributes,
        )
        self.bound[request.session_id] = made
        return session_pb2.BindSessionResponse(verdict=about.verdict, session=made)

    def UnbindSession(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._receive("UnbindSession", request, context)
        return session_pb2.UnbindSessionResponse(was_bound=self.bound.pop(request.session_id, None) is not None)

    def ListSessions(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._receive("ListSessions", request, context)
        return self._page(request.page_token, session_pb2.ListSessionsResponse, "sessions")

    def RecordUsage(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._receive("RecordUsage", request, context)
        if any(event.metric in self.unnamed_invalid_metrics for event in request.events):
            abort(context, Failure(grpc.StatusCode.INVALID_ARGUMENT))
        known = request.request_id in self.usage
        rejected = [
            usage_pb2.RejectedUsageEvent(index=index, error=status_pb2.Status(code=5, message="no such tenant"))
            for index, event in enumerate(request.events)
            if event.metric in self.rejected_metrics
        ]
        counted = [event for event in request.events if event.metric not in self.rejected_metrics]
        with self._changed:
            self.usage.setdefault(request.request_id, counted)
            self._changed.notify_all()
        return usage_pb2.RecordUsageResponse(accepted=len(counted), rejected=rejected, already_recorded=known)

    def QueryUsage(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._receive("QueryUsage", request, context)
        return self._page(request.page_token, usage_pb2.QueryUsageResponse, "sums")

    def GetServerInfo(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._receive("GetServerInfo", request, context)
        kind = info_pb2.DATABASE_KIND_EMBEDDED
        return info_pb2.GetServerInfoResponse(version=self.version, database_kind=kind, revision=7)

    def GetPrincipalKeys(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._receive("GetPrincipalKeys", request, context)
        return info_pb2.GetPrincipalKeysResponse(jwks=self.jwks, issuer=self.issuer)

    def WaitForRevision(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._receive("WaitForRevision", request, context)
        return info_pb2.WaitForRevisionResponse(applied=True)

    def Watch(self, request: Any, context: Any) -> Iterator[Any]:  # noqa: N802
        if not self.watch_enabled:
            with self._changed:
                self.calls["Watch"] += 1
                self._changed.notify_all()
            context.abort(self.watch_error, "not implemented")
        stream = Stream(request.resume_after_revision)
        if not context.add_callback(lambda: stream.events.put(None)):
            # The stream has already ended. Without this check, the wait below would never end, and the process waits
            # for its threads.
            return
        # Counted when the test can send events to it.
        with self._changed:
            self.streams.append(stream)
            self.calls["Watch"] += 1
            self._changed.notify_all()
        try:
            while (event := stream.events.get()) is not None:
                if isinstance(event, Failure):
                    abort(context, event)
                yield event
        finally:
            with self._changed:
                self.streams.remove(stream)
                self._changed.notify_all()

    def _page(self, token: str, make: Any, field: str) -> Any:
        index = int(token or 0)
        next_token = str(index + 1) if index + 1 < len(self.pages) else ""
        return make(**{field: self.pages[index] if self.pages else []}, next_page_token=next_token)


def abort(context: Any, failure: Failure) -> None:
    context.set_trailing_metadata((("grpc-status-details-bin", failure.status.SerializeToString()),))
    context.abort(failure.code, failure.status.message)
