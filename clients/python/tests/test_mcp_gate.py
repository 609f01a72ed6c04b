"""The gate in front of an MCP server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import pytest
import pytest_asyncio
from mcp.server.auth.middleware.auth_context import get_access_token
from mcp.server.mcpserver import MCPServer

from fake import Fake
from mcp_gates import App, call, request
from mcp_servers import ACCEPT, INITIALIZE, KEY, META, STATELESS, listening
from replies import answer, session_answer
from tenant_auth import AsyncClient, Options, RecorderOptions
from tenant_auth.mcp import McpGate, Policy, current_principal, protect

POLICY = Policy({"tools": {"list_orders": {"scopes": ["orders:read"]}, "refund_order": {"scopes": ["admin"]}}})
OTHER = "ta_canary_of_globex"


@pytest_asyncio.fixture
async def client(fake: Fake) -> AsyncIterator[AsyncClient]:
    fake.keys[KEY] = answer(scopes=["orders:read"])
    fake.keys[OTHER] = answer(tenant_id="globex", key_id="key_2", scopes=["orders:read"])
    async with AsyncClient(fake.endpoint, Options(near_cache=None, retry=None)) as client:
        yield client


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": name, "arguments": {}} | more}


async def test_session_headers_mean_nothing_in_a_stateless_revision(client: AsyncClient, fake: Fake) -> None:
    app = App(b"{}", mcp_session_id="made by the server", other="kept")
    gate = McpGate(app, client=client, policy=POLICY)
    for version in (STATELESS, "2027-01-01", "latest", "2025-11-25 ", "2025-03-26, 2026-07-28"):
        meta = {"io.modelcontextprotocol/protocolVersion": version}
        got = await request(
            gate,
            tool("list_orders", _meta=meta),
            mcp_protocol_version=version,
            mcp_method="tools/call",
            mcp_name="list_orders",
            mcp_session_id="s1",
            last_event_id="7",
        )
        assert got.status_code == 200
        assert "mcp-session-id" not in got.headers
        assert got.headers["other"] == "kept"
        assert not {"mcp-session-id", "last-event-id"} & app.requests[-1].keys()
    assert not fake.calls["ValidateSession"]
    assert not fake.calls["BindSession"]


async def test_body_over_the_limit_is_too_large(client: AsyncClient) -> None:
    app = App()
    gate = McpGate(app, client=client, policy=POLICY, max_body_size=1_000)
    for size, status in ((900, 200), (1_001, 413)):
        body = json.dumps(tool("list_orders")).encode().ljust(size)
        assert (await request(gate, body)).status_code == status

    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b" " * 400

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(gate), base_url="http://mcp") as http:
        got = await http.post("/mcp", content=chunks(), headers={"authorization": f"Bearer {KEY}"})
    assert (got.status_code, got.json()["code"]) == (413, "BODY_TOO_LARGE")
    assert len(app.requests) == 1
    assert (await request(McpGate(app, client=client, max_body_size=5), b" " * 9)).status_code == 200, "it is not read"


async def test_client_that_leaves_while_it_sends_is_forgotten(client: AsyncClient) -> None:
    sent: list[Any] = []
    messages = [{"type": "http.disconnect"}, {"type": "http.request", "body": b"{", "more_body": True}]

    async def receive() -> Any:
        return messages.pop()

    async def send(message: Any) -> None:
        sent.append(message)

    app = App()
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/mcp",
        "headers": [(b"authorization", f"Bearer {KEY}".encode())],
    }
    await McpGate(app, client=client, policy=POLICY)(scope, receive, send)
    assert not sent
    assert not app.requests


async def test_application_gets_the_bytes_that_were_decided(client: AsyncClient) -> None:
    app = App()
    body = json.dumps(tool("list_orders"), indent=4).encode()
    await request(McpGate(app, client=client, policy=POLICY), body)
    assert app.bodies == [body]


@pytest.mark.parametrize(
    "body",
    [
        b"\xff{}",
        b"[NaN]",
        b"{}{}",
        b'{"a":' + b"[" * 50_000,
        "{}".encode("utf-16"),
        b"\xef\xbb\xbf{}",
        b"",
        b"1" * 5_000,
    ],
)
async def test_what_parsers_may_read_differently_is_no_json(client: AsyncClient, body: bytes) -> None:
    got = await request(McpGate(App(), client=client, policy=POLICY), body)
    assert (got.status_code, got.json()["error"]["code"], got.json()["id"]) == (400, -32700, None)


async def test_errors_have_the_id_of_their_request(client: AsyncClient) -> None:
    gate = McpGate(App(), client=client, policy=POLICY)
    for given, returned in (("a", "a"), (5, 5), (1.5, 1.5), (None, None), ([1], None), (True, None)):
        body: Any = {"jsonrpc": "2.0", "id": given, "method": "tools/call", "params": {}}
        error = (await request(gate, body)).json()
        assert (error["id"], error["error"]["code"]) == (returned, -32602)
    for content in (5, "text", None, [5], [[tool("list_orders")]], {"method": 5}):
        got = await request(gate, json.dumps(content).encode())
        assert (got.status_code, got.json()["error"]["code"]) == (400, -32600)


async def test_header_mismatch_never_runs_a_tool(client: AsyncClient) -> None:
    ran: list[str] = []
    server = MCPServer("test")

    @server.tool()
    async def list_orders() -> str:
        ran.append("list_orders")
        return "ok"

    @server.tool()
    async def refund_order() -> str:
        ran.append("refund_order")
        return "ok"

    app = protect(server.streamable_http_app(), client, policy=Policy({"tools": {"*": {}}}))
    async with listening(app) as url, httpx2.AsyncClient() as http:

        async def post(body: Any, method: str, name: str) -> httpx2.Response:
            headers = {"mcp-protocol-version": STATELESS, "mcp-method": method, "mcp-name": name}
            return await http.post(
                f"{url}/mcp", json=body, headers=ACCEPT | {"authorization": f"Bearer {KEY}"} | headers
            )

        body = tool("refund_order", _meta=META)
        for method, name in (("tools/call", "list_orders"), ("tools/list", ""), ("Tools/call", "refund_order")):
            got = await post(body, method, name)
            assert (got.status_code, got.json()["error"]["code"], got.json()["id"]) == (400, -32020, 1)
        assert not ran
        assert (await post(body, "tools/call", "refund_order")).status_code == 200
        assert ran == ["refund_order"]


@pytest.mark.parametrize(
    "options",
    [
        {"resource": "https://mcp.example/mcp"},
        {"authorization_servers": ["https://login.example"]},
        {"resource": "mcp.example", "authorization_servers": "https://login.example"},
        {"resource": "https://mcp.example/mcp#x", "authorization_servers": "https://login.example"},
        {"resource": "https://mcp.example/mcp", "authorization_servers": "login"},
        {"key_headers": ()},
        {"key_headers": "a b"},
        {"max_body_size": 0},
        {"undecided_for": 0},
        {"filter_lists": "yes"},
        {"sessions": 1},
        {"preflight": None},
        {"exempt": "healthz"},
        {"ttl": 59},
        {"recorder": object()},
    ],
)
async def test_invalid_gate_option_is_rejected_at_once(client: AsyncClient, options: dict[str, Any]) -> None:
    app = MCPServer("test").streamable_http_app()
    with pytest.raises((ValueError, TypeError), match="resource|authorization_servers|header|" + next(iter(options))):
        protect(app, client, **options)


async def test_only_exempt_paths_need_no_key(client: AsyncClient) -> None:
    gate = McpGate(App(), client=client, exempt="/healthz")
    for path, status in (("/healthz", 200), ("/healthz/", 401), ("/mcp", 401), ("/", 401)):
        assert (await request(gate, method="GET", path=path, key=None)).status_code == status


async def test_websocket_is_refused(client: AsyncClient) -> None:
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "websocket", "path": "/mcp", "headers": [(b"authorization", f"Bearer {KEY}".encode())]}
    app = App()
    await McpGate(app, client=client)(scope, receive, send)
    assert [message["type"] for message in sent] == ["websocket.close"]
    assert not app.requests


@pytest.mark.parametrize("closed", [True, False])
async def test_usage_that_cannot_be_recorded_is_an_outage(fake: Fake, closed: bool) -> None:
    fake.keys[KEY] = answer()
    app = App()
    policy = Policy({"tools": {"list_orders": {"usage": {"metric": "mcp.tool_calls"}}}})
    async with AsyncClient(fake.endpoint, Options(retry=None)) as client:
        recorder = client.usage_recorder(RecorderOptions(batch_size=1, max_events=1))
        gate = McpGate(app, client=client, policy=policy, recorder=recorder)
        await client.validate_key(KEY)
        if closed:
            await recorder.close()
        else:
            # The event stays in the queue until the service responds.
            fake.responding.clear()
            recorder.record("acme", "other", 1)
        got = await request(gate, tool("list_orders"))
        assert (got.status_code, got.json()["code"], got.headers["retry-after"]) == (503, "UNDECIDED", "1")
        assert not app.requests
        fake.responding.set()
        await recorder.close()


async def test_session_belongs_to_its_tenant_in_the_sdk_too(client: AsyncClient) -> None:
    # Without the bindings, the SDK is the only one who checks.
    app = protect(MCPServer("test").streamable_http_app(), client, sessions=False)
    async with listening(app) as url, httpx2.AsyncClient() as http:

        async def post(key: str, body: Any, **headers: str) -> httpx2.Response:
            given = ACCEPT | {"authorization": f"Bearer {key}"} | headers
            return await http.post(f"{url}/mcp", json=body, headers=given)

        session = (await post(KEY, INITIALIZE)).headers["mcp-session-id"]
        ping = {"jsonrpc": "2.0", "id": 2, "method": "ping"}
        assert (await post(KEY, ping, **{"mcp-session-id": session})).status_code == 200
        assert (await post(OTHER, ping, **{"mcp-session-id": session})).status_code == 404


async def test_tool_knows_its_principal_but_not_its_key(client: AsyncClient, fake: Fake) -> None:
    seen: list[Any] = []

    def look() -> None:
        seen.append((current_principal(), get_access_token()))

    app = App()
    app.on_request = look
    fake.sessions["s1"] = session_answer()
    await request(McpGate(app, client=client), INITIALIZE, mcp_session_id="s1")
    (principal, token) = seen[0]
    assert (principal.tenant_id, principal.key_id, principal.scopes) == ("acme", "key_1", ("orders:read",))
    assert (token.client_id, token.subject, token.scopes) == ("acme", "acme", ["orders:read"])
    assert KEY not in f"{principal} {token!r} {token.model_dump()} {app.scopes[0]['state']} {app.scopes[0]['user']}"
    assert get_access_token() is None
    with pytest.raises(LookupError):
        current_principal()


async def test_stateless_batch_and_response_are_no_message(client: AsyncClient) -> None:
    gate = McpGate(App(), client=client, policy=POLICY)
    headers = {"mcp_protocol_version": STATELESS}
    for body, code in (
        ([tool("list_orders", _meta=META)], -32600),
        ({"jsonrpc": "2.0", "id": 1, "result": {}}, -32600),
    ):
        got = await request(gate, body, **headers)
        assert (got.status_code, got.json()["error"]["code"]) == (400, code)


async def test_method_that_a_stateless_revision_lacks_is_left_to_the_server(client: AsyncClient) -> None:
    gate = McpGate(App(), client=client, policy=Policy({"resources": {"orders://*": {}}}))
    assert (await call(gate, "resources/subscribe")).status_code == 200
    got = await call(gate, "resources/subscribe", {"uri": "file:///x"})
    assert (got.status_code, got.json()["code"]) == (403, "NOT_IN_POLICY"), "a server may serve it all the same"
