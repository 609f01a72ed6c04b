"""Reads the body of a request, up to a limit, and passes it on."""

from __future__ import annotations

from .._asgi_types import Message, Receive, Scope
from ._refusals import TOO_LARGE, RefusedError


class DisconnectedError(Exception):
    """The client left before it had sent the whole body."""


async def read_body(scope: Scope, receive: Receive, limit: int) -> bytes:
    """Returns the body. Refuses one with more than `limit` bytes."""
    for name, value in scope["headers"]:
        if name.lower() == b"content-length" and value.isdigit() and int(value) > limit:
            raise RefusedError(TOO_LARGE)
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        body += message.get("body", b"")
        if len(body) > limit:
            raise RefusedError(TOO_LARGE)
        more = message.get("more_body", False)
    return bytes(body)


def replay(body: bytes, receive: Receive) -> Receive:
    """Returns a function that returns this body first."""
    sent = False

    async def receive_again() -> Message:
        nonlocal sent
        if sent:
            return await receive()
        sent = True
        return {"type": "http.request", "body": body, "more_body": False}

    return receive_again


class BodyTap:
    """Passes a body on, and keeps it if it is not larger than a limit."""

    def __init__(self, receive: Receive, limit: int) -> None:
        self._receive = receive
        self._limit = limit
        self.body = b""

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request" and len(self.body) <= self._limit:
            self.body += message.get("body", b"")
        return message
