"""Lists contain only what a key may use."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio

from fake import Fake
from mcp_gates import EVENTS, JSON, App, call, request
from mcp_servers import KEY
from replies import answer
from tenant_auth import AsyncClient
from tenant_auth.mcp import McpGate, Policy

POLICY = Policy(
    {
        "tools": {"mine": {"scopes": ["orders:read"]}, "theirs": {"scopes": ["admin"]}},
        "resources": {"orders://*": {"scopes": ["orders:read"]}, "orders://secret/*": {"scopes": ["admin"]}},
        "prompts": {"*": {}},
        "methods": {"prompts/get": {"scopes": ["prompts"]}},
    }
)
TOOLS = {"tools": [{"name": "theirs"}, {"name": "mine", "title": "größe"}, {"name": "unknown"}, {"no": "name"}, 5]}
FILTERED = {"tools": [{"name": "mine", "title": "größe"}]}


@pytest_asyncio.fixture
async def client(fake: Fake) -> AsyncIterator[AsyncClient]:
    fake.keys[KEY] = answer(scopes=["orders:read"])
    async with AsyncClient(fake.endpoint) as client:
        yield client


def response(result: Any, message_id: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": message_id, "result": result}


def listing(method: str, message_id: Any = 1) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": message_id, "method": method}


def event(message: Any, end: str = "\n") -> bytes:
    return f"event: message{end}id: 7{end}data: {json.dumps(message)}{end}{end}".encode()


@pytest.mark.parametrize(
    ("method", "result", "expected"),
    [
        (
            "tools/list",
            TOOLS | {"nextCursor": "c", "_meta": {"a": 1}},
            FILTERED | {"nextCursor": "c", "_meta": {"a": 1}},
        ),
        ("tools/list", TOOLS | {"cacheScope": "public", "ttlMs": 5}, FILTERED | {"cacheScope": "private", "ttlMs": 5}),
        ("tools/list", {"tools": None}, {"tools": []}),
        (
            "resources/list",
            {"resources": [{"uri": "orders://1"}, {"uri": "orders://secret/1"}, {"uri": "file:///x"}]},
            {"resources": [{"uri": "orders://1"}]},
        ),
        (
            "resources/templates/list",
            {"resourceTemplates": [{"uriTemplate": "orders://{id}"}, {"uriTemplate": "orders://secret/{id}"}]},
            {"resourceTemplates": [{"uriTemplate": "orders://{id}"}]},
        ),
        ("prompts/list", {"prompts": [{"name": "any"}]}, {"prompts": []}),
    ],
)
@pytest.mark.parametrize("stateless", [True, False])
@pytest.mark.parametrize("kind", [JSON, EVENTS])
async def test_list_has_what_the_key_may_use(
    client: AsyncClient, method: str, result: Any, expected: Any, stateless: bool, kind: str
) -> None:
    body = json.dumps(response(result)).encode() if kind == JSON else event(response(result))
    app = App(body[:20], body[20:], kind=kind, content_length=str(len(body))) if kind == JSON else App(body, kind=kind)
    gate = McpGate(app, client=client, policy=POLICY)
    got = await (call(gate, method) if stateless else request(gate, listing(method)))
    assert got.status_code == 200
    text = got.text if kind == JSON else got.text.partition("data: ")[2]
    assert json.loads(text) == response(expected)
    assert list(json.loads(text)["result"]) == list(expected), "the order stays"
    if kind == JSON:
        assert got.headers["content-length"] == str(len(got.content))
    else:
        assert got.text.startswith("event: message\r\nid: 7\r\ndata: ")


async def test_batch_is_filtered_by_request(client: AsyncClient) -> None:
    other = {"tools": [{"name": "a tool's own result"}]}
    app = App(json.dumps([response(TOOLS, "a"), response(other, 2), response(TOOLS, 3)]).encode())
    gate = McpGate(app, client=client, policy=POLICY)
    tool = {"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "mine"}}
    got = await request(gate, [listing("tools/list", "a"), tool, listing("tools/list", 3)])
    assert [one["result"] for one in got.json()] == [FILTERED, other, FILTERED]


async def test_other_responses_are_untouched(client: AsyncClient) -> None:
    raw = b'{ "jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "theirs"}]} }'
    for app, body in (
        (App(raw), {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "mine"}}),
        (App(b'{"jsonrpc":"2.0","id":1,"error":{"code":-32603,"message":"no"}}'), listing("tools/list")),
        (App(b"no JSON", status=500), listing("tools/list")),
        (App(b"plain", kind="text/plain"), listing("tools/list")),
    ):
        gate = McpGate(app, client=client, policy=POLICY)
        got = await request(gate, body)
        assert (got.status_code, got.content) == (app.status, app.chunks[0])
    for options in ({"policy": POLICY, "filter_lists": False}, {}):
        gate = McpGate(App(raw), client=client, **options)  # type: ignore[arg-type]
        assert (await request(gate, listing("tools/list"))).content == raw


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
async def test_events_are_sent_when_they_are_complete(client: AsyncClient, end: str) -> None:
    progress = event({"jsonrpc": "2.0", "method": "notifications/progress", "params": {}}, end)
    result = event(response(TOOLS), end)
    comment, priming = f": ping{end}{end}".encode(), f"id: 1{end}data: {end}{end}".encode()
    sent: list[bytes] = []

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", EVENTS.encode())]})
        for number, chunk in enumerate((comment, priming, progress, result[:30], result[30:])):
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            assert len(sent) == (1, 2, 3, 3, 4)[number]
        await send({"type": "http.response.body", "body": b""})

    gate = McpGate(app, client=client, policy=POLICY)
    messages = [{"type": "http.request", "body": json.dumps(listing("tools/list")).encode(), "more_body": False}]

    async def receive() -> Any:
        return messages.pop() if messages else {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        if message.get("body"):
            sent.append(message["body"])

    headers = [(b"authorization", f"Bearer {KEY}".encode())]
    await gate({"type": "http", "method": "POST", "path": "/mcp", "headers": headers}, receive, send)
    assert sent[:3] == [comment, priming, progress]
    assert json.loads(sent[3].partition(b"data: ")[2]) == response(FILTERED)


async def test_event_that_the_stream_does_not_end_is_filtered(client: AsyncClient) -> None:
    lines = json.dumps(response(TOOLS), indent=1).splitlines()
    app = App("".join(f"data: {line}\n" for line in lines).rstrip("\n").encode(), kind=f"{EVENTS}; charset=utf-8")
    got = await request(McpGate(app, client=client, policy=POLICY), listing("tools/list"))
    assert json.loads(got.text.removeprefix("data: ")) == response(FILTERED)


async def test_repeated_responses_of_a_get_stream_are_filtered(client: AsyncClient) -> None:
    app = App(event(response(TOOLS, 99)), kind=EVENTS)
    gate = McpGate(app, client=client, policy=POLICY)
    got = await request(gate, method="GET", last_event_id="7")
    assert json.loads(got.text.partition("data: ")[2]) == response(FILTERED, 99)
    assert app.requests[0]["last-event-id"] == "7"


async def test_list_that_cannot_be_filtered_is_not_sent(client: AsyncClient) -> None:
    for app in (
        App(b"compressed", content_encoding="gzip"),
        App(b"no JSON"),
        App(b"[" * 100_000),
    ):
        got = await request(McpGate(app, client=client, policy=POLICY), listing("tools/list"), accept_encoding="gzip")
        assert (got.status_code, got.json()["code"]) == (502, "BAD_LIST")
        assert "accept-encoding" not in app.requests[0]
    app = App(b"data: no JSON\n\n", b": ping\n\n", kind=EVENTS)
    got = await request(McpGate(app, client=client, policy=POLICY), listing("tools/list"))
    assert got.text == ": ping\n\n"
