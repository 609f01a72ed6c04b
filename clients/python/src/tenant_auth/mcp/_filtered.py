"""Filters lists in a response, JSON or Server-Sent Events, without delaying other events."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Awaitable, Callable
from http import HTTPStatus

from .._asgi_types import Message, Scope, Send
from ..asgi import send_rejection
from ._json import dump
from ._lists import ListFilter
from ._refusals import UNFILTERED
from ._revision import without

log = logging.getLogger("tenant_auth")

LINE_END = rb"(?:\r\n|\n|\r(?!\n))"
EVENT_END = re.compile(LINE_END + LINE_END)
LINE = re.compile(LINE_END)
UNFILTERABLE_EXTENSIONS = ("http.response.pathsend", "http.response.zerocopysend")

Handler = Callable[[Message], Awaitable[None]]


def filterable(scope: Scope) -> Scope:
    """Returns the scope of a request whose response can be read: uncompressed, and not sent by the server itself."""
    extensions = scope.get("extensions") or {}
    kept = {name: value for name, value in extensions.items() if name not in UNFILTERABLE_EXTENSIONS}
    return {**scope, "headers": without(scope["headers"], b"accept-encoding"), "extensions": kept}


class FilteredResponse:
    """Sends a response with filtered lists."""

    def __init__(self, lists: ListFilter, scope: Scope, send: Send) -> None:
        self._lists = lists
        self._scope = scope
        self._send = send
        self._start: Message = {}
        self._handle: Handler = self._pass
        self._buffer = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._begin(message)
        elif message["type"] == "http.response.body":
            await self._handle(message)
        else:
            await self._send(message)

    async def _begin(self, message: Message) -> None:
        headers = {name.lower(): value for name, value in message.get("headers", ())}
        kind = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        encoding = headers.get(b"content-encoding", b"identity").strip().lower()
        listed = message["status"] < HTTPStatus.BAD_REQUEST and kind in (b"application/json", b"text/event-stream")
        if listed and encoding != b"identity":
            log.error("a list is compressed and cannot be filtered: compress responses outside of the gate")
            await self._refuse()
        elif listed and kind == b"application/json":
            self._start, self._handle = message, self._collect
        else:
            self._handle = self._transform if listed else self._pass
            await self._send(message)

    async def _refuse(self) -> None:
        self._handle = self._drop
        await send_rejection(UNFILTERED, self._scope, self._send)

    async def _pass(self, message: Message) -> None:
        await self._send(message)

    async def _drop(self, _message: Message) -> None:
        pass

    async def _collect(self, message: Message) -> None:
        """Handles JSON, which is filtered when it is complete."""
        self._buffer += message.get("body", b"")
        if message.get("more_body", False):
            return
        body = self._buffer
        if body:
            try:
                body = self._filtered(body)
            except ValueError:
                log.error("a list is not JSON and cannot be filtered")
                await self._refuse()
                return
        length = (b"content-length", str(len(body)).encode())
        headers = [*without(self._start.get("headers", ()), b"content-length"), length]
        await self._send({**self._start, "headers": headers})
        await self._send({**message, "body": body, "more_body": False})

    async def _transform(self, message: Message) -> None:
        """Handles events, which are sent as soon as they are complete."""
        self._buffer += message.get("body", b"")
        last = not message.get("more_body", False)
        done = b""
        while match := EVENT_END.search(self._buffer):
            done += self._event(self._buffer[: match.start()], match[0])
            self._buffer = self._buffer[match.end() :]
        if last:
            # Some clients read an event that the stream has not ended.
            done += self._event(self._buffer, b"")
        if done or last:
            await self._send({**message, "body": done})

    def _event(self, event: bytes, end: bytes) -> bytes:
        data = b"\n".join(value_of(line) for line in LINE.split(event) if is_data(line))
        if not data.strip():
            return event + end
        try:
            filtered = self._filtered(data)
        except ValueError:
            log.error("an event is not JSON and cannot be filtered: it is left out")
            return b""
        if filtered is data:
            return event + end
        others = [line for line in LINE.split(event) if not is_data(line)]
        return b"\r\n".join([*others, b"data: " + filtered]) + end

    def _filtered(self, data: bytes) -> bytes:
        """Returns the same object if there is nothing to filter. Raises `ValueError` if it is not JSON."""
        try:
            content = json.loads(data)
        except RecursionError:
            raise ValueError("it is nested too deeply") from None
        return dump(content) if self._lists.apply(content) else data


def is_data(line: bytes) -> bool:
    return line.partition(b":")[0] == b"data"


def value_of(line: bytes) -> bytes:
    return line.partition(b":")[2].removeprefix(b" ")
