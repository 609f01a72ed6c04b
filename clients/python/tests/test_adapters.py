"""The adapters over HTTP, with the real service."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

import httpx2
import pytest
import pytest_asyncio
from fastapi import Depends, FastAPI, Request

from mcp_servers import INITIALIZE, PING, Server, serving
from service import Fleet, Replica, fleet_in
from tenant_auth import AsyncClient, Principal
from tenant_auth.asgi import TenantAuthMiddleware
from tenant_auth.fastapi import RequireTenant
from tenant_auth.proto import admin_pb2

ACCEPT = ("accept", "application/json, text/event-stream")


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet_in(tmp_path_factory.mktemp("adapters")) as fleet:
        yield fleet


@pytest.fixture(scope="module")
def replica(fleet: Fleet) -> Replica:
    return fleet.start()


@pytest_asyncio.fixture
async def client(replica: Replica) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(replica.endpoint) as client:
        yield client


async def issue(client: AsyncClient, tenant: str, *scopes: str) -> tuple[str, str]:
    """Returns the id of a new key, and the key."""
    request = admin_pb2.IssueKeyRequest(tenant_id=tenant, name="test", scopes=scopes)
    issued: Any = await client.raw.admin.IssueKey(request)
    return issued.key.key_id, issued.plaintext


async def revoke(client: AsyncClient, key_id: str) -> None:
    await client.raw.admin.RevokeKey(admin_pb2.RevokeKeyRequest(key_id=key_id, reason="test"))


async def create_tenant(client: AsyncClient, name: str) -> str:
    request = admin_pb2.CreateTenantRequest(tenant_id=name, name=name, plan="free")
    await client.raw.admin.CreateTenant(request)
    return name


def behind_the_middleware(client: AsyncClient, header: str) -> FastAPI:
    app = FastAPI()
    app.add_middleware(TenantAuthMiddleware, client=client, scopes=["demo:read"], header=header)

    @app.get("/")
    async def root(request: Request) -> str:
        return str(request.state.principal.tenant_id)

    return app


def with_the_dependency(client: AsyncClient, header: str) -> FastAPI:
    app = FastAPI()

    @app.get("/")
    async def root(principal: Annotated[Principal, Depends(RequireTenant(client, "demo:read", header=header))]) -> str:
        return principal.tenant_id

    return app


@pytest.mark.parametrize("make", [behind_the_middleware, with_the_dependency])
@pytest.mark.parametrize(("header", "scheme"), [("Authorization", "Bearer "), ("X-API-Key", "")])
async def test_each_kind_of_key_has_its_status(
    client: AsyncClient, fleet: Fleet, make: Any, header: str, scheme: str
) -> None:
    revoked_id, revoked = await issue(client, fleet.tenant, "demo:read")
    _, without_scope = await issue(client, fleet.tenant)
    transport = httpx2.ASGITransport(make(client, header))
    async with httpx2.AsyncClient(transport=transport, base_url="http://api") as http:

        async def get(*values: str) -> tuple[int, str]:
            response = await http.get("/", headers=[(header.encode(), value.encode("latin-1")) for value in values])
            body = response.json()
            return response.status_code, body if isinstance(body, str) else body["code"]

        assert await get(scheme + revoked) == (200, fleet.tenant)
        await revoke(client, revoked_id)
        assert await get(scheme + revoked) == (401, "REVOKED"), "own changes must apply immediately"
        assert await get(scheme + fleet.key) == (200, fleet.tenant)
        assert await get(scheme + fleet.key, scheme + fleet.key) == (400, "AMBIGUOUS_REQUEST")
        assert await get() == (401, "NO_CREDENTIALS")
        assert await get(scheme + without_scope) == (403, "INSUFFICIENT_SCOPE")
        for invalid in ("x" * 40_000, "a b", "~" * 17_000, fleet.key[:-1] + "é"):
            status, _ = await get(scheme + invalid)
            assert status == 401, invalid[:9]


@pytest.mark.parametrize("make", [behind_the_middleware, with_the_dependency])
async def test_key_of_an_office_is_denied_elsewhere(client: AsyncClient, fleet: Fleet, make: Any) -> None:
    request = admin_pb2.IssueKeyRequest(
        tenant_id=fleet.tenant, name="office", scopes=["demo:read"], allowed_networks=["203.0.113.0/24"]
    )
    issued: Any = await client.raw.admin.IssueKey(request)
    app = make(client, "Authorization")
    for peer, expected in (
        (("203.0.113.5", 4711), (200, None)),
        (("198.51.100.7", 4711), (403, "ADDRESS_NOT_ALLOWED")),
        (("testclient", 4711), (403, "ADDRESS_REQUIRED")),
    ):
        transport = httpx2.ASGITransport(app, client=peer)
        async with httpx2.AsyncClient(transport=transport, base_url="http://api") as http:
            headers = {"authorization": f"Bearer {issued.plaintext}", "x-forwarded-for": "203.0.113.5"}
            response = await http.get("/", headers=headers)
        body = response.json()
        assert (response.status_code, body["code"] if isinstance(body, dict) else None) == expected


@pytest_asyncio.fixture
async def server(client: AsyncClient) -> AsyncIterator[Server]:
    async with serving(client) as server:
        yield server
        await server.recorder.close()


async def post(server: Server, body: Any, *headers: tuple[str, str]) -> httpx2.Response:
    async with httpx2.AsyncClient() as http:
        return await http.post(
            server.url,
            json=body,
            headers=[(name.encode(), value.encode("latin-1")) for name, value in (ACCEPT, *headers)],
        )


def bearer(key: str) -> tuple[str, str]:
    return ("authorization", f"Bearer {key}")


async def test_session_belongs_to_tenant_and_ends_with_its_key(
    server: Server, client: AsyncClient, fleet: Fleet
) -> None:
    opener_id, opener = await issue(client, fleet.tenant, "demo:read")
    opened = await post(server, INITIALIZE, bearer(opener))
    session = ("mcp-session-id", opened.headers["mcp-session-id"])
    assert (await post(server, PING, bearer(opener), session)).status_code == 200
    assert (await post(server, PING, bearer(fleet.key), session)).status_code == 200, "another key of the tenant"

    foreign = await create_tenant(client, "foreign")
    _, other = await issue(client, foreign)
    foreign_session = await post(server, PING, bearer(other), session)
    assert (foreign_session.status_code, foreign_session.json()["code"]) == (404, "TENANT_MISMATCH")

    rotated: Any = await client.raw.admin.RotateKey(
        admin_pb2.RotateKeyRequest(key_id=opener_id, overlap={"seconds": 60})  # type: ignore[arg-type]
    )
    assert (await post(server, PING, bearer(rotated.plaintext), session)).status_code == 200, (
        "a rotation must not end the session"
    )

    await revoke(client, opener_id)
    assert (await post(server, PING, bearer(opener), session)).status_code == 401, (
        "the presented key is validated first"
    )
    async with asyncio.timeout(20):
        # The service ends the sessions of a revoked key with a delay.
        while (response := await post(server, PING, bearer(fleet.key), session)).status_code == 200:
            await asyncio.sleep(0.01)
    assert (response.status_code, response.json()["code"]) == (404, "REVOKED")


async def test_unbound_session_is_not_found(server: Server, client: AsyncClient, fleet: Fleet) -> None:
    opened = await post(server, INITIALIZE, bearer(fleet.key))
    session = ("mcp-session-id", opened.headers["mcp-session-id"])
    assert (await post(server, PING, bearer(fleet.key), session)).status_code == 200
    assert await client.unbind_session(session[1], fleet.tenant)
    assert (await post(server, PING, bearer(fleet.key), session)).status_code == 404
    repeated = await post(server, PING, bearer(fleet.key), bearer(fleet.key), session)
    assert (repeated.status_code, repeated.json()["code"]) == (400, "AMBIGUOUS_REQUEST")


async def test_ambiguous_request_opens_no_session(server: Server, client: AsyncClient, fleet: Fleet) -> None:
    before = [session async for session in client.list_sessions(fleet.tenant)]
    for headers in (
        [bearer(fleet.key), bearer("x")],
        [bearer(fleet.key), ("mcp-session-id", "a"), ("mcp-session-id", "a")],
    ):
        response = await post(server, INITIALIZE, *headers)
        assert response.status_code == 400
        assert "mcp-session-id" not in response.headers
    assert [session async for session in client.list_sessions(fleet.tenant)] == before


async def test_request_rejected_by_the_sdk_leaves_no_session(server: Server, client: AsyncClient, fleet: Fleet) -> None:
    before = [session async for session in client.list_sessions(fleet.tenant)]
    assert (await post(server, [INITIALIZE], bearer(fleet.key))).status_code == 400
    async with httpx2.AsyncClient() as http:
        assert (await http.get(server.url, headers=[ACCEPT, bearer(fleet.key)])).status_code == 400
    assert [session async for session in client.list_sessions(fleet.tenant)] == before


async def test_invalid_key_without_session_is_rejected(server: Server, client: AsyncClient, fleet: Fleet) -> None:
    key_id, revoked = await issue(client, fleet.tenant)
    await revoke(client, key_id)
    for headers, code in (
        ([], "NO_CREDENTIALS"),
        ([("authorization", "Basic eDp5")], "NO_CREDENTIALS"),
        ([bearer(revoked)], "REVOKED"),
        ([bearer("unknown-key")], "UNKNOWN"),
        ([bearer("x" * 600)], "MALFORMED"),
    ):
        response = await post(server, INITIALIZE, *headers)
        problem = response.json()
        assert (response.status_code, problem["status"], problem["code"]) == (401, 401, code)
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["cache-control"] == "no-store"
        challenge = "Bearer" if code == "NO_CREDENTIALS" else 'Bearer error="invalid_token"'
        assert response.headers["www-authenticate"] == challenge, "without an authorization server, none is named"


@pytest.mark.parametrize("invalid", ["x" * 1_025, "~" * 129, "a b", "", "é", "mcp-handle:cart_1"])
async def test_malformed_session_id_is_not_an_outage(server: Server, fleet: Fleet, invalid: str) -> None:
    response = await post(server, PING, bearer(fleet.key), ("mcp-session-id", invalid))
    assert (response.status_code, response.headers["cache-control"]) == (404, "no-store")
