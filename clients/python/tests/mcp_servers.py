"""Runs the MCP example, and calls it by HTTP or with the client of the SDK."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Literal

import httpx2
import uvicorn
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

import mcp_server
from conftest import until
from tenant_auth import AsyncClient

KEY = "ta_canary_0123456789abcdef"
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "test", "version": "1"},
    },
}
PING = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
ACCEPT = {"accept": "application/json, text/event-stream"}
HEADERS = ACCEPT | {"authorization": f"Bearer {KEY}"}
STATELESS = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": STATELESS,
    "io.modelcontextprotocol/clientCapabilities": {},
}
Mode = Literal["legacy", "auto"]
"""The client of the SDK uses a handshake revision, or a stateless one if the server knows it."""


class Server:
    """The example on a port."""

    def __init__(self, url: str, recorder: Any) -> None:
        self.url = f"{url}/mcp"
        self.recorder = recorder

    async def post(self, body: Any, **headers: str) -> httpx2.Response:
        async with httpx2.AsyncClient() as http:
            return await http.post(self.url, json=body, headers=HEADERS | headers)

    async def call(self, tool: str, key: str = KEY, **arguments: Any) -> httpx2.Response:
        """Calls a tool in a stateless revision."""
        params = {"name": tool, "arguments": arguments, "_meta": META}
        body = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
        headers = {"mcp-protocol-version": STATELESS, "mcp-method": "tools/call", "mcp-name": tool}
        return await self.post(body, **headers, authorization=f"Bearer {key}")

    @asynccontextmanager
    async def client(self, mode: Mode, key: str = KEY) -> AsyncIterator[Client]:
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(httpx2.AsyncClient(headers={"authorization": f"Bearer {key}"}))
            transport = streamable_http_client(self.url, http_client=http)
            yield await stack.enter_async_context(Client(transport, mode=mode))


@asynccontextmanager
async def listening(app: Any) -> AsyncIterator[str]:
    """Serves an app, and returns its URL."""
    socket_of_server = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1))
    task = asyncio.create_task(server.serve([socket_of_server]))
    await until(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{socket_of_server.getsockname()[1]}"
    finally:
        server.should_exit = True
        await task
        socket_of_server.close()


@asynccontextmanager
async def serving(client: AsyncClient, **options: Any) -> AsyncIterator[Server]:
    """Serves the example."""
    recorder = client.usage_recorder()
    async with listening(mcp_server.make_app(client, recorder, **options)) as url:
        yield Server(url, recorder)
