"""The adapters with costs, and the real service."""

import re
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Annotated, Any

import httpx
import httpx2
import pytest
from fastapi import Depends, FastAPI, Request
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.mcpserver import MCPServer
from mcp.shared.exceptions import MCPError

from mcp_gates import App, request
from mcp_servers import INITIALIZE, PING, Mode, listening
from service import Service, dev
from tenant_auth import AsyncClient, Principal
from tenant_auth.asgi import TenantAuthMiddleware
from tenant_auth.fastapi import RequireTenant
from tenant_auth.mcp import McpGate, McpRequest, Policy, current_limits, protect
from tenant_auth.proto import limit_pb2
from tenants import new_tenant


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with dev(tmp_path_factory.mktemp("limits")) as service:
        yield service


def behind_the_middleware(client: AsyncClient) -> FastAPI:
    app = FastAPI()
    app.add_middleware(TenantAuthMiddleware, client=client, scopes="orders:read", costs={"requests": 1})

    @app.get("/")
    async def root(request: Request) -> list[str]:
        return [one.name for one in request.state.limits]

    return app


def with_the_dependency(client: AsyncClient) -> FastAPI:
    app = FastAPI()
    require = RequireTenant(client, "orders:read", costs=lambda _: {"requests": 1})

    @app.get("/")
    async def root(request: Request, _principal: Annotated[Principal, Depends(require)]) -> list[str]:
        return [one.name for one in request.state.limits]

    return app


@pytest.mark.parametrize("make", [behind_the_middleware, with_the_dependency])
async def test_http_request_over_the_limit_is_429(service: Service, make: Any) -> None:
    async with AsyncClient(service.endpoint) as client:
        tenant = await new_tenant(client, "orders:read")
        await tenant.set_limit(quota=1)
        await tenant.set_limit("burst", rate=limit_pb2.Rate(amount=100, burst=100))
        transport = httpx.ASGITransport(make(client))
        headers = {"authorization": f"Bearer {tenant.key}"}
        async with httpx.AsyncClient(transport=transport, base_url="http://api", headers=headers) as http:
            admitted, denied = await http.get("/"), await http.get("/")
    assert (admitted.status_code, admitted.json()) == (200, ["burst", "hourly"])
    assert admitted.headers["ratelimit-policy"] == '"burst";q=100;w=1, "hourly";q=1;w=3600'
    assert re.fullmatch(r'"burst";r=\d+;t=[01], "hourly";r=0;t=\d+', admitted.headers["ratelimit"])
    assert "retry-after" not in admitted.headers
    assert (denied.status_code, denied.json()["code"]) == (429, "QUOTA_EXCEEDED")
    assert 1 <= int(denied.headers["retry-after"]) <= 3_900
    assert denied.headers["ratelimit"].endswith(f'"hourly";r=0;t={reset_of(denied)}')


def reset_of(response: httpx.Response) -> str:
    return response.headers["ratelimit"].rpartition(";t=")[2]


async def test_mcp_request_over_the_limit_is_429(service: Service) -> None:
    async with AsyncClient(service.endpoint) as client:
        tenant = await new_tenant(client)
        await tenant.set_limit(quota=2)
        app = App(b'{"jsonrpc":"2.0","id":1,"result":{}}')
        gate = McpGate(app, client=client, costs={"requests": 1}, sessions=False)
        for body in (INITIALIZE, PING):
            admitted = await request(gate, body, key=tenant.key)
            assert (admitted.status_code, "ratelimit" in admitted.headers) == (200, True)
        denied = await request(gate, PING, key=tenant.key)
    assert (denied.status_code, denied.json()["code"]) == (429, "QUOTA_EXCEEDED")
    assert int(denied.headers["retry-after"]) >= 1
    assert len(app.requests) == 2


def cost_of_tools(called: McpRequest) -> dict[str, int]:
    return {"mcp.calls": 1} if any(one.get("method") == "tools/call" for one in called.messages) else {}


@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_sdk_client_calls_tools_until_the_quota_is_used_up(service: Service, mode: Mode) -> None:
    server = MCPServer("orders")

    @server.tool()
    async def left() -> str:
        return str([one.remaining for one in current_limits()])

    async with AsyncClient(service.endpoint) as client, AsyncExitStack() as stack:
        tenant = await new_tenant(client)
        await tenant.set_limit(metric="mcp.calls", quota=2)
        policy = Policy({"tools": {"*": {}}})
        app = protect(server.streamable_http_app(), client, policy=policy, costs=cost_of_tools)
        url = await stack.enter_async_context(listening(app))
        headers = {"authorization": f"Bearer {tenant.key}"}
        http = await stack.enter_async_context(httpx2.AsyncClient(headers=headers))
        transport = streamable_http_client(f"{url}/mcp", http_client=http)
        customer = await stack.enter_async_context(Client(transport, mode=mode))
        assert [one.name for one in (await customer.list_tools()).tools] == ["left"]
        results = [await customer.call_tool("left", {}) for _ in range(2)]
        assert "[0]" in str(results[1].content)
        with pytest.raises(MCPError, match="Server returned an error response"):
            await customer.call_tool("left", {})
        assert [one.name for one in (await customer.list_tools()).tools] == ["left"], "it costs nothing"
