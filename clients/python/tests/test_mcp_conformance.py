"""The MCP conformance suite, against the example behind the gate, and against the same server without it."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from mcp.server.mcpserver import MCPServer

import mcp_server
from conftest import call_stub
from mcp_fixtures import register
from mcp_servers import listening
from service import dev
from tenant_auth import AsyncClient, Options
from tenant_auth.mcp import Policy
from tenant_auth.proto import admin_pb2

SUITE = "@modelcontextprotocol/conformance@0.2.0-alpha.12"
MIN_NODE, NODE = 22, "node@22.23.3"
BAD = ("FAILURE", "WARNING")
TIMESTAMP = re.compile(r"-\d{4}-\d\d-\d\dT[\d-]+Z$")
POLICY = Policy(
    {
        "tools": {"*": {"scopes": ["orders:read"], "usage": {"metric": "mcp.tool_calls"}}},
        "resources": {"*": {"scopes": ["orders:read"]}},
        "prompts": {"*": {"scopes": ["orders:read"]}},
    }
)
EXPECTED_FAILURES = {
    "2025-11-25": {
        "logging-set-level": "MCPServer of the SDK does not implement logging/setLevel",
        "tools-call-with-logging": "the scenario calls logging/setLevel",
        "resources-subscribe": "MCPServer of the SDK does not implement resources/subscribe",
        "resources-unsubscribe": "MCPServer of the SDK does not implement resources/unsubscribe",
    },
    "2026-07-28": {"server-stateless": "a warning: the SDK does not identify the server in discover results"},
}
"""What the SDK fails without the gate too."""


def with_key(app: Any, key: str) -> Any:
    """The suite sends no key: this adds it."""

    async def forward(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            scope["headers"] = [*scope["headers"], (b"x-api-key", key.encode())]
        await app(scope, receive, send)

    return forward


@asynccontextmanager
async def behind_the_gate(folder: Path) -> AsyncIterator[str]:
    with dev(folder) as service:
        async with AsyncClient(service.endpoint, Options(timeout=10.0)) as client:
            request = admin_pb2.IssueKeyRequest(tenant_id=service.tenant, name="suite", scopes=["orders:read"])
            issued = await call_stub(client.raw.admin.IssueKey, request)
            recorder = client.usage_recorder()
            app = mcp_server.make_app(client, recorder, policy=POLICY, register=register)
            async with listening(with_key(app, issued.plaintext)) as url:
                yield url
            assert await recorder.close() == []


@asynccontextmanager
async def without_the_gate() -> AsyncIterator[str]:
    server = MCPServer("orders")
    register(server)
    async with listening(server.streamable_http_app()) as url:
        yield url


def node() -> list[str]:
    """The options by which npx takes another version of Node, if the installed one is too old for the suite."""
    version = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout  # noqa: S607
    return [] if int(version.removeprefix("v").partition(".")[0]) >= MIN_NODE else ["-p", NODE]


async def failed_checks(url: str, revision: str, folder: Path) -> set[tuple[str, str]]:
    """Runs the suite, which must report no other failures than the expected ones. Returns scenario and id of all failed
    checks, also of scenarios that the revision does not require.
    """
    baseline = folder / "expected.yml"
    # JSON is YAML too.
    baseline.write_text(json.dumps({"server": list(EXPECTED_FAILURES[revision])}))
    command = ["npx", "--yes", *node(), "-p", SUITE, "conformance", "server", "--url", f"{url}/mcp"]
    command += ["--requirements", revision, "--expected-failures", str(baseline), "--output-dir", str(folder)]
    with (folder / "log").open("w") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log, cwd=folder)
        status = await process.wait()
    assert status == 0, (folder / "log").read_text()
    return failures_in(folder)


def failures_in(folder: Path) -> set[tuple[str, str]]:
    failed = set()
    for path in folder.glob("*/checks.json"):
        scenario = TIMESTAMP.sub("", path.parent.name.removeprefix("server-"))
        failed |= {(scenario, check["id"]) for check in json.loads(path.read_text()) if check["status"] in BAD}
    return failed


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
@pytest.mark.parametrize("revision", list(EXPECTED_FAILURES))
async def test_gate_fails_nothing_that_the_sdk_passes(tmp_path: Path, revision: str) -> None:
    if shutil.which("npx") is None:
        assert os.environ.get("CI") != "true", "npx is needed for the MCP conformance suite"
        pytest.skip("npx is missing: THE MCP CONFORMANCE SUITE IS NOT RUN")
    folders = {name: tmp_path / name for name in ("bare", "gated", "service")}
    for folder in folders.values():
        folder.mkdir()
    async with without_the_gate() as url:
        bare = await failed_checks(url, revision, folders["bare"])
    async with behind_the_gate(folders["service"]) as url:
        gated = await failed_checks(url, revision, folders["gated"])
    assert gated - bare == set()
