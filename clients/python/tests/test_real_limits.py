"""Limits with both clients and the real service."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import textwrap
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from google.protobuf.duration_pb2 import Duration
from mcp.server.mcpserver import MCPServer

from conftest import Connect, Threaded, until
from fake import EVENT_TIMEOUT
from service import Service, dev
from tenant_auth import (
    AsyncClient,
    ConsumeRequest,
    DecidedBy,
    InvalidRequestError,
    KeyQuery,
    LimitExceededError,
    Principal,
    Quota,
    ReservationExpiry,
    ReservationState,
    SessionQuery,
    TenantAuthError,
    Verdict,
)
from tenant_auth.asgi import TenantAuthMiddleware
from tenant_auth.fastapi import RequireTenant
from tenant_auth.mcp import protect
from tenant_auth.proto import limit_pb2, validation_pb2
from tenants import new_tenant
from test_local_limiter import Limiter
from test_reservations import CrashError, in_context

README = Path(__file__).resolve().parent.parent / "README.md"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with dev(tmp_path_factory.mktemp("limits")) as service:
        yield service


async def test_amounts_are_taken_until_the_quota_is_used_up(service: Service, connect: Connect) -> None:
    client = connect(service.endpoint, timeout=10.0)
    tenant = await new_tenant(client, "orders:read")
    await tenant.set_limit(quota=5)
    await tenant.set_limit("planned", quota=1, shadow=True)
    made = await client.consume(KeyQuery(tenant.key, "orders:read"), {"requests": 3, "unlimited": 9})
    assert (made.allowed, made.principal.tenant_id, made.already_consumed) == (True, tenant.tenant_id, False)
    hourly, planned = made.limits
    assert (hourly.name, hourly.metric, hourly.limit, hourly.window) == ("hourly", "requests", 5, 3_600.0)
    assert hourly.remaining <= 2
    assert not hourly.exceeded
    assert hourly.decided_by in (DecidedBy.LEASE, DecidedBy.DATABASE)
    assert (planned.shadow, planned.exceeded) == (True, True)
    denied = await client.consume(tenant.key, {"requests": 3})
    assert (denied.verdict, denied.validation.is_valid) == (Verdict.QUOTA_EXCEEDED, True)
    with pytest.raises(LimitExceededError):
        _ = denied.principal
    assert (await client.consume(tenant.key, {"requests": 2})).allowed, "a denied request has taken nothing"
    denied = await client.consume(tenant.key, {"requests": 1})
    assert (denied.verdict, denied.limits[0].remaining, denied.limits[0].exceeded) == (Verdict.QUOTA_EXCEEDED, 0, True)
    assert denied.retry_after is not None
    assert 0 < denied.retry_after <= 3_900.0


async def test_consume_id_counts_once(service: Service, connect: Connect) -> None:
    client = connect(service.endpoint, timeout=10.0)
    tenant = await new_tenant(client)
    await tenant.set_limit(quota=2)
    consume_id = uuid.uuid4().hex
    for already in (False, True, True):
        made = await client.consume(tenant.key, {"requests": 2}, consume_id)
        assert (made.allowed, made.already_consumed) == (True, already)
    with pytest.raises(TenantAuthError) as caught:
        await client.consume(tenant.key, {"requests": 1}, consume_id)
    assert caught.value.code == "ALREADY_EXISTS"
    assert not (await client.consume(tenant.key, {"requests": 1})).allowed


async def test_batch_and_session_take_from_limits(service: Service, connect: Connect) -> None:
    client = connect(service.endpoint, timeout=10.0)
    tenant = await new_tenant(client, "orders:read")
    await tenant.set_limit(quota=3)
    session_id = uuid.uuid4().hex
    await client.bind_session(session_id, tenant.key, 60, attributes={"client": "cli"})
    outcomes = await client.consume_many(
        [
            ConsumeRequest(tenant.key, {"requests": 1}),
            ConsumeRequest(tenant.key, {"requests": 4}),
            ConsumeRequest("an-unknown-key", {"requests": 1}),
            ConsumeRequest(tenant.key, {"requests": 0}),
            ConsumeRequest("x" * 600, {"requests": 1}),
            ConsumeRequest(KeyQuery(tenant.key, "orders:write"), {"requests": 1}),
            ConsumeRequest(SessionQuery(session_id, scopes="orders:read"), {"requests": 2}, uuid.uuid4().hex),
        ]
    )
    invalid = outcomes[3]
    assert isinstance(invalid, InvalidRequestError)
    assert [one.field for one in invalid.violations] == ["costs[0].amount"]
    verdicts = [one.verdict.name for one in outcomes if one is not invalid]
    assert verdicts == ["VALID", "QUOTA_EXCEEDED", "UNKNOWN", "MALFORMED", "INSUFFICIENT_SCOPE", "VALID"]
    assert outcomes[-1].validation.attributes == {"client": "cli"}
    denied = await client.consume(SessionQuery(session_id, tenant.key), {"requests": 1})
    assert denied.verdict is Verdict.QUOTA_EXCEEDED


async def test_stream_of_the_stubs_consumes(service: Service, connect: Connect) -> None:
    client = connect(service.endpoint, timeout=10.0)
    tenant = await new_tenant(client)
    await tenant.set_limit(quota=2)
    credential = limit_pb2.LimitCredential(key=validation_pb2.ValidateKeyRequest(key=tenant.key))
    requests = [
        limit_pb2.StreamConsumeRequest(
            correlation_id=number,
            request=limit_pb2.ConsumeRequest(
                credential=credential, costs=[limit_pb2.Cost(metric="requests", amount=amount)]
            ),
        )
        for number, amount in enumerate((2, 3, 0))
    ]

    async def messages() -> Any:
        for one in requests:
            yield one

    if isinstance(client, Threaded):
        answers = await client.run(lambda: list(client.raw.limit.StreamConsume(iter(requests))))
    else:
        answers = [answer async for answer in client.raw.limit.StreamConsume(messages())]
    first, second, third = sorted(answers, key=lambda one: int(one.correlation_id))
    assert [first.response.verdict, second.response.verdict] == [Verdict.VALID, Verdict.QUOTA_EXCEEDED]
    assert third.error.code == 3


async def test_rate_and_credits_are_decided(service: Service, connect: Connect) -> None:
    client = connect(service.endpoint, timeout=10.0)
    tenant = await new_tenant(client)
    day = Duration(seconds=86_400)
    await tenant.set_limit("burst", rate=limit_pb2.Rate(amount=10, per=day, burst=10))
    await tenant.set_limit("credits", "tokens", credits=limit_pb2.Credits(initial=5))
    made = await client.consume(tenant.key, {"requests": 10, "tokens": 5})
    assert made.allowed
    limited = await client.consume(tenant.key, {"requests": 1})
    assert (limited.verdict, limited.limits[0].window) == (Verdict.RATE_LIMITED, 86_400.0)
    assert limited.retry_after is not None
    spent = await client.consume(tenant.key, {"tokens": 1})
    assert (spent.verdict, spent.retry_after) == (Verdict.QUOTA_EXCEEDED, None)
    assert (spent.limits[0].window, spent.limits[0].reset_after) == (None, None)


async def test_reservation_is_settled_cancelled_and_given_back(service: Service, connect: Connect) -> None:
    client = connect(service.endpoint, timeout=10.0)
    tenant = await new_tenant(client)
    await tenant.set_limit(quota=10, metric="tokens")

    def crash(_reservation: Any) -> None:
        raise CrashError

    with pytest.raises(CrashError):
        await in_context(client, crash, credential=tenant.key)
    made = await client.reserve(tenant.key, {"tokens": 10}, expires_in=60.0, on_expiry=ReservationExpiry.CHARGE)
    assert made.allowed, "the crash has given everything back"
    assert made.expires_in is not None
    assert 0 < made.expires_in <= 60.0
    again = await client.reserve(tenant.key, {"tokens": 10}, reservation_id=made.reservation_id)
    assert (again.allowed, again.already_reserved) == (True, True)
    denied = await client.reserve(tenant.key, {"tokens": 1})
    assert (denied.verdict, denied.expires_in) == (Verdict.QUOTA_EXCEEDED, None)
    for already in (False, True):
        settlement = await client.settle_reservation(made.reservation_id, {"tokens": 4})
        assert (settlement.state, settlement.already_settled) == (ReservationState.SETTLED, already)
        (one,) = settlement.limits
        assert (one.name, one.reserved, one.charged, one.exceeded_by) == ("hourly", 10, 4, 0)
    with pytest.raises(TenantAuthError) as caught:
        await client.cancel_reservation(made.reservation_id)
    assert caught.value.code == "FAILED_PRECONDITION"
    with pytest.raises(TenantAuthError) as caught:
        await client.settle_reservation("nobody-reserved-this")
    assert caught.value.code == "NOT_FOUND"
    async with asyncio.timeout(EVENT_TIMEOUT):
        # A replica that has just refused asks the database again a little later.
        while not (held := await client.reserve(tenant.key, {"tokens": 6})).allowed:
            await asyncio.sleep(0.01)
    assert await client.cancel_reservation(held.reservation_id) is ReservationState.CANCELLED


async def test_state_says_what_is_used(service: Service, connect: Connect) -> None:
    client = connect(service.endpoint, timeout=10.0)
    tenant = await new_tenant(client)
    await tenant.set_limit(quota=10)
    await client.consume(tenant.key, {"requests": 3}, uuid.uuid4().hex)
    for owner in ({"tenant_id": tenant.tenant_id}, {"key_id": tenant.key_id}):
        (state,) = await client.limit_state(**owner)
        assert state.limit.rule == Quota(amount=10, window=3_600.0)
        assert (state.limit.subject.tenant_id, state.reserved, state.unaccounted) == (tenant.tenant_id, 0, 0)
        assert state.used + state.leased >= 3, "the replica may not have said yet what it has admitted"
        assert state.remaining <= 7
    with pytest.raises(TenantAuthError) as caught:
        await client.limit_state(tenant_id="nobody")
    assert caught.value.code == "NOT_FOUND"


async def test_revoked_key_takes_nothing(service: Service, connect: Connect) -> None:
    client = connect(service.endpoint, timeout=10.0)
    tenant = await new_tenant(client)
    await tenant.set_limit(quota=1)
    await tenant.revoke()
    made = await client.consume(tenant.key, {"requests": 1})
    assert (made.verdict, made.limits) == (Verdict.REVOKED, ())


async def load(limiter: Limiter, key: str, count: int) -> int:
    return sum([(await limiter.admit(key)).allowed for _ in range(count)])


async def test_two_local_limiters_share_one_limit(service: Service, connect: Connect) -> None:
    clients = [connect(service.endpoint, timeout=10.0) for _ in range(2)]
    tenant = await new_tenant(clients[0])
    await tenant.set_limit(quota=500)
    limiters = [Limiter(client) for client in clients]
    admitted = sum(await asyncio.gather(*(load(limiters[number % 2], tenant.key, 100) for number in range(10))))
    assert admitted <= 500
    for limiter in limiters:
        await limiter.close()
    rest = 0
    async with asyncio.timeout(EVENT_TIMEOUT):
        while admitted + rest < 500:
            rest += (await clients[0].consume(tenant.key, {"requests": 1})).allowed
    assert not (await clients[0].consume(tenant.key, {"requests": 1})).allowed, "what was held is given back once"


async def test_local_limiter_ends_with_its_key(service: Service, connect: Connect) -> None:
    client = connect(service.endpoint, timeout=10.0)
    tenant = await new_tenant(client)
    await tenant.set_limit(quota=1_000)
    await until(lambda: client.watch_state.live)
    limiter = Limiter(client)
    assert (await limiter.admit(tenant.key, 100)).allowed
    await tenant.revoke()
    assert (await limiter.admit(tenant.key)).verdict is Verdict.REVOKED
    await limiter.close()


async def test_snippets_of_the_readme_run(service: Service, capsys: pytest.CaptureFixture[str]) -> None:
    section = README.read_text().partition("\n## Limits\n")[2].partition("\n## ")[0]
    snippets = re.findall(r"^```python\n(.*?)^```", section, re.DOTALL | re.MULTILINE)
    assert len(snippets) == 5

    async def generate(principal: Principal) -> int:
        return len(principal.tenant_id)

    async with AsyncClient(service.endpoint) as client:
        tenant = await new_tenant(client, "orders:read")
        for metric in ("requests", "tokens"):
            await tenant.set_limit(f"of.{metric}", metric, quota=10_000)
        names: dict[str, Any] = {
            "client": client,
            "key": tenant.key,
            "generate": generate,
            "app": FastAPI(),
            "server": MCPServer("orders"),
            "protect": protect,
            "RequireTenant": RequireTenant,
            "TenantAuthMiddleware": TenantAuthMiddleware,
        }
        for snippet in snippets:
            code = compile(
                textwrap.dedent(snippet).replace('"acme"', repr(tenant.tenant_id)),
                "README.md",
                "exec",
                flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT,
            )
            result = eval(code, names)  # noqa: S307
            if inspect.isawaitable(result):
                await result
        assert (names["made"].allowed, names["used"]) == (True, len(tenant.tenant_id))
    printed = capsys.readouterr().out
    assert f"{tenant.tenant_id} ['of.requests: " in printed
    assert "of.tokens: " in printed
