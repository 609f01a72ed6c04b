"""Tests of the examples. The MCP server example is tested in test_mcp.py."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import grpc
import httpx
import pytest

import http_api
import worker
from fake import Fake
from replies import Failure, answer
from service import dev
from tenant_auth import AsyncClient, Client

KEY = "ta_canary_0123456789abcdef"


async def test_http_api_identifies_its_tenants(fake: Fake) -> None:
    fake.keys[KEY] = answer(scopes=["demo:read"])
    fake.keys["without_scope"] = answer(scopes=[])
    await check_api(AsyncClient(fake.endpoint), KEY, "without_scope")


async def test_http_api_admits_the_demo_tenant(tmp_path: Path) -> None:
    with dev(tmp_path) as service:
        await check_api(AsyncClient(service.endpoint), service.key, None)


async def check_api(client: AsyncClient, key: str, without_scope: str | None) -> None:
    app = http_api.make_app(client)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as http,
    ):

        async def status(path: str, key: str) -> int:
            return (await http.get(path, headers={"authorization": f"Bearer {key}"})).status_code

        assert await status("/me", key) == 200
        assert await status("/orders", key) == 200
        assert await status("/me", "unknown-key") == 401
        if without_scope is not None:
            assert await status("/orders", without_scope) == 403


async def test_http_api_describes_its_security_scheme(fake: Fake) -> None:
    schema = http_api.make_app(AsyncClient(fake.endpoint)).openapi()
    assert schema["components"]["securitySchemes"]["HTTPBearer"]["scheme"] == "bearer"


def test_worker_records_usage_of_its_jobs(fake: Fake, capsys: pytest.CaptureFixture[str]) -> None:
    fake.keys |= {KEY: answer(), "revoked": answer(5)}
    jobs = [json.dumps({"key": key, "pages": pages}) for key, pages in ((KEY, 3), ("revoked", 1), (KEY, 4))]
    with Client(fake.endpoint) as client:
        assert worker.work(client, jobs) == []
    assert [event.quantity for events in fake.usage.values() for event in events] == [3, 4]
    assert capsys.readouterr().out.splitlines() == [
        "job 1: 3 pages for acme",
        "job 2: REVOKED",
        "job 3: 4 pages for acme",
    ]


async def test_worker_loses_nothing_in_an_outage(fake: Fake, tmp_path: Path) -> None:
    fake.keys[KEY] = answer()
    spool = tmp_path / "usage.jsonl"

    def run_in_an_outage() -> None:
        with Client(fake.endpoint) as client:
            client.validate_key(KEY)
            fake.permanent_failure = Failure(grpc.StatusCode.UNIMPLEMENTED)
            worker.save(worker.work(client, [json.dumps({"key": KEY, "pages": 3})]), spool)

    await asyncio.to_thread(run_in_an_outage)
    fake.permanent_failure = None
    sent = fake.requests[-1]
    with Client(fake.endpoint) as client:
        worker.resend(client, spool)
    assert fake.requests[-1] == sent, "the same events under the same request id"
    assert spool.read_text() == ""
