"""Handles of MCP servers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import httpx2
import pytest
import pytest_asyncio
from mcp.server.mcpserver import MCPServer

from fake import Fake
from mcp_gates import App, request
from mcp_servers import ACCEPT, INITIALIZE, KEY, META, STATELESS, listening
from replies import Failure, answer, session_answer
from service import Fleet, Replica, fleet_in
from tenant_auth import AsyncClient, DeniedError, Options, SessionExpiry, UnavailableError
from tenant_auth.mcp import Handles, McpGate, UnknownHandleError, protect
from tenant_auth.mcp._context import CURRENT
from tenant_auth.proto import admin_pb2

UNKNOWN = {"code": -32602, "message": "unknown handle"}


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet_in(tmp_path_factory.mktemp("handles")) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def replica(fleet: Fleet) -> Replica:
    return fleet.start()


async def issue(client: AsyncClient, tenant: str) -> tuple[str, str]:
    issued: Any = await client.raw.admin.IssueKey(admin_pb2.IssueKeyRequest(tenant_id=tenant, name="test"))
    return issued.key.key_id, issued.plaintext


class Carts:
    """Calls the tools of a server whose carts have handles."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def call(self, tool: str, key: str, **arguments: str) -> Any:
        params = {"name": tool, "arguments": arguments, "_meta": META}
        body = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
        headers = {"mcp-protocol-version": STATELESS, "mcp-method": "tools/call", "mcp-name": tool}
        async with httpx2.AsyncClient() as http:
            given = ACCEPT | headers | {"authorization": f"Bearer {key}"}
            reply = (await http.post(self._url, json=body, headers=given)).json()
        return reply["error"] if "error" in reply else reply["result"]["structuredContent"]["result"]


@asynccontextmanager
async def carts(client: AsyncClient) -> AsyncIterator[Carts]:
    server, handles = MCPServer("carts"), Handles(client)

    @server.tool()
    async def open_cart() -> str:
        return await handles.mint("cart")

    @server.tool()
    async def look_into(cart: str, kind: str = "cart") -> str:
        return (await handles.require(cart, kind)).tenant_id

    @server.tool()
    async def close_cart(cart: str) -> bool:
        return await handles.release(cart, "cart")

    async with listening(protect(server.streamable_http_app(), client)) as url:
        yield Carts(f"{url}/mcp")


async def test_handle_belongs_to_its_tenant(fleet: Fleet, replica: Replica) -> None:
    async with AsyncClient(replica.endpoint, Options(timeout=10.0)) as client, carts(client) as server:
        await client.raw.admin.CreateTenant(admin_pb2.CreateTenantRequest(tenant_id="globex", name="g", plan="free"))
        opener_id, opener = await issue(client, fleet.tenant)
        _, other = await issue(client, fleet.tenant)
        _, foreign = await issue(client, "globex")
        cart = await server.call("open_cart", opener)
        assert re.fullmatch(r"cart_[A-Za-z0-9_-]{43}", cart)
        for key in (opener, other):
            assert await server.call("look_into", key, cart=cart) == fleet.tenant
        unknown = [
            await server.call("look_into", foreign, cart=cart),
            await server.call("look_into", opener, cart=cart, kind="order"),
            await server.call("look_into", opener, cart=cart[:-1]),
            await server.call("look_into", opener, cart=f"cart_{'x' * 43}"),
            await server.call("look_into", opener, cart=""),
        ]
        assert await server.call("close_cart", foreign, cart=cart) is False
        assert await server.call("look_into", opener, cart=cart) == fleet.tenant
        assert [await server.call("close_cart", other, cart=cart) for _ in range(2)] == [True, False]
        unknown.append(await server.call("look_into", opener, cart=cart))
        second = await server.call("open_cart", opener)
        await client.raw.admin.RevokeKey(admin_pb2.RevokeKeyRequest(key_id=opener_id, reason="test"))
        unknown.append(await server.call("look_into", other, cart=second))
        assert unknown == [UNKNOWN] * 7


