"""The customer's address in requests through the adapters."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx2
import pytest
import pytest_asyncio
from fastapi import Depends, FastAPI, Request
from mcp.server.mcpserver import MCPServer

from fake import Fake
from mcp_servers import HEADERS, INITIALIZE, KEY, PING
from replies import answer
from tenant_auth import AsyncClient, Options, Principal
from tenant_auth.asgi import TenantAuthMiddleware
from tenant_auth.fastapi import RequireTenant
from tenant_auth.mcp import protect

PROXY = ("10.0.0.1", 4711)
CUSTOMER = ("203.0.113.5", 4711)
URL = "http://127.0.0.1:8001"


@pytest_asyncio.fixture
async def client(fake: Fake) -> AsyncIterator[AsyncClient]:
    fake.keys[KEY] = answer()
    async with AsyncClient(fake.endpoint, Options(near_cache=None, retry=None)) as client:
        yield client


def behind_the_middleware(client: AsyncClient, **options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(TenantAuthMiddleware, client=client, **options)

    @app.get("/")
    async def root(request: Request) -> Principal:
        principal: Principal = request.state.principal
        return principal

    return app


def with_the_dependency(client: AsyncClient, **options: Any) -> FastAPI:
    app = FastAPI()
    require = RequireTenant(client, **options)

    @app.get("/")
    async def root(principal: Annotated[Principal, Depends(require)]) -> Principal:
        return principal

    return app


def requests_from(app: Any, peer: tuple[str, int]) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app, client=peer)
    return httpx2.AsyncClient(transport=transport, base_url=URL, headers=HEADERS)


@pytest.mark.parametrize("make", [behind_the_middleware, with_the_dependency])
@pytest.mark.parametrize(
    ("peer", "options", "headers", "address"),
    [
        (CUSTOMER, {}, [], "203.0.113.5"),
        (CUSTOMER, {"trusted_proxies": "10.0.0.0/8"}, [("X-Forwarded-For", "192.0.2.9")], "203.0.113.5"),
        (PROXY, {}, [("X-Forwarded-For", "203.0.113.5")], "10.0.0.1"),
        (PROXY, {"trusted_proxies": ["10.0.0.0/8"]}, [("X-Forwarded-For", "192.0.2.9, 203.0.113.5")], "203.0.113.5"),
        (
            PROXY,
            {"trusted_proxies": ["10.0.0.0/8"]},
            [("X-Forwarded-For", "192.0.2.9, 203.0.113.5"), ("X-Forwarded-For", "10.0.0.2")],
            "203.0.113.5",
        ),
        (PROXY, {"trusted_proxies": ["10.0.0.1"]}, [("X-Forwarded-For", "unknown")], ""),
        (PROXY, {"trusted_proxies": ["10.0.0.1"]}, [], ""),
        (
            PROXY,
            {"trusted_proxies": ["10.0.0.1"], "client_address_header": "CF-Connecting-IP"},
            [("X-Forwarded-For", "192.0.2.9"), ("CF-Connecting-IP", "2001:db8::5")],
            "2001:db8::5",
        ),
        (("testclient", 50_000), {}, [], ""),
    ],
)
async def test_adapter_sends_the_customers_address(
    client: AsyncClient,
    fake: Fake,
    make: Any,
    peer: tuple[str, int],
    options: dict[str, Any],
    headers: list[tuple[str, str]],
    address: str,
) -> None:
    async with requests_from(make(client, **options), peer) as http:
        assert (await http.get("/", headers=headers)).status_code == 200
    assert [request.client_address for request in fake.requests] == [address]


@pytest.mark.parametrize("make", [behind_the_middleware, with_the_dependency])
async def test_cached_key_is_denied_outside_its_networks(fake: Fake, make: Any) -> None:
    fake.keys[KEY] = answer(allowed_networks=["203.0.113.0/24"])
    async with AsyncClient(fake.endpoint) as client:
        app = make(client)
        for peer, status, code in (
            (CUSTOMER, 200, None),
            (PROXY, 403, "ADDRESS_NOT_ALLOWED"),
            (("testclient", 50_000), 403, "ADDRESS_REQUIRED"),
        ):
            async with requests_from(app, peer) as http:
                response = await http.get("/")
            assert (response.status_code, response.json().get("code")) == (status, code)
            assert "www-authenticate" not in response.headers
    assert fake.calls["ValidateKey"] == 1


@pytest.mark.parametrize(
    "options", [{"trusted_proxies": "proxy"}, {"trusted_proxies": 5}, {"client_address_header": "a b"}]
)
def test_invalid_adapter_option_is_rejected(client: AsyncClient, options: dict[str, Any]) -> None:
    (name,) = options
    for make in (
        lambda: TenantAuthMiddleware(FastAPI(), client=client, **options),
        lambda: RequireTenant(client, **options),
        lambda: protect(FastAPI(), client, **options),
    ):
        with pytest.raises((ValueError, TypeError), match=f"^{name} "):
            make()


def mcp_app(client: AsyncClient, **options: Any) -> Any:
    server = MCPServer("test")
    return protect(server.streamable_http_app(), client, **options)


async def test_mcp_requests_carry_the_customers_address(client: AsyncClient, fake: Fake) -> None:
    app = mcp_app(client, trusted_proxies="10.0.0.0/8")
    forwarded = {"x-forwarded-for": "192.0.2.9, 203.0.113.5"}
    async with app.router.lifespan_context(app), requests_from(app, PROXY) as http:
        opened = await http.post("/mcp", json=INITIALIZE, headers=forwarded)
        session = {"mcp-session-id": opened.headers["mcp-session-id"]}
        assert (await http.post("/mcp", json=PING, headers=forwarded | session)).status_code == 200
    assert {name for name in fake.calls if name != "Watch"} == {"ValidateKey", "BindSession", "ValidateSession"}
    assert {request.client_address for request in fake.requests} == {"203.0.113.5"}


async def test_mcp_session_continues_after_a_denied_address(fake: Fake) -> None:
    fake.keys[KEY] = answer(allowed_networks=["203.0.113.0/24"])
    async with AsyncClient(fake.endpoint, Options(retry=None)) as client:
        app = mcp_app(client)
        async with app.router.lifespan_context(app):
            async with requests_from(app, PROXY) as http:
                rejected = await http.post("/mcp", json=INITIALIZE)
                assert (rejected.status_code, rejected.json()["code"]) == (403, "ADDRESS_NOT_ALLOWED")
                assert not fake.bound
            async with requests_from(app, CUSTOMER) as http:
                opened = await http.post("/mcp", json=INITIALIZE)
                session = {"mcp-session-id": opened.headers["mcp-session-id"]}
            for peer, status in ((PROXY, 403), (("testclient", 1), 403), (CUSTOMER, 200)):
                async with requests_from(app, peer) as http:
                    assert (await http.post("/mcp", json=PING, headers=session)).status_code == status
