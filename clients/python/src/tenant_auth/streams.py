"""Live streams of handlers that end when a key may no longer be used: Server-Sent Events and WebSockets.

`TenantAuthMiddleware` does this by itself. These functions are for handlers with `RequireTenant`.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Protocol

from . import _checks
from ._stream_end import EventBoundary, close_code_of, code_of, end_event
from .async_client import AsyncClient
from .errors import TenantAuthError
from .results import DeniedError, Principal


class Socket(Protocol):
    """A WebSocket, such as those of Starlette and FastAPI."""

    async def close(self, code: int = 1000, reason: str | None = None) -> None: ...


async def guard_events(
    client: AsyncClient,
    principal: Principal,
    events: AsyncIterable[str | bytes],
    *,
    scopes: str | Iterable[str] = (),
    undecided_for: float = 10.0,
) -> AsyncIterator[bytes]:
    """Iterates over encoded Server-Sent Events, for a `StreamingResponse`. `client.guard` describes the arguments.

    If the guard ends the stream, the last event has the type `end` and the data `{"code": "REVOKED", "detail": "…"}`.
    """
    boundary = EventBoundary()
    guarded = client.guard(principal, events, scopes=scopes, undecided_for=undecided_for)
    try:
        async for event in guarded:
            data = event.encode() if isinstance(event, str) else event
            boundary.sent(data)
            yield data
    except (DeniedError, TenantAuthError) as reason:
        if boundary.reached:
            yield end_event(reason)


@asynccontextmanager
async def guard_websocket(
    client: AsyncClient,
    principal: Principal,
    websocket: Socket,
    *,
    scopes: str | Iterable[str] = (),
    undecided_for: float = 10.0,
) -> AsyncIterator[None]:
    """A context that is left when the principal may no longer be used. `client.guard` describes the arguments.

    `async with guard_websocket(client, principal, websocket): …`

    The socket is then closed with 1008 and the verdict as its reason, or with 1013 and `UNDECIDED`.
    """
    _checks.instance("principal", principal, Principal)
    required = _checks.texts("scopes", scopes)
    guard = client._engine.guards.prepare(principal, required, _checks.duration("undecided_for", undecided_for))
    guard.start()
    try:
        async with guard.interrupting():
            yield
    except (DeniedError, TenantAuthError) as error:
        if error is not guard.reason:
            raise
        await websocket.close(close_code_of(error), code_of(error))
    finally:
        guard.release()
