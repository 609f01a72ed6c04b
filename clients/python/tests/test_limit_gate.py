"""The MCP gate with costs, and the fake service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import httpx
import pytest
import pytest_asyncio
from mcp.server.mcpserver import MCPServer

from fake import Fake
from limit_replies import QUOTA_EXCEEDED, consumed, exceeded, limit
from mcp_gates import App, call, request
from mcp_servers import HEADERS, KEY, META, STATELESS, listening
from replies import Failure, answer
from tenant_auth import AsyncClient, Options
from tenant_auth.mcp import McpGate, McpRequest, Policy, current_limits, protect


@pytest_asyncio.fixture
async def client(fake: Fake) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(fake.endpoint, Options(near_cache=None, retry=None)) as client:
        yield client


async def test_gate_takes_the_costs_in_place_of_the_validation(client: AsyncClient, fake: Fake) -> None:
    fake.limits["Consume"] = consumed(1, limit("calls"))
    app = App()
    gate = McpGate(app, client=client, costs={"mcp.calls": 1}, sessions=False)
    for got in (await request(gate, {"jsonrpc": "2.0", "id": 1, "method": "ping"}), await call(gate, "tools/list")):
        assert (got.status_code, got.headers["ratelimit"]) == (200, '"calls";r=99;t=1800')
        assert got.headers["ratelimit-policy"] == '"calls";q=100;w=3600'
    assert [one.name for one in app.scopes[0]["state"]["limits"]] == ["calls"]
    assert (fake.calls["Consume"], fake.calls["ValidateKey"]) == (2, 0)
    fake.limits["Consume"] = consumed(QUOTA_EXCEEDED, exceeded("calls", retry_after=2.5))
    denied = await call(gate, "tools/list")
    assert (denied.status_code, denied.json()["code"]) == (429, "QUOTA_EXCEEDED")
    assert (denied.headers["retry-after"], denied.headers["ratelimit"]) == ("3", '"calls";r=0;t=1800')
    assert len(app.requests) == 2, "in front of the SDK"
    fake.limits["Consume"] = consumed(5)
    assert (await call(gate, "tools/list")).status_code == 401
    fake.permanent_failure = Failure(grpc.StatusCode.UNAVAILABLE, reason="LIMIT_UNDECIDED")
    assert (await call(gate, "tools/list")).status_code == 503


async def test_request_that_the_policy_refuses_costs_nothing(client: AsyncClient, fake: Fake) -> None:
    fake.keys[KEY] = answer(scopes=["orders:read"])
    fake.limits["Consume"] = consumed(1, limit("calls"))
    policy = Policy({"tools": {"list_orders": {"scopes": ["orders:read"]}, "refund_order": {"scopes": ["admin"]}}})
    seen: list[Any] = []

    def of_messages(called: McpRequest) -> dict[str, int]:
        seen.append([one.get("method") for one in called.messages])
        tools = [one for one in called.messages if one.get("method") == "tools/call"]
        return {"mcp.calls": len(tools)} if tools else {}

    app = App()
    gate = McpGate(app, client=client, policy=policy, costs=of_messages, sessions=False)
    for name, status in (("refund_order", 403), ("list_orders", 200)):
        params = {"name": name, "arguments": {}}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        assert (await request(gate, [body, body])).status_code == status
        assert (await call(gate, "tools/call", params, name=name)).status_code == status
    assert [one.costs[0].amount for one in fake.requests if "Consume" in type(one).__name__] == [2, 1]
    free = await call(gate, "ping")
    assert (free.status_code, "ratelimit" in free.headers) == (200, False)
    assert (await request(gate, method="GET")).status_code == 200
    assert seen == [["tools/call", "tools/call"], ["tools/call"], ["ping"], []]
    fake.limits["Consume"] = consumed(QUOTA_EXCEEDED, exceeded("calls"))
    denied = await call(gate, "tools/call", {"name": "list_orders", "arguments": {}}, name="list_orders")
    assert (denied.status_code, denied.headers["ratelimit"]) == (429, '"calls";r=0;t=1800')
    assert len(app.requests) == 4


async def test_tools_read_the_limits(client: AsyncClient, fake: Fake) -> None:
    fake.keys[KEY] = answer()
    fake.limits["Consume"] = consumed(1, limit("calls"))
    server = MCPServer("orders")

    @server.tool()
    async def left() -> str:
        return ", ".join(f"{one.name}: {one.remaining}" for one in current_limits())

    def of_tools(called: McpRequest) -> dict[str, int]:
        named = dict(called.scope["headers"]).get(b"mcp-name") == b"left"
        return {"mcp.calls": 1} if named else {}

    app = protect(server.streamable_http_app(stateless_http=True), client, sessions=False, costs=of_tools)
    async with listening(app) as url, httpx.AsyncClient() as http:
        headers = HEADERS | {"mcp-protocol-version": STATELESS}
        params = {"name": "left", "arguments": {}, "_meta": META}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        named = headers | {"mcp-method": "tools/call", "mcp-name": "left"}
        response = await http.post(f"{url}/mcp", json=body, headers=named)
        assert "calls: 99" in response.text
        body = {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {"_meta": META}}
        response = await http.post(f"{url}/mcp", json=body, headers=headers | {"mcp-method": "tools/list"})
        assert (response.status_code, "ratelimit" in response.headers) == (200, False)
    assert (fake.calls["Consume"], fake.calls["ValidateKey"]) == (1, 1)
    with pytest.raises(LookupError, match="not admitted by an McpGate"):
        current_limits()
