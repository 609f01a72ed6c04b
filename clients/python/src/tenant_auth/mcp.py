"""For servers made with the official MCP SDK: keys as bearer tokens, and sessions bound to their tenant."""

from __future__ import annotations

import logging
from collections.abc import Collection
from http import HTTPStatus

from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.auth.provider import AccessToken
from pydantic import Field
from starlette.applications import Starlette

from . import _http
from ._http import Refusal
from .asgi import AnswerErrors, App, DeniedError, Message, Receive, Scope, Send, refusal_of, refuse
from .async_client import AsyncClient
from .errors import TenantAuthError
from .results import Principal, SessionValidation
from .sessions import SessionExpiry
from .verdict import Verdict

log = logging.getLogger("tenant_auth")

SESSION_HEADER = b"mcp-session-id"
# MCP clients begin a new session at a 404. A session of another tenant is told from none by nobody.
GONE = frozenset({Verdict.UNBOUND, Verdict.SESSION_EXPIRED, Verdict.TENANT_MISMATCH})
NO_SESSION = Refusal(HTTPStatus.NOT_FOUND, "NO_SESSION", "There is no such session.")


class TenantAccessToken(AccessToken):
    """The SDK's token, knowing whose it is. Its `client_id` is the key's id, its `subject` the tenant's."""

    token: str = Field(repr=False)
    principal: Principal


class TenantTokenVerifier:
    """The SDK's `TokenVerifier`. Needs `protect` around the app: a failure is 503 there, never 401."""

    def __init__(self, client: AsyncClient, *, scopes: Collection[str] = (), resource: str | None = None) -> None:
        self._client = client
        self._scopes = tuple(scopes)
        self._resource = resource

    async def verify_token(self, token: str) -> AccessToken | None:
        validation = await self._client.validate_key(token, self._scopes)
        if validation.is_valid:
            expires_at = validation.expires_at
            return TenantAccessToken(
                token=token,
                client_id=validation.key_id,
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
    """Whoever calls the tool that is running."""
    token = get_access_token()
    if not isinstance(token, TenantAccessToken):
        raise LookupError("the running request was not authenticated by a TenantTokenVerifier")
    return token.principal


class BindSessions:
    """Binds each MCP session to the tenant whose key opened it, and checks that it still is.

    Protocol versions without sessions pass through: their requests carry nothing but the key.
    """

    def __init__(self, app: App, *, client: AsyncClient, ttl: float = 3600.0) -> None:
        self._app = app
        self._client = client
        self._ttl = ttl

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        key = _http.bearer(scope["headers"]) if scope["type"] == "http" else None
        if key is None:
            # Not for a session, or for the SDK to answer.
            await self._app(scope, receive, send)
            return
        session_id = session_of(scope)
        if session_id is None:
            untouched = dict(scope)
            opening = Opening(self._client, key, self._ttl, scope, send)
            await self._app(scope, receive, opening)
            if opening.refused is not None:
                await self._discard(untouched, opening.refused)
            return
        session = await self._client.validate_session(session_id, key)
        if session.verdict in GONE:
            await refuse(NO_SESSION, scope, send)
        elif not session.is_valid:
            raise DeniedError(session)
        else:
            await self._app(scope, receive, send)
            if scope["method"] == "DELETE":
                await self._unbind(session_id, session)

    async def _discard(self, scope: Scope, session_id: str) -> None:
        """Ends a session that nobody was told of: in a long failure the SDK would come to its limit of sessions."""
        headers = [*scope["headers"], (SESSION_HEADER, session_id.encode("latin-1"))]
        try:
            await self._app({**scope, "method": "DELETE", "headers": headers}, empty, ignore)
        except (TenantAuthError, DeniedError):
            # Its key is not good any more; the session ends when it has been idle for long.
            log.warning("a session that was refused stays open until it is idle")

    async def _unbind(self, session_id: str, session: SessionValidation) -> None:
        try:
            await self._client.unbind_session(session_id, session.tenant_id)
        except TenantAuthError as error:
            # The SDK has forgotten it already; what is left of it ends by itself.
            log.warning("a session stays bound until its end: %s", error)


class Opening:
    """Sends the response to a request without a session, which may open one: it is bound before anybody knows it."""

    def __init__(self, client: AsyncClient, key: str, ttl: float, scope: Scope, send: Send) -> None:
        self._client = client
        self._key = key
        self._ttl = ttl
        self._scope = scope
        self._send = send
        self.refused: str | None = None
        """The session that was opened and could not be bound."""

    async def __call__(self, message: Message) -> None:
        if self.refused is not None:
            return
        session_id = session_of(message) if message["type"] == "http.response.start" else None
        refusal = None if session_id is None else await self._bind(session_id)
        if refusal is None:
            await self._send(message)
        else:
            self.refused = session_id
            await refuse(refusal, self._scope, self._send)

    async def _bind(self, session_id: str) -> Refusal | None:
        try:
            binding = await self._client.bind_session(session_id, self._key, self._ttl, expiry=SessionExpiry.SLIDING)
        except TenantAuthError as error:
            return refusal_of(error)
        return None if binding.is_valid else _http.denial(SessionValidation(verdict=binding.verdict))


async def empty() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def ignore(_message: Message) -> None:
    pass


def session_of(scope_or_message: Scope | Message) -> str | None:
    for name, value in scope_or_message.get("headers", ()):
        if name.lower() == SESSION_HEADER:
            return str(value.decode("latin-1"))
    return None


def protect(app: Starlette, client: AsyncClient, *, sessions: bool = True, ttl: float = 3600.0) -> Starlette:
    """Completes `MCPServer(…, token_verifier=TenantTokenVerifier(client)).streamable_http_app()`.

    `ttl`: how many seconds a session lives after it was last used.
    """
    if sessions:
        app.add_middleware(BindSessions, client=client, ttl=ttl)
    # Added last, so it is around everything else.
    app.add_middleware(AnswerErrors)
    return app
