"""Guards the live response of an ASGI app: Server-Sent Events, or a WebSocket."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from ._asgi_types import App, Message, Receive, Scope, Send
from ._guard import Guard
from ._interruption import Interruption, Reason
from ._stream_end import EventBoundary, close_code_of, code_of, end_event
from .async_client import AsyncClient
from .errors import TenantAuthError
from .results import DeniedError, Principal

LastEvents = Callable[[Reason], bytes]
"""Returns what to send at the end of a stream of events."""


async def run_guarded(
    app: App,
    client: AsyncClient,
    principal: Principal,
    scope: Scope,
    receive: Receive,
    send: Send,
    *,
    scopes: Iterable[str] = (),
    undecided_for: float = 10.0,
    last_events: LastEvents = end_event,
) -> None:
    """Runs an app. If its response is live, it ends when the principal may no longer be used."""
    response = GuardedResponse(
        lambda: client._engine.guards.prepare(principal, scopes, undecided_for), send, last_events
    )
    try:
        async with Interruption(response):
            await app(scope, receive, response)
    except (DeniedError, TenantAuthError) as error:
        if error is not response.reason:
            raise
        await response.end(error)
    finally:
        response.release()


class GuardedResponse:
    """Passes the messages of the app on, and starts a guard when a live response begins."""

    def __init__(self, prepare: Callable[[], Guard], send: Send, last_events: LastEvents) -> None:
        self._prepare = prepare
        self._guard: Guard | None = None
        self._send = send
        self._last_events = last_events
        self._boundary = EventBoundary()
        self._is_socket = False
        self._ended = False
        self.on_end: Callable[[], None] | None = None

    @property
    def reason(self) -> Reason | None:
        return None if self._guard is None else self._guard.reason

    def release(self) -> None:
        if self._guard is not None:
            self._guard.release()

    def _start(self) -> None:
        self._guard = self._prepare()
        self._guard.on_end = self.on_end
        self._guard.start()

    async def __call__(self, message: Message) -> None:
        if self.reason is not None:
            # The app sends this while it is interrupted.
            return
        kind = message["type"]
        if kind == "websocket.accept":
            self._is_socket = True
            self._start()
        elif kind == "http.response.start" and is_event_stream(message):
            self._start()
        elif kind == "http.response.body" and self._guard is not None:
            self._boundary.sent(message.get("body", b""))
            self._ended = not message.get("more_body", False)
        elif kind == "websocket.close":
            self._ended = True
        await self._send(message)

    async def end(self, reason: Reason) -> None:
        """Sends the last message."""
        if self._ended:
            return
        last: dict[str, Any]
        if self._is_socket:
            last = {"type": "websocket.close", "code": close_code_of(reason), "reason": code_of(reason)}
        else:
            # Behind half an event, another one would be read as its continuation.
            body = self._last_events(reason) if self._boundary.reached else b""
            last = {"type": "http.response.body", "body": body, "more_body": False}
        try:
            await self._send(last)
        except OSError:
            # The client has left.
            pass


def is_event_stream(message: Message) -> bool:
    kinds = (value for name, value in message.get("headers", ()) if name.lower() == b"content-type")
    return any(kind.partition(b";")[0].strip().lower() == b"text/event-stream" for kind in kinds)
