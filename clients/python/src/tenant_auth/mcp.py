"""Integration with the official MCP SDK: keys as bearer tokens, and sessions bound to their tenant."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from http import HTTPStatus

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from pydantic import Field
from starlette.applications import Starlette

from . import _checks, _http
from ._client_address import DEFAULT_HEADER, AddressSource
from ._http import KeySource, Rejection, rejection_of
from ._request_address import REQUEST_ADDRESS, RequestAddressMiddleware
from .asgi import App, ErrorResponseMiddleware, Message, Receive, Scope, Send, send_rejection
from .async_client import AsyncClient
from .errors import TenantAuthError
from .results import DeniedError, Principal, SessionValidation, Validation
from .sessions import SessionExpiry

log = logging.getLogger("tenant_auth")

SESSION_HEADER = b"mcp-session-id"
MAX_SESSION_ID_LENGTH = 128
MIN_TTL = 60.0
"""The contract's minimum for sessions with a sliding expiry, in seconds."""
KEY = KeySource("Authorization")
# Statuses of verdicts with which a session continues, besides VALID. All others end the session, for example if the key
# that opened it was revoked. MCP clients start a new session after a 404.
CONTINUING_STATUSES = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS})


WRONG_RESOURCE = Rejection(HTTPStatus.UNAUTHORIZED, "INVALID_TOKEN", "The key is not intended for this server.")


class TenantAccessToken(AccessToken):
    """The SDK's access token, with the principal. Its `client_id` and `subject` are the id of the tenant, not of the
    key:

    the SDK ends a session when its `client_id` changes, and a session must survive the rotation of a key.
    """

    token: str = Field(repr=False)
    principal: Principal


class TenantTokenVerifier:
    """The SDK's `TokenVerifier`. Requires `protect` around the app, which turns errors into 503 instead of 401,
    and knows the customer's address.
    """

    def __init__(self, client: AsyncClient, *, scopes: str | Iterable[str] = (), resource: str | None = None) -> None:
        _checks.instance("client", client, AsyncClient)
        self._client = client
        self._scopes = _checks.texts("scopes", scopes)
        self._resource = resource

    async def verify_token(self, token: str) -> AccessToken | None:
        validation = await self._client.validate_key(token, self._scopes, client_address=REQUEST_ADDRESS.get())
        if validation.is_valid:
            expires_at = validation.expires_at
            return TenantAccessToken(
                token=token,
                client_id=validation.tenant_id,
                subject=validation.tenant_id,
                scopes=list(validation.scopes),
                expires_at=None if expires_at is None else int(expires_at.timestamp()),
                resource=self._resource,
                principal=validation.principal,
            )
        if _http.denial(validation).status is HTTPStatus.UNAUTHORIZED:
            return None
        raise DeniedError(validation)


def current_principal() -> Principal:
    """Returns the principal of the running tool call."""
    token = get_access_token()
    if not isinstance(token, TenantAccessToken):
        raise LookupError("the current request was not authenticated by a TenantTokenVerifier")
    return token.principal


class RejectAmbiguousCredentialsMiddleware:
    """Responds with 400 to repeated headers that carry a key or a session id, before other code reads one of them."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            found = KEY.key(scope["headers"])
            if isinstance(found, Rejection):
                await send_rejection(found, scope, send)
                return
        await self._app(scope, receive, send)


class UnauthorizedResponseMiddleware:
    """Gives the SDK's 401 responses the body of all rejections. The SDK's challenge is kept: it names the authorization
    server.
    """

    def __init__(self, app: App, *, client: AsyncClient) -> None:
        self._app = app
        self._client = client

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        challenge: str | None = None

        async def send_unless_unauthorized(message: Message) -> None:
            nonlocal challenge
            if message["type"] == "http.response.start" and message["status"] == HTTPStatus.UNAUTHORIZED:
                challenge = challenge_of(message)
            if challenge is None:
                await send(message)

        await self._app(scope, receive, send_unless_unauthorized)
        if challenge is None:
            return
        key = KEY.key(scope["headers"])
        rejection = await self._rejection_of_key(key) if isinstance(key, str) else _http.NO_CREDENTIALS
        if rejection.status is HTTPStatus.UNAUTHORIZED:
            rejection = replace(rejection, extra_headers={_http.CHALLENGE: challenge})
        await send_rejection(rejection, scope, send)

    async def _rejection_of_key(self, key: str) -> Rejection:
        validation = await self._client.validate_key(key, client_address=REQUEST_ADDRESS.get())
        # A valid key that the SDK rejected is for another resource.
        return WRONG_RESOURCE if validation.is_valid else _http.denial(validation)


class SessionBindingMiddleware:
    """Binds each MCP session to the tenant whose key opened it, and checks the binding for each request.

    The presented key is validated first, then the session: every valid key of the session's tenant may continue it.
    Protocol versions without sessions pass through, because their requests carry only the key. Requires
    `RejectAmbiguousCredentialsMiddleware` around it, and `RequestAddressMiddleware` for keys that are limited to
    networks.
    """

    def __init__(self, app: App, *, client: AsyncClient, ttl: float = 3600.0) -> None:
        _checks.instance("client", client, AsyncClient)
        self._app = app
        self._client = client
        self._ttl = _checks.duration("ttl", ttl)
        if ttl < MIN_TTL:
            # With a shorter ttl, every binding would be rejected.
            raise ValueError(f"ttl is {ttl!r}: give at least {MIN_TTL:.0f} seconds")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = KEY.key(scope["headers"]) if scope["type"] == "http" else None
        if not isinstance(key, str):
            # Not an HTTP request, or without a key: the SDK responds.
            await self._app(scope, receive, send)
            return
        session_id = session_id_in(scope)
        if session_id is None:
            original_scope = dict(scope)
            opening = SessionOpeningResponse(self._client, key, self._ttl, scope, send)
            await self._app(scope, receive, opening)
            if opening.unbound_session_id is not None:
                await self._end_session(original_scope, opening.unbound_session_id)
            return
        await self._client.require_key(key, client_address=REQUEST_ADDRESS.get())
        session = await self._session(session_id, key)
        if isinstance(session, Rejection):
            await send_rejection(session, scope, send)
            return
        await self._app(scope, receive, send)
        if scope["method"] == "DELETE":
            await self._unbind(session_id, session)

    async def _session(self, session_id: str, key: str) -> SessionValidation | Rejection:
        """Returns the session if it continues and belongs to the key's tenant, otherwise a 404 rejection."""
        if not is_session_id(session_id):
            return _http.no_session()
        session = await self._client.validate_session(session_id, key, client_address=REQUEST_ADDRESS.get())
        if session.is_valid:
            return session
        if _http.denial(session).status in CONTINUING_STATUSES:
            raise DeniedError(session)
        return _http.no_session(session.verdict)

    async def _end_session(self, scope: Scope, session_id: str) -> None:
        """Ends a session whose id was not sent to the client. Otherwise the SDK would reach its session limit in a
        long outage.
        """
        headers = [*scope["headers"], (SESSION_HEADER, session_id.encode("latin-1"))]
        try:
            await self._app({**scope, "method": "DELETE", "headers": headers}, receive_empty_body, discard_message)
        except (TenantAuthError, DeniedError):
            # The key is no longer valid. The session ends when it has been idle for long enough.
            log.warning("rejected session stays open until it is idle")

    async def _unbind(self, session_id: str, session: SessionValidation) -> None:
        try:
            await self._client.unbind_session(session_id, session.tenant_id)
        except TenantAuthError as error:
            # The SDK has already ended the session. The binding expires by itself.
            log.warning("session not unbound, it stays bound until it expires: %s", error)


