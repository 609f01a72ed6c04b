"""The principal of the current request, for tools and for the SDK."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from mcp.server.auth.middleware.auth_context import AuthContextMiddleware
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser
from mcp.server.auth.provider import AccessToken
from starlette.authentication import AuthCredentials

from .._asgi_types import App
from ..limits import LimitDecision
from ..results import Principal

CURRENT: ContextVar[Principal] = ContextVar("tenant_auth_principal")
CURRENT_LIMITS: ContextVar[tuple[LimitDecision, ...]] = ContextVar("tenant_auth_limits")


def current_principal() -> Principal:
    """Returns the principal of the running tool call. Raises `LookupError` outside of requests that a gate admitted."""
    try:
        return CURRENT.get()
    except LookupError:
        raise LookupError("the current request was not admitted by an McpGate: use protect") from None


def current_limits() -> tuple[LimitDecision, ...]:
    """Returns what the limits say about the running tool call; empty without `costs`. Raises `LookupError` outside of
    requests that a gate admitted.
    """
    current_principal()
    return CURRENT_LIMITS.get()


def sdk_user(principal: Principal) -> dict[str, Any]:
    """Returns the entries of the scope by which the SDK knows who sent a request.

    The user's id is that of the tenant: the SDK refuses a session to another user than the one who opened it, and a
    session must survive the rotation of a key. The SDK gets the public id of the key instead of the key.
    """
    scopes = list(principal.scopes)
    token = AccessToken(
        token=principal.key_id, client_id=principal.tenant_id, subject=principal.tenant_id, scopes=scopes
    )
    return {"user": AuthenticatedUser(token), "auth": AuthCredentials(scopes)}


def with_sdk_user(app: App) -> App:
    """Lets the SDK's `get_access_token` return the token of the scope's user."""
    return AuthContextMiddleware(app)
