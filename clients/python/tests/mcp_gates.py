"""Calls a gate in front of an app of the test."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx2

from mcp_servers import ACCEPT, KEY, META, STATELESS
from tenant_auth.mcp import McpGate

JSON = "application/json"
EVENTS = "text/event-stream"


class App:
    """The server behind the gate. Responds with chunks of a body."""

    def __init__(self, *chunks: bytes, kind: str = JSON, status: int = 200, **headers: str) -> None:
        self.chunks = chunks or (b"{}",)
        self.status = status
        self.headers = {"content-type": kind} | {name.replace("_", "-"): value for name, value in headers.items()}
        self.requests: list[dict[str, str]] = []
        self.scopes: list[Any] = []
        self.bodies: list[bytes] = []
        self.on_request: Callable[[], None] = lambda: None

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.requests.append({name.decode(): value.decode("latin-1") for name, value in scope["headers"]})
        self.scopes.append(scope)
        self.bodies.append((await receive())["body"])
        self.on_request()
        headers = [(name.encode(), value.encode()) for name, value in self.headers.items()]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        for chunk in self.chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def request(
    gate: McpGate, body: Any = None, *, method: str = "POST", path: str = "/mcp", key: str | None = KEY, **headers: str
) -> httpx2.Response:
    """Makes a request of a handshake revision, unless the headers say otherwise."""
    given = {name.replace("_", "-"): value for name, value in headers.items()} | ACCEPT
    if key is not None:
        given["authorization"] = f"Bearer {key}"
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(gate), base_url="http://mcp.test") as http:
        return await http.request(method, path, content=content, headers=given)


async def call(gate: McpGate, method: str, params: Any = None, *, name: str | None = None) -> httpx2.Response:
    """Makes a request of a stateless revision."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": (params or {}) | {"_meta": META}}
    headers = {"mcp_protocol_version": STATELESS, "mcp_method": method} | ({} if name is None else {"mcp_name": name})
    return await request(gate, body, **headers)