class SessionOpeningResponse:
    """Sends the response to a request without a session. If the response opens a session, binds it before the client
    gets its id.
    """

    def __init__(self, client: AsyncClient, key: str, ttl: float, scope: Scope, send: Send) -> None:
        self._client = client
        self._key = key
        self._ttl = ttl
        self._scope = scope
        self._send = send
        # Read here, because the response may be sent from another context.
        self._client_address = REQUEST_ADDRESS.get()
        self.unbound_session_id: str | None = None
        """The session that was opened but could not be bound."""

    async def __call__(self, message: Message) -> None:
        if self.unbound_session_id is not None:
            return
        # If the SDK rejects a request, it ends the session that the response names. Bound, it would remain for its ttl.
        opens = message["type"] == "http.response.start" and message["status"] < HTTPStatus.BAD_REQUEST
        session_id = session_id_in(message) if opens else None
        rejection = None if session_id is None else await self._bind(session_id)
        if rejection is None:
            await self._send(message)
        else:
            self.unbound_session_id = session_id
            await send_rejection(rejection, self._scope, self._send)

    async def _bind(self, session_id: str) -> Rejection | None:
        try:
            binding = await self._client.bind_session(
                session_id,
                self._key,
                self._ttl,
                expiry=SessionExpiry.SLIDING,
                client_address=self._client_address,
            )
        except TenantAuthError as error:
            return rejection_of(error)
        return None if binding.is_valid else _http.denial(Validation(verdict=binding.verdict))


async def receive_empty_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def discard_message(_message: Message) -> None:
    pass


def is_session_id(text: str) -> bool:
    """Reports whether the contract allows the session id: visible ASCII characters."""
    return 0 < len(text) <= MAX_SESSION_ID_LENGTH and all("!" <= character <= "~" for character in text)


def challenge_of(message: Message) -> str:
    found = (value for name, value in message["headers"] if name.lower() == b"www-authenticate")
    return str(next(found, b"Bearer").decode("latin-1"))


def session_id_in(scope_or_message: Scope | Message) -> str | None:
    for name, value in scope_or_message.get("headers", ()):
        if name.lower() == SESSION_HEADER:
            return str(value.decode("latin-1"))
    return None


def protect(
    app: Starlette,
    client: AsyncClient,
    *,
    sessions: bool = True,
    ttl: float = 3600.0,
    trusted_proxies: str | Iterable[str] = (),
    client_address_header: str = DEFAULT_HEADER,
) -> Starlette:
    """Completes `MCPServer(…, token_verifier=TenantTokenVerifier(client)).streamable_http_app()`.

    `ttl`: lifetime of a session after its last use, from 60 seconds to a day. `trusted_proxies` and
    `client_address_header`: as for `TenantAuthMiddleware`.
    """
    source = AddressSource(trusted_proxies, client_address_header)
    if _checks.flag("sessions", sessions):
        app.add_middleware(SessionBindingMiddleware, client=client, ttl=ttl)
    app.add_middleware(UnauthorizedResponseMiddleware, client=client)
    # Middleware added last is outermost.
    app.add_middleware(ErrorResponseMiddleware)
    app.add_middleware(RejectAmbiguousCredentialsMiddleware)
    app.add_middleware(RequestAddressMiddleware, source=source)
    return app
