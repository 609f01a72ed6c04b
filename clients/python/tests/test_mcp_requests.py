"""The shared MCP requests, and what the gate does with them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from fake import Fake
from replies import answer, session_answer
from tenant_auth import AsyncClient, AsyncUsageRecorder, Options, RecorderOptions
from tenant_auth.mcp import McpGate, Policy

VECTORS = json.loads(
    (Path(__file__).resolve().parents[2] / "conformance" / "mcp" / "requests.json").read_text(encoding="utf-8")
)
TENANT_MISMATCH = 12


class Application:
    """The server behind the gate."""

    def __init__(self) -> None:
        self.headers: list[dict[bytes, bytes]] = []

    async def __call__(self, scope: Any, _receive: Any, send: Any) -> None:
        self.headers.append(dict(scope["headers"]))
        await send({"type": "http.response.start", "status": 202, "headers": []})
        await send({"type": "http.response.body", "body": b""})


class Connection:
    """One request, and its response."""

    def __init__(self, request: dict[str, Any], keys: dict[str, str]) -> None:
        raw = request.get("raw_body")
        self._body = (
            raw.encode() if raw is not None else json.dumps(request["body"]).encode() if "body" in request else b""
        )
        headers = [(name.lower().encode(), secret(value, keys).encode("latin-1")) for name, value in request["headers"]]
        self.scope = {"type": "http", "method": request["method"], "path": "/mcp", "headers": headers}
        self.body_read = False
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = b""

    async def receive(self) -> Any:
        self.body_read = True
        return {"type": "http.request", "body": self._body, "more_body": False}

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {name.decode(): value.decode() for name, value in message["headers"]}
        else:
            self.body += message["body"]


def secret(value: str, keys: dict[str, str]) -> str:
    for name, key in keys.items():
        value = value.replace(f"${name}", key)
    return value


@pytest_asyncio.fixture
async def client(fake: Fake) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(fake.endpoint, Options(near_cache=None, retry=None)) as client:
        yield client


@pytest_asyncio.fixture
async def recorder(client: AsyncClient) -> AsyncIterator[AsyncUsageRecorder]:
    recorder = client.usage_recorder(RecorderOptions(batch_delay=3600.0))
    yield recorder
    await recorder.close()


@pytest.mark.parametrize("case", VECTORS["requests"], ids=lambda case: case["name"].replace(" ", "-"))
async def test_request_gets_its_response(
    case: dict[str, Any], client: AsyncClient, recorder: AsyncUsageRecorder, fake: Fake
) -> None:
    keys = {name: f"ta_canary_{name}" for name in VECTORS["keys"]}
    for name, about in VECTORS["keys"].items():
        fake.keys[keys[name]] = answer(scopes=about["scopes"], key_id=f"key_{name}")
    for session, tenant in VECTORS["sessions"].items():
        fake.sessions[session] = session_answer(1 if tenant == "acme" else TENANT_MISMATCH, tenant_id=tenant)
    table = None if case["policy"] is None else VECTORS["policies"][case["policy"]]
    app, connection = Application(), Connection(case["request"], keys)
    gate = McpGate(
        app,
        client=client,
        policy=None if table is None else Policy(table),
        recorder=recorder,
        key_headers=VECTORS["key_headers"],
    )
    await gate(connection.scope, connection.receive, connection.send)
    await recorder.flush()
    usage = sorted((event.metric, event.quantity) for events in fake.usage.values() for event in events)

    expected = dict(case["response"])
    admitted = expected.pop("admitted", False)
    assert len(app.headers) == admitted, connection.body
    assert usage == sorted((metric, quantity) for metric, quantity in expected.pop("usage", []))
    if not admitted:
        assert connection.status == expected.pop("status")
    if "body_read" in expected:
        assert connection.body_read == expected.pop("body_read")
    if "session_id_seen" in expected:
        seen = app.headers[0].get(b"mcp-session-id")
        assert (None if seen is None else seen.decode()) == expected.pop("session_id_seen")
    if "code" in expected:
        assert connection.headers["content-type"] == "application/problem+json"
        assert json.loads(connection.body)["code"] == expected.pop("code")
    if "scope" in expected:
        challenge = connection.headers["www-authenticate"]
        assert challenge == f'Bearer error="insufficient_scope", scope="{expected.pop("scope")}"'
    if "json_rpc_code" in expected:
        error = json.loads(connection.body)
        assert connection.headers["content-type"] == "application/json"
        assert (error["jsonrpc"], error["error"]["code"]) == ("2.0", expected.pop("json_rpc_code"))
        assert error["error"]["message"]
        assert error["id"] == expected.pop("json_rpc_id", error["id"])
    if "validated_sessions" in expected:
        assert fake.calls["ValidateSession"] == expected.pop("validated_sessions")
    assert not expected, "the test checks everything that is expected"
