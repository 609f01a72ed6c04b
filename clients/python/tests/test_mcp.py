"""The MCP example with the SDK's own client: sessions are bound, calls are checked, usage is recorded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import httpx2
import pytest
import pytest_asyncio
from mcp.shared.exceptions import MCPError
from starlette.applications import Starlette

from conftest import call_stub, until
from fake import EVENT_TIMEOUT, Fake
from mcp_servers import HEADERS, INITIALIZE, KEY, PING, Mode, Server, serving
from replies import Failure, answer, session_answer
from service import Service, dev
from tenant_auth import AsyncClient, Options, UsageBucket
from tenant_auth.mcp import McpGate, current_principal
from tenant_auth.proto import admin_pb2

MODES: tuple[Mode, ...] = ("legacy", "auto")


@pytest_asyncio.fixture
async def server(fake: Fake) -> AsyncIterator[Server]:
    fake.keys[KEY] = answer()
    async with (
        AsyncClient(fake.endpoint, Options(near_cache=None, retry=None)) as client,
        serving(client) as server,
    ):
        yield server
        assert await server.recorder.close() == []


async def issue(client: AsyncClient, service: Service, *scopes: str) -> str:
    request = admin_pb2.IssueKeyRequest(tenant_id=service.tenant, name="test", scopes=scopes)
    issued = await call_stub(client.raw.admin.IssueKey, request, timeout=10.0)
    return str(issued.plaintext)


@pytest.mark.parametrize("mode", MODES)
async def test_example_works_with_the_real_service(tmp_path: Path, mode: Mode) -> None:
    with dev(tmp_path) as service:
        async with AsyncClient(service.endpoint, Options(timeout=10.0)) as client, serving(client) as server:

            async def sessions() -> list[str]:
                return [session.tenant_id async for session in client.list_sessions(service.tenant)]

            reader = await issue(client, service, "orders:read")
            writer = await issue(client, service, "orders:read", "orders:write")
            async with server.client(mode, reader) as caller:
                assert await sessions() == ([service.tenant] if mode == "legacy" else [])
                assert [tool.name for tool in (await caller.list_tools()).tools] == ["list_orders"]
                listed = await caller.call_tool("list_orders", {})
                assert listed.structured_content == {"result": ["order 1: paid", "order 2: paid"]}
                with pytest.raises(MCPError):
                    await caller.call_tool("refund_order", {"number": 1})
            async with server.client(mode, writer) as caller:
                assert [tool.name for tool in (await caller.list_tools()).tools] == ["list_orders", "refund_order"]
                refunded = await caller.call_tool("refund_order", {"number": 1})
                assert refunded.structured_content == {"result": "order 1 is refunded"}
            # The clients ended their sessions. The server passes this on after it has responded.
            async with asyncio.timeout(EVENT_TIMEOUT):
                while await sessions():
                    await asyncio.sleep(0.002)
            assert await server.recorder.close() == []
            now, hours = datetime.now(UTC), timedelta(hours=2)
            sums = client.query_usage(service.tenant, now - hours, now + hours, bucket=UsageBucket.MONTH)
            assert [(one.metric, one.quantity) async for one in sums] == [("mcp.tool_calls", 1)]


async def test_session_is_bound_and_ended(server: Server, fake: Fake) -> None:
    async with server.client("legacy") as client:
        assert len(fake.bound) == 1
        assert next(iter(fake.bound.values())).tenant_id == "acme"
        assert (await client.call_tool("list_orders", {})).structured_content
    assert fake.calls["ValidateSession"] >= 1
    # The client ended its session. The server passes this on after it has responded.
    await until(lambda: not fake.bound)


async def test_protocol_without_sessions_is_checked_by_key(server: Server, fake: Fake) -> None:
    async with server.client("auto") as client:
        assert (await client.call_tool("list_orders", {})).structured_content
    assert not fake.calls["BindSession"]


@pytest.mark.parametrize("mode", MODES)
async def test_only_admitted_calls_record_usage(server: Server, fake: Fake, mode: Mode) -> None:
    fake.keys[KEY] = answer(scopes=["orders:write"])
    async with server.client(mode) as client:
        assert (await client.call_tool("refund_order", {"number": 1})).structured_content
        assert (await client.call_tool("refund_order", {"number": "no number"})).is_error
        with pytest.raises(MCPError):
            await client.call_tool("list_orders", {})
    await server.recorder.flush()
    events = [event for events in fake.usage.values() for event in events]
    assert [(event.tenant_id, event.metric, event.quantity) for event in events] == [("acme", "mcp.tool_calls", 1)] * 2


@pytest.mark.parametrize(
    ("verdict", "status"),
    [
        (1, 200),
        (2, 401),
        (3, 401),
        (4, 401),
        (5, 401),
        (6, 403),
        (7, 403),
        (8, 429),
        (13, 403),
        (14, 403),
        (15, 403),
        (99, 403),
    ],
)
async def test_each_verdict_has_its_mcp_status(server: Server, fake: Fake, verdict: int, status: int) -> None:
    fake.keys[KEY] = answer(verdict)
    assert (await server.post(INITIALIZE)).status_code == status


async def test_mcp_service_failure_is_503(server: Server, fake: Fake) -> None:
    fake.permanent_failure = Failure(grpc.StatusCode.UNAVAILABLE, retry_after=4)
    response = await server.post(INITIALIZE)
    assert (response.status_code, response.headers["retry-after"]) == (503, "4")
    assert not fake.bound


async def test_unbindable_session_is_not_opened(server: Server, fake: Fake) -> None:
    fake.keys[KEY] = answer_then_fail(fake)
    response = await server.post(INITIALIZE)
    assert response.status_code == 503
    assert "mcp-session-id" not in response.headers


def answer_then_fail(fake: Fake) -> Any:
    def respond(_request: Any) -> Any:
        fake.permanent_failure = Failure(grpc.StatusCode.UNAVAILABLE)
        return answer()

    return respond


async def test_unbindable_session_is_ended_in_the_sdk(fake: Fake) -> None:
    fake.keys[KEY] = answer_then_fail(fake)
    requests: list[tuple[str, bytes | None]] = []

    async def sdk(scope: Any, _receive: Any, send: Any) -> None:
        requests.append((scope["method"], dict(scope["headers"]).get(b"mcp-session-id")))
        headers = [(b"mcp-session-id", b"s1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async with AsyncClient(fake.endpoint, Options(near_cache=None, retry=None)) as client:
        transport = httpx2.ASGITransport(McpGate(sdk, client=client))
        async with httpx2.AsyncClient(transport=transport, base_url="http://mcp") as http:
            response = await http.post("/mcp", headers=HEADERS)
    assert response.status_code == 503
    assert requests == [("POST", None), ("DELETE", b"s1")]


async def test_ended_or_foreign_session_is_not_found(server: Server, fake: Fake) -> None:
    session = (await server.post(INITIALIZE)).headers["mcp-session-id"]
    assert (await server.post(PING, **{"mcp-session-id": session})).status_code == 200
    del fake.bound[session]
    for verdict in (10, 11, 12):
        fake.sessions[session] = session_answer(verdict)
        assert (await server.post(PING, **{"mcp-session-id": session})).status_code == 404, verdict
    for verdict in (2, 4, 5):
        # The presented key is valid, but the key that opened the session is not.
        fake.sessions[session] = session_answer(verdict)
        assert (await server.post(PING, **{"mcp-session-id": session})).status_code == 404, verdict
    fake.sessions[session] = session_answer(8)
    assert (await server.post(PING, **{"mcp-session-id": session})).status_code == 429
    for verdict in (6, 13, 14, 15, 99):
        fake.sessions[session] = session_answer(verdict)
        assert (await server.post(PING, **{"mcp-session-id": session})).status_code == 403, verdict


@pytest.mark.parametrize("ttl", [0, 59.9, float("nan"), 86_401, "1", None])
def test_too_short_ttl_is_rejected(ttl: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="ttl is "):
        McpGate(Starlette(), client=AsyncClient("127.0.0.1:1"), ttl=ttl)


def test_current_principal_requires_a_request() -> None:
    with pytest.raises(LookupError):
        current_principal()
