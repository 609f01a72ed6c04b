"""The gate in front of an MCP server."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from .. import _checks, _http
from .._asgi_types import App, Message, Receive, Scope, Send
from .._client_address import DEFAULT_HEADER, AddressSource
from .._costs import CostSource
from .._credential import Credential
from .._guarded_response import LastEvents, run_guarded
from .._http import KeySource, Reply, rejection_of
from .._limit_headers import with_limit_headers
from ..asgi import ResponseStart, exempt_paths, send_rejection
from ..async_client import AsyncClient
from ..async_recorder import AsyncUsageRecorder
from ..errors import TenantAuthError
from ..limits import Consumption, Costs
from ..networks import IPAddress
from ..results import DeniedError, KeyQuery, SessionValidation, Validation
from ._admission import Admission, Admitted
from ._body import BodyTap, DisconnectedError, replay
from ._context import CURRENT, CURRENT_LIMITS, sdk_user, with_sdk_user
from ._filtered import FilteredResponse, filterable
from ._last_events import no_events, rpc_errors
from ._lists import ListFilter, lists_requested
from ._policy import Policy
from ._refusals import NOT_FOUND, RefusedError
from ._request import McpRequest
from ._resource import DISCOVERY_PREFIX, protected_resource
from ._revision import HANDSHAKE_REVISIONS, LAST_EVENT_HEADER, SESSION_HEADER, VERSION_HEADER, single, without
from ._sessions import SessionOpeningResponse, Sessions, is_session_id, session_id_in


@dataclass(frozen=True, slots=True)
class Call:
    """A request whose key is valid."""

    key: str
    address: IPAddress | None
    decided: Consumption
    admitted: Admitted
    is_handshake: bool
    session_id: str | None = None
    session: SessionValidation | None = None

    @property
    def validation(self) -> Validation:
        return self.decided.validation


class McpGate:
    """ASGI middleware that admits requests to an MCP server, of all revisions of the protocol; see `protect`."""

    def __init__(
        self,
        app: App,
        *,
        client: AsyncClient,
        policy: Policy | None = None,
        recorder: AsyncUsageRecorder | None = None,
        key_headers: str | Iterable[str] = "Authorization",
        sessions: bool = True,
        ttl: float = 3600.0,
        filter_lists: bool = True,
        undecided_for: float = 10.0,
        max_body_size: int = 4 * 1024 * 1024,
        resource: str | None = None,
        authorization_servers: str | Iterable[str] = (),
        exempt: str | Iterable[str] = (),
        preflight: bool = True,
        trusted_proxies: str | Iterable[str] = (),
        client_address_header: str = DEFAULT_HEADER,
        costs: Costs | Callable[[McpRequest], Costs] | None = None,
    ) -> None:
        _checks.instance("client", client, AsyncClient)
        self._app = with_sdk_user(app)
        self._client = client
        self._source = KeySource(key_headers)
        self._addresses = AddressSource(trusted_proxies, client_address_header)
        self._costs = CostSource(costs)
        self._admission = Admission(policy, recorder, max_body_size)
        bindings = Sessions(client, ttl)
        self._sessions = bindings if _checks.flag("sessions", sessions) else None
        self._filter_by = policy if _checks.flag("filter_lists", filter_lists) else None
        self._undecided_for = _checks.duration("undecided_for", undecided_for)
        scopes = () if policy is None else policy.scopes
        self._resource = protected_resource(resource, authorization_servers, scopes)
        self._exempt = exempt_paths(exempt)
        self._preflight = _checks.flag("preflight", preflight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] in self._exempt:
            await self._app(scope, receive, send)
            return
        response = ResponseStart(send)
        try:
            await self._handle(scope, receive, response)
        except (RefusedError, TenantAuthError, DeniedError) as error:
            if response.has_started:
                raise
            reply = error.reply if isinstance(error, RefusedError) else rejection_of(error)
            await send_rejection(reply if self._resource is None else self._resource.challenge(reply), scope, send)
        except DisconnectedError:
            pass

    async def _handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            # MCP has no WebSocket transport.
            raise RefusedError(NOT_FOUND)
        if scope["path"].startswith(DISCOVERY_PREFIX):
            await send_rejection(self._metadata(scope), scope, send)
            return
        headers = scope["headers"]
        key = self._source.key(headers)
        if key is None and self._preflight and _http.is_preflight(scope["method"], headers):
            await self._app(scope, receive, send)
            return
        if not isinstance(key, str):
            raise RefusedError(_http.NO_CREDENTIALS if key is None else key)
        address = self._addresses.address(scope)
        # A request that the policy refuses costs nothing, and the costs may depend on the body.
        takes_last = self._costs.is_set and self._admission.reads_body(scope)
        decided = await self._decide(key, address, {} if takes_last else self._costs.of(McpRequest(scope)))
        validation = decided.validation
        version = single(headers, VERSION_HEADER)
        is_handshake = version is None or version in HANDSHAKE_REVISIONS
        if version is None or is_handshake:
            session_id = session_id_in(scope)
            session = await self._session(session_id, key, address)
            admitted = await self._admission.handshake(validation, scope, receive)
        else:
            admitted = await self._admission.stateless(version, validation, scope, receive)
            session_id = session = None
        costs = self._costs.of(McpRequest(scope, admitted.messages)) if takes_last else {}
        if costs:
            decided = await self._decide(key, address, costs)
        call = Call(key, address, decided, admitted, is_handshake, session_id, session)
        if not is_handshake:
            # Behind the gate, an old server may take this revision for one with sessions.
            scope = {**scope, "headers": without(headers, SESSION_HEADER, LAST_EVENT_HEADER)}
        self._admission.record(admitted, validation.tenant_id)
        await self._forward(call, scope, receive, send)

    async def _decide(self, key: str, address: IPAddress | None, costs: Costs) -> Consumption:
        """Validates the key, and takes the costs in the same call. Raises the denial."""
        if costs:
            decided = await self._client.consume(KeyQuery(key, (), address), costs)
        else:
            validation = await self._client.validate_key(key, client_address=address)
            decided = Consumption(verdict=validation.verdict, validation=validation)
        if not decided.allowed:
            raise decided._denial
        return decided

    def _metadata(self, scope: Scope) -> Reply:
        """Returns the metadata of the protected resource, if there is an authorization server."""
        if self._resource is None or scope["path"] != self._resource.path or scope["method"] not in ("GET", "HEAD"):
            return NOT_FOUND
        return self._resource.document

    async def _session(self, session_id: str | None, key: str, address: IPAddress | None) -> SessionValidation | None:
        if session_id is None:
            return None
        if not is_session_id(session_id):
            raise RefusedError(_http.no_session())
        return None if self._sessions is None else await self._sessions.validate(session_id, key, address)

    async def _forward(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        """Passes an admitted request on, and its response back."""
        bound_session = None if call.session is None else call.session_id
        credential = Credential(call.key, bound_session, (), call.address)
        principal = call.validation.principal._present(credential)
        limits = call.decided.limits
        scope.setdefault("state", {})["principal"] = principal
        if self._costs.is_set:
            scope["state"]["limits"] = limits
            send = with_limit_headers(limits, send)
        scope.update(sdk_user(principal))
        tap = BodyTap(receive if call.admitted.body is None else replay(call.admitted.body, receive), self._limit)

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            await self._serve(call, scope, receive, send)

        token, limits_token = CURRENT.set(principal), CURRENT_LIMITS.set(limits)
        try:
            await run_guarded(
                serve,
                self._client,
                principal,
                scope,
                tap,
                send,
                scopes=call.admitted.scopes,
                undecided_for=self._undecided_for,
                last_events=self._last_events(scope, tap),
            )
        finally:
            CURRENT.reset(token)
            CURRENT_LIMITS.reset(limits_token)
        if scope["method"] == "DELETE" and self._sessions is not None and call.session is not None:
            await self._sessions.unbind(str(call.session_id), call.session.tenant_id)

    async def _serve(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        original = dict(scope)
        opening = None
        if not call.is_handshake:
            send = without_session(send)
        elif self._sessions is not None and call.session_id is None:
            send = opening = SessionOpeningResponse(self._sessions, call.key, call.address, scope, send)
        lists = self._lists(call, scope)
        if lists is not None:
            scope, send = filterable(scope), FilteredResponse(lists, scope, send)
        await self._app(scope, receive, send)
        if opening is not None:
            await opening.end_unbound(self._app, original)

    def _lists(self, call: Call, scope: Scope) -> ListFilter | None:
        """Returns the filter for a response that may have lists."""
        if self._filter_by is None:
            return None
        # A stream that is opened by GET may repeat the responses to earlier requests.
        requests = None if scope["method"] == "GET" else lists_requested(call.admitted.messages)
        return None if requests == {} else ListFilter(self._filter_by, call.validation.scopes, requests)

    def _last_events(self, scope: Scope, tap: BodyTap) -> LastEvents:
        return rpc_errors(tap) if scope["method"] == "POST" else no_events

    @property
    def _limit(self) -> int:
        return self._admission.max_body_size


def without_session(send: Send) -> Send:
    """Removes the session id from a response: in a stateless revision there is no session."""

    async def send_without(message: Message) -> None:
        if message["type"] == "http.response.start":
            message = {**message, "headers": without(message.get("headers", ()), SESSION_HEADER)}
        await send(message)

    return send_without
