"""Sessions of the handshake revisions, each bound to the tenant whose key opened it."""

from __future__ import annotations

import logging
from http import HTTPStatus

from .. import _checks, _http
from .._asgi_types import App, Message, Scope, Send
from .._http import Rejection, Reply, rejection_of
from ..asgi import send_rejection
from ..async_client import AsyncClient
from ..errors import TenantAuthError
from ..networks import IPAddress
from ..results import DeniedError, SessionValidation, Validation
from ..sessions import SessionExpiry
from ._handle_ids import SESSION_PREFIX
from ._refusals import RefusedError
from ._revision import SESSION_HEADER

log = logging.getLogger("tenant_auth")

MAX_SESSION_ID_LENGTH = 1024
MIN_TTL = 60.0
"""The contract's minimum for sessions with a sliding expiry, in seconds."""
# Statuses of verdicts with which a session continues, besides VALID. All others end the session, for example if the key
# that opened it was revoked. MCP clients start a new session after a 404.
CONTINUING_STATUSES = frozenset({HTTPStatus.FORBIDDEN, HTTPStatus.TOO_MANY_REQUESTS})


def ttl_of(value: object) -> float:
    """Checks the lifetime of a binding with a sliding expiry, in seconds."""
    ttl = _checks.duration("ttl", value)
    if ttl < MIN_TTL:
        # With a shorter ttl, every binding would be rejected.
        raise ValueError(f"ttl is {value!r}: give at least {MIN_TTL:.0f} seconds")
    return ttl


def is_session_id(text: str) -> bool:
    """Reports whether a client may send this session id: visible ASCII, and not the binding of a handle."""
    visible = 0 < len(text) <= MAX_SESSION_ID_LENGTH and all("!" <= character <= "~" for character in text)
    return visible and not text.startswith(SESSION_PREFIX)


def session_id_in(scope_or_message: Scope | Message) -> str | None:
    for name, value in scope_or_message.get("headers", ()):
        if name.lower() == SESSION_HEADER:
            return str(value.decode("latin-1"))
    return None


class Sessions:
    """Binds and validates sessions. Every valid key of the session's tenant may continue a session."""

    def __init__(self, client: AsyncClient, ttl: float) -> None:
        self._client = client
        self._ttl = ttl_of(ttl)

    async def validate(self, session_id: str, key: str, address: IPAddress | None) -> SessionValidation:
        """Returns a session that continues and belongs to the key's tenant. Others are not found."""
        session = await self._client.validate_session(session_id, key, client_address=address)
        if session.is_valid:
            return session
        if _http.denial(session).status in CONTINUING_STATUSES:
            raise DeniedError(session)
        raise RefusedError(_http.no_session(session.verdict))

    async def bind(self, session_id: str, key: str, address: IPAddress | None) -> Rejection | None:
        """Binds a session. Returns the rejection if that failed."""
        try:
            binding = await self._client.bind_session(
                session_id, key, self._ttl, expiry=SessionExpiry.SLIDING, client_address=address
            )
        except TenantAuthError as error:
            return rejection_of(error)
        return None if binding.is_valid else _http.denial(Validation(verdict=binding.verdict))

    async def unbind(self, session_id: str, tenant_id: str) -> None:
        try:
            await self._client.unbind_session(session_id, tenant_id)
        except TenantAuthError as error:
            # The SDK has already ended the session. The binding expires by itself.
            log.warning("session not unbound, it stays bound until it expires: %s", error)


class SessionOpeningResponse:
    """Sends the response to a request without a session. If the response opens a session, binds it before the client
    gets its id.
    """

    def __init__(self, sessions: Sessions, key: str, address: IPAddress | None, scope: Scope, send: Send) -> None:
        self._sessions = sessions
        self._key = key
        self._address = address
        self._scope = scope
        self._send = send
        self._unbound: str | None = None

    async def __call__(self, message: Message) -> None:
        if self._unbound is not None:
            return
        # If the SDK rejects a request, it ends the session that the response names. Bound, it would remain for its ttl.
        opens = message["type"] == "http.response.start" and message["status"] < HTTPStatus.BAD_REQUEST
        session_id = session_id_in(message) if opens else None
        rejection: Reply | None = None
        if session_id is not None:
            rejection = await self._sessions.bind(session_id, self._key, self._address)
        if rejection is None:
            await self._send(message)
        else:
            self._unbound = session_id
            await send_rejection(rejection, self._scope, self._send)

    async def end_unbound(self, app: App, scope: Scope) -> None:
        """Ends a session whose id was not sent to the client. Otherwise the SDK would reach its session limit in a
        long outage.
        """
        if self._unbound is not None:
            headers = [*scope["headers"], (SESSION_HEADER, self._unbound.encode("latin-1"))]
            await app({**scope, "method": "DELETE", "headers": headers}, receive_empty_body, discard_message)


async def receive_empty_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}


async def discard_message(_message: Message) -> None:
    pass
