"""Streams of MCP servers end with their key, with the real service."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from mcp.server.mcpserver import Context, MCPServer

from conftest import until
from guards import guards_of, pass_time_until
from mcp_servers import ACCEPT, INITIALIZE, META, STATELESS, listening
from service import Fleet, Replica, fleet_in
from tenant_auth import AsyncClient, NearCache, Options
from tenant_auth.mcp import Policy, protect
from tenant_auth.proto import admin_pb2
from tenant_auth.testing import ManualClock

POLICY = Policy({"tools": {"*": {"scopes": ["orders:read"]}}})
TOOL = {"jsonrpc": "2.0", "id": "call", "method": "tools/call"}
LISTEN = {"jsonrpc": "2.0", "id": 5, "method": "subscriptions/listen"}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet_in(tmp_path_factory.mktemp("streams")) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def replica(fleet: Fleet) -> Replica:
    return fleet.start()


@pytest_asyncio.fixture
async def admin(replica: Replica) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(replica.endpoint, Options(timeout=10.0, near_cache=None)) as client:
        yield client


async def issue(admin: AsyncClient, fleet: Fleet) -> tuple[str, str]:
    request = admin_pb2.IssueKeyRequest(tenant_id=fleet.tenant, name="test", scopes=["orders:read"])
    issued: Any = await admin.raw.admin.IssueKey(request)
    return issued.key.key_id, issued.plaintext


async def revoke(admin: AsyncClient, key_id: str) -> float:
    """Revokes a key. Returns when."""
    await admin.raw.admin.RevokeKey(admin_pb2.RevokeKeyRequest(key_id=key_id, reason="test"))
    return time.monotonic()


class Server:
    """A server with a tool that never ends."""

    def __init__(self, url: str, key: str) -> None:
        self.url = f"{url}/mcp"
        self.headers = ACCEPT | {"authorization": f"Bearer {key}"}
        self.http = httpx2.AsyncClient(timeout=30.0)

    async def post(self, body: Any, **headers: str) -> httpx2.Response:
        return await self.http.post(self.url, json=body, headers=self.headers | headers)

    @asynccontextmanager
    async def stream(self, method: str, body: Any = None, **headers: str) -> AsyncIterator[AsyncIterator[str]]:
        """Returns the events of a live response."""
        async with self.http.stream(method, self.url, json=body, headers=self.headers | headers) as response:
            assert response.headers["content-type"].startswith("text/event-stream"), await response.aread()
            yield response.aiter_lines()


@asynccontextmanager
async def serving(client: AsyncClient, key: str, **options: Any) -> AsyncIterator[Server]:
    server = MCPServer("test")

    @server.tool()
    async def wait(ctx: Context) -> str:
        await ctx.report_progress(1)
        await asyncio.Event().wait()
        return "never"

    async with listening(protect(server.streamable_http_app(), client, **options)) as url:
        running = Server(url, key)
        yield running
        await running.http.aclose()


def stateless(body: dict[str, Any], **params: Any) -> tuple[dict[str, Any], dict[str, str]]:
    headers = {"mcp-protocol-version": STATELESS, "mcp-method": body["method"]}
    if "name" in params:
        headers["mcp-name"] = params["name"]
    return body | {"params": params | {"_meta": META | {"progressToken": 1}}}, headers


async def rest_of(lines: AsyncIterator[str]) -> list[Any]:
    return [json.loads(line.removeprefix("data: ")) async for line in lines if line.startswith("data: {")]


async def first_event(lines: AsyncIterator[str]) -> None:
    async for line in lines:
        if line.startswith("data: {"):
            return


def ended(message_id: Any, code: str = "REVOKED", message: str = "The key was revoked.") -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": message_id, "error": {"code": -32001, "message": message, "data": {"code": code}}}


@pytest.mark.parametrize("policy", [POLICY, None])
@pytest.mark.parametrize("kind", ["stateless tool", "subscription", "tool in a session"])
async def test_stream_of_a_revoked_key_ends_with_an_error(
    admin: AsyncClient, fleet: Fleet, replica: Replica, kind: str, policy: Policy | None, capsys: Any
) -> None:
    key_id, key = await issue(admin, fleet)
    async with AsyncClient(replica.endpoint) as client, serving(client, key, policy=policy) as server:
        await until(lambda: client.watch_state.live)
        if kind == "stateless tool":
            body, headers = stateless(TOOL, name="wait", arguments={})
        elif kind == "subscription":
            body, headers = stateless(LISTEN, notifications={"toolsListChanged": True})
        else:
            opened = await server.post(INITIALIZE)
            headers = {"mcp-session-id": opened.headers["mcp-session-id"]}
            await server.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, **headers)
            body = TOOL | {"params": {"name": "wait", "arguments": {}, "_meta": {"progressToken": 1}}}
        async with server.stream("POST", body, **headers) as lines:
            await first_event(lines)
            revoked_at = await revoke(admin, key_id)
            assert await rest_of(lines) == [ended(body["id"])]
        with capsys.disabled():
            print(f"\n{kind}: the stream ended {(time.monotonic() - revoked_at) * 1000:.0f} ms after the revocation")  # noqa: T201
        await until(lambda: len(guards_of(client)) == 0)


async def test_get_stream_of_a_revoked_key_just_ends(admin: AsyncClient, fleet: Fleet, replica: Replica) -> None:
    key_id, key = await issue(admin, fleet)
    async with AsyncClient(replica.endpoint) as client, serving(client, key, policy=POLICY) as server:
        await until(lambda: client.watch_state.live)
        opened = await server.post(INITIALIZE)
        session = {"mcp-session-id": opened.headers["mcp-session-id"]}
        async with server.stream("GET", **session) as lines:
            await until(lambda: len(guards_of(client)) == 1)
            await revoke(admin, key_id)
            assert await rest_of(lines) == []
        assert (await server.post(INITIALIZE, **session)).status_code == 401


async def test_end_of_a_session_ends_its_get_stream(admin: AsyncClient, fleet: Fleet, replica: Replica) -> None:
    _, key = await issue(admin, fleet)
    async with AsyncClient(replica.endpoint) as client, serving(client, key) as server:
        await until(lambda: client.watch_state.live)
        opened = await server.post(INITIALIZE)
        session = {"mcp-session-id": opened.headers["mcp-session-id"]}
        async with server.stream("GET", **session) as lines:
            await until(lambda: len(guards_of(client)) == 1)
            await admin.unbind_session(session["mcp-session-id"], fleet.tenant)
            assert await rest_of(lines) == []
        assert (await server.post(INITIALIZE, **session)).status_code == 404


async def test_stream_is_validated_without_a_watch_stream(admin: AsyncClient, fleet: Fleet, replica: Replica) -> None:
    key_id, key = await issue(admin, fleet)
    clock = ManualClock()
    options = Options(near_cache=NearCache(watch=False), clock=clock)
    async with AsyncClient(replica.endpoint, options) as client, serving(client, key) as server:
        body, headers = stateless(TOOL, name="wait", arguments={})
        async with server.stream("POST", body, **headers) as lines:
            await first_event(lines)
            await revoke(admin, key_id)
            rest = asyncio.create_task(rest_of(lines))
            await pass_time_until(clock, rest.done)
            assert await rest == [ended("call")]


async def test_stream_ends_undecided_after_the_service_has_stopped(fleet: Fleet, admin: AsyncClient) -> None:
    replica, clock = fleet.start(), ManualClock()
    key = fleet.key
    async with AsyncClient(replica.endpoint, Options(clock=clock)) as client, serving(client, key) as server:
        body, headers = stateless(TOOL, name="wait", arguments={})
        async with server.stream("POST", body, **headers) as lines:
            await first_event(lines)
            replica.kill()
            rest = asyncio.create_task(rest_of(lines))
            passed = await pass_time_until(clock, rest.done)
            assert await rest == [ended("call", "UNDECIDED", "The key could not be checked now.")]
            assert passed >= 10.0
