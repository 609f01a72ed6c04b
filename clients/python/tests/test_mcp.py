"""The MCP example with the SDK's own client: sessions are bound, calls are checked, usage is recorded."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import grpc
import httpx2
import pytest
import pytest_asyncio
import uvicorn
from mcp import Client
from mcp.client.streamable_http import streamable_http_client
from mcp.server.auth.provider import TokenVerifier
from starlette.applications import Starlette

import mcp_server
from conftest import until
from fake import EVENT_TIMEOUT, Fake
from replies import Failure, answer, session_answer
from service import dev
from tenant_auth import AsyncClient, Options, UsageBucket
from tenant_auth.mcp import SessionBindingMiddleware, TenantTokenVerifier, current_principal, session_id_in

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
HEADERS = {"accept": "application/json, text/event-stream", "authorization": f"Bearer {KEY}"}


class Server:
    """Runs the example on a port."""

    def __init__(self, url: str, recorder: Any) -> None:
        self.url = f"{url}/mcp"
        self.recorder = recorder

    async def post(self, body: dict[str, Any], **headers: str) -> httpx2.Response:
        async with httpx2.AsyncClient() as http:
            return await http.post(self.url, json=body, headers=HEADERS | headers)

    @asynccontextmanager
    async def client(self, mode: Literal["legacy", "auto"], key: str = KEY) -> AsyncIterator[Client]:
        async with AsyncExitStack() as stack:
            http = await stack.enter_async_context(httpx2.AsyncClient(headers={"authorization": f"Bearer {key}"}))
            transport = streamable_http_client(self.url, http_client=http)
            yield await stack.enter_async_context(Client(transport, mode=mode))


@asynccontextmanager
async def serving(client: AsyncClient, *, sessions: bool = True) -> AsyncIterator[Server]:
    listening = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    recorder = client.usage_recorder()
    app = mcp_server.make_app(client, recorder, url, sessions=sessions)
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    task = asyncio.create_task(server.serve([listening]))
    await until(lambda: server.started)
    yield Server(url, recorder)
    server.should_exit = True
    await task
    listening.close()


@pytest_asyncio.fixture
async def server(fake: Fake) -> AsyncIterator[Server]:
    fake.keys[KEY] = answer()
    async with (
        AsyncClient(fake.endpoint, Options(near_cache=None, retry=None)) as client,
        serving(client) as server,
    ):
        yield server
        assert await server.recorder.close() == []


async def test_example_works_with_the_real_service(tmp_path: Path) -> None:
    with dev(tmp_path) as service:
        async with AsyncClient(service.endpoint, Options(timeout=10.0)) as client, serving(client) as server:

            async def sessions() -> list[str]:
                return [session.tenant_id async for session in client.list_sessions(service.tenant)]

            async with server.client("legacy", service.key) as caller:
                assert await sessions() == [service.tenant]
                result = await caller.call_tool("count_words", {"text": "three small words"})
                assert result.structured_content == {"result": 3}
            # The client ended its session. The server passes this on after it has responded.
            async with asyncio.timeout(EVENT_TIMEOUT):
                while await sessions():
                    await asyncio.sleep(0.002)
            assert await server.recorder.close() == []
            now, hours = datetime.now(UTC), timedelta(hours=2)
            sums = client.query_usage(service.tenant, now - hours, now + hours, bucket=UsageBucket.MONTH)
            assert [(one.metric, one.quantity) async for one in sums] == [("words.counted", 3)]


async def test_session_is_bound_and_usage_is_recorded(server: Server, fake: Fake) -> None:
    async with server.client("legacy") as client:
        assert len(fake.bound) == 1
        assert next(iter(fake.bound.values())).tenant_id == "acme"
        result = await client.call_tool("count_words", {"text": "three small words"})
        assert result.structured_content == {"result": 3}
    assert fake.calls["ValidateSession"] >= 1
    # The client ended its session. The server passes this on after it has responded.
    await until(lambda: not fake.bound)
    await server.recorder.flush()
    events = [event for events in fake.usage.values() for event in events]
    assert [(event.tenant_id, event.metric, event.quantity) for event in events] == [("acme", "words.counted", 3)]


async def test_protocol_without_sessions_is_checked_by_key(server: Server, fake: Fake) -> None:
    async with server.client("auto") as client:
        result = await client.call_tool("count_words", {"text": "two words"})
        assert result.structured_content == {"result": 2}
    assert not fake.calls["BindSession"]
    await server.recorder.flush()
    assert fake.usage


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
    requests: list[tuple[str, str | None]] = []

    async def sdk(scope: Any, _receive: Any, send: Any) -> None:
        requests.append((scope["method"], session_id_in(scope)))
        headers = [(b"mcp-session-id", b"s1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b""})

    async with AsyncClient(fake.endpoint, Options(near_cache=None, retry=None)) as client:
        transport = httpx2.ASGITransport(SessionBindingMiddleware(sdk, client=client))
        fake.permanent_failure = Failure(grpc.StatusCode.UNIMPLEMENTED)
        async with httpx2.AsyncClient(transport=transport, base_url="http://mcp") as http:
            response = await http.post("/mcp", headers=HEADERS)
    assert response.status_code == 503
    assert requests == [("POST", None), ("DELETE", "s1")]


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


async def test_verifier_implements_the_sdk_and_hides_the_key(fake: Fake) -> None:
    fake.keys[KEY] = answer()
    async with AsyncClient(fake.endpoint) as client:
        verifier: TokenVerifier = TenantTokenVerifier(client, scopes=["orders:read"], resource="http://me")
        token = await verifier.verify_token(KEY)
        assert token is not None
        assert (token.client_id, token.subject, token.scopes) == ("acme", "acme", ["orders:read"])
        assert (token.token, token.resource) == (KEY, "http://me")
        assert KEY not in repr(token)
        assert await verifier.verify_token("unknown") is None


@pytest.mark.parametrize("ttl", [0, 59.9, float("nan"), 86_401, "1", None])
def test_too_short_ttl_is_rejected(ttl: Any) -> None:
    with pytest.raises((ValueError, TypeError), match="ttl is "):
        SessionBindingMiddleware(Starlette(), client=AsyncClient("127.0.0.1:1"), ttl=ttl)


def test_current_principal_requires_a_request() -> None:
    with pytest.raises(LookupError):
        current_principal()