async def test_handle_is_no_session(fleet: Fleet, replica: Replica) -> None:
    async with AsyncClient(replica.endpoint, Options(timeout=10.0)) as client, carts(client) as server:
        cart = await server.call("open_cart", fleet.key)
        bound = [session async for session in client.list_sessions(fleet.tenant)]
        assert [(one.session_id, one.attributes, one.expiry) for one in bound if cart in one.session_id] == [
            (f"mcp-handle:{cart}", {"kind": "cart"}, SessionExpiry.SLIDING)
        ]
        gate = McpGate(App(), client=client)
        for session_id in (f"mcp-handle:{cart}", cart):
            got = await request(gate, INITIALIZE, key=fleet.key, mcp_session_id=session_id)
            assert got.status_code == 404


@pytest_asyncio.fixture
async def handles(fake: Fake) -> AsyncIterator[Handles]:
    """Handles within a request."""
    fake.keys[KEY] = answer()
    async with AsyncClient(fake.endpoint, Options(near_cache=None, retry=None)) as client:
        token = CURRENT.set(await client.require_key(KEY))
        yield Handles(client)
        CURRENT.reset(token)


async def test_malformed_handle_is_unknown_without_a_call(handles: Handles, fake: Fake) -> None:
    for text in ("", "cart_", f"order_{'x' * 43}", f"cart_{'x' * 42}", f"cart_{'x' * 44}", f"cart_{'é' * 43}", 5, None):
        with pytest.raises(UnknownHandleError):
            await handles.require(text, "cart")  # type: ignore[arg-type]
        assert not await handles.release(text, "cart")  # type: ignore[arg-type]
    assert fake.calls.keys() == {"ValidateKey"}


async def test_undecided_handle_is_not_unknown(handles: Handles, fake: Fake) -> None:
    fake.permanent_failure = Failure(grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(UnavailableError):
        await handles.mint("cart")
    with pytest.raises(UnavailableError):
        await handles.require(f"cart_{'x' * 43}", "cart")
    with pytest.raises(UnavailableError):
        await handles.release(f"cart_{'x' * 43}", "cart")


@pytest.mark.parametrize("verdict", [4, 5, 6, 8, 10, 11, 12, 13, 14, 15, 99])
async def test_denied_handle_is_unknown_whatever_the_reason(handles: Handles, fake: Fake, verdict: int) -> None:
    handle = f"cart_{'x' * 43}"
    fake.sessions[f"mcp-handle:{handle}"] = session_answer(verdict)
    with pytest.raises(UnknownHandleError):
        await handles.require(handle, "cart")
    for session in (session_answer(attributes={"kind": "order"}), session_answer(tenant_id="globex"), session_answer()):
        fake.sessions[f"mcp-handle:{handle}"] = session
        with pytest.raises(UnknownHandleError):
            await handles.require(handle, "cart")
    fake.keys[KEY] = answer(5)
    fake.sessions[f"mcp-handle:{handle}"] = session_answer(verdict)
    with pytest.raises(DeniedError, match="REVOKED"):
        await handles.require(handle, "cart")
    with pytest.raises(DeniedError, match="REVOKED"):
        await handles.mint("cart")


async def test_invalid_handle_arguments_are_rejected(handles: Handles) -> None:
    for kind in ("", "Cart", "1", "a" * 33, "a b", "mcp-handle:x"):
        with pytest.raises(ValueError, match="kind is"):
            await handles.mint(kind)
    with pytest.raises(TypeError, match="kind is int"):
        await handles.require("x", 5)  # type: ignore[arg-type]
    for ttl in (59, 86_401):
        with pytest.raises(ValueError, match="ttl is"):
            Handles(handles._client, ttl=ttl)
    assert (await handles.mint("a-kind_2")).startswith("a-kind_2_")


def test_handle_outside_of_a_request_is_an_error() -> None:
    async def mint() -> None:
        await Handles(AsyncClient("127.0.0.1:1")).mint("cart")

    with pytest.raises(LookupError, match="not admitted by an McpGate"):
        asyncio.run(mint())
