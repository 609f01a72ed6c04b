"""Challenges, and the metadata of the protected resource."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
import pytest_asyncio
from mcp.server.mcpserver import MCPServer

from fake import Fake
from mcp_gates import App, request
from mcp_servers import INITIALIZE, KEY, listening
from replies import answer
from tenant_auth import AsyncClient, Options
from tenant_auth.mcp import McpGate, Policy, protect

POLICY = Policy({"tools": {"list_orders": {"scopes": ["orders:read"]}, "refund_order": {"scopes": ["admin"]}}})


@pytest_asyncio.fixture
async def client(fake: Fake) -> AsyncIterator[AsyncClient]:
    fake.keys[KEY] = answer(scopes=["orders:read"])
    async with AsyncClient(fake.endpoint, Options(near_cache=None, retry=None)) as client:
        yield client


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": {}} | more}


async def test_no_oauth_is_offered_without_an_authorization_server(client: AsyncClient, fake: Fake) -> None:
    server = MCPServer("test")
    fake.keys["revoked"] = answer(5)
    app = protect(server.streamable_http_app(), client, policy=POLICY)
    async with listening(app) as url, httpx2.AsyncClient() as http:
        responses = [
            await http.get(f"{url}/.well-known/oauth-protected-resource"),
            await http.get(f"{url}/.well-known/oauth-protected-resource/mcp"),
            await http.get(f"{url}/.well-known/oauth-authorization-server"),
            await http.post(f"{url}/mcp", json=INITIALIZE),
            await http.post(f"{url}/mcp", json=INITIALIZE, headers={"authorization": "Bearer revoked"}),
            await http.post(f"{url}/mcp", json=tool("refund_order"), headers={"authorization": f"Bearer {KEY}"}),
        ]
    assert [one.status_code for one in responses] == [404, 404, 404, 401, 401, 403]
    for response in responses:
        text = f"{response.headers} {response.text}".lower()
        assert not any(word in text for word in ("oauth", "resource_metadata", "authorization_server"))
    assert [one.headers.get("www-authenticate") for one in responses[3:]] == [
        "Bearer",
        'Bearer error="invalid_token"',
        'Bearer error="insufficient_scope", scope="admin"',
    ]


@pytest.mark.parametrize(
    ("resource", "path"),
    [
        ("https://mcp.example/mcp", "/.well-known/oauth-protected-resource/mcp"),
        ("https://mcp.example", "/.well-known/oauth-protected-resource"),
        ("https://mcp.example/", "/.well-known/oauth-protected-resource"),
        ("https://mcp.example:8443/a/b/", "/.well-known/oauth-protected-resource/a/b/"),
    ],
)
async def test_metadata_of_the_resource_is_served_if_configured(
    client: AsyncClient, fake: Fake, resource: str, path: str
) -> None:
    servers = ["https://login.example"]
    gate = McpGate(App(), client=client, policy=POLICY, resource=resource, authorization_servers=servers)
    got = await request(gate, method="GET", path=path, key=None)
    assert (got.status_code, got.headers["content-type"]) == (200, "application/json")
    assert got.json() == {
        "resource": resource,
        "authorization_servers": servers,
        "bearer_methods_supported": ["header"],
        "scopes_supported": ["admin", "orders:read"],
    }
    for other in (path + "/x", "/.well-known/oauth-authorization-server"):
        assert (await request(gate, method="GET", path=other, key=None)).status_code == 404
    parts = urlsplit(resource)
    metadata = f'resource_metadata="{parts.scheme}://{parts.netloc}{path}"'
    fake.keys["revoked"] = answer(5)
    for key, body, challenge in (
        (None, INITIALIZE, f"Bearer {metadata}"),
        ("revoked", INITIALIZE, f'Bearer error="invalid_token", {metadata}'),
        (KEY, tool("refund_order"), f'Bearer error="insufficient_scope", scope="admin", {metadata}'),
    ):
        assert (await request(gate, body, key=key)).headers["www-authenticate"] == challenge
    assert "www-authenticate" not in (await request(gate, tool("other"))).headers
