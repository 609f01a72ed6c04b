"""Both clients against the real service."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from conftest import Connect, call_stub, collect, until
from fake import EVENT_TIMEOUT
from service import Service, dev
from tenant_auth import (
    InvalidRequestError,
    Source,
    TenantAuthError,
    UsageBucket,
    UsageEvent,
    Validation,
    Verdict,
)
from tenant_auth.proto import admin_pb2
from tenant_auth.testing import ManualClock


@pytest.fixture
def session_id() -> str:
    """A session id that only this test uses, because the service is shared."""
    return f"s{uuid.uuid4().hex}"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with dev(tmp_path_factory.mktemp("dev")) as service:
        yield service


async def test_key_is_validated_and_cached(service: Service, connect: Connect) -> None:
    client = connect(service.endpoint)
    first = await client.validate_key(service.key, ["demo:read"], timeout=10.0)
    assert first.is_valid
    assert first.tenant_id == service.tenant
    assert first.provenance.source in (Source.DATABASE, Source.FRESH)
    assert first.provenance.cacheable_for > 0
    near = await client.validate_key(service.key, ["demo:delete"])
    assert (near.verdict, near.missing_scopes) == (Verdict.INSUFFICIENT_SCOPE, ("demo:delete",))
    assert near.provenance.source is Source.NEAR


async def test_scopes_are_evaluated_like_the_service(service: Service, connect: Connect) -> None:
    cached, uncached = connect(service.endpoint), connect(service.endpoint, near_cache=None)
    for scopes in ([], ["demo:read"], ["z", "demo:read", "a", "z"], ["*"], ["demo:*"]):
        first, second = [await client.validate_key(service.key, scopes, timeout=10.0) for client in (cached, uncached)]
        assert (first.verdict, first.missing_scopes) == (second.verdict, second.missing_scopes)


async def test_real_service_denies_malformed_and_unknown_keys(service: Service, connect: Connect) -> None:
    client = connect(service.endpoint)
    changed = service.key[:-1] + ("a" if service.key[-1] != "a" else "b")
    assert (await client.validate_key(changed, timeout=10.0)).verdict is Verdict.MALFORMED
    assert (await client.validate_key("an-unknown-key", timeout=10.0)).verdict is Verdict.UNKNOWN


async def test_invalid_fields_are_named(service: Service, connect: Connect) -> None:
    client = connect(service.endpoint)
    with pytest.raises(InvalidRequestError) as caught:
        await client.validate_key("")
    assert [violation.field for violation in caught.value.violations] == ["key"]
    assert caught.value.request_id
    with pytest.raises(InvalidRequestError) as caught:
        await client.validate_key(service.key, ["UPPER"])
    assert [violation.field for violation in caught.value.violations] == ["required_scopes[0]"]
    with pytest.raises(InvalidRequestError) as caught:
        await client.validate_keys([])
    assert [violation.field for violation in caught.value.violations] == ["requests"]


async def test_batch_keeps_order_with_the_real_service(service: Service, connect: Connect) -> None:
    outcomes = await connect(service.endpoint).validate_keys([service.key, "x" * 40, service.key], timeout=10.0)
    verdicts = [outcome.verdict for outcome in outcomes if isinstance(outcome, Validation)]
    assert verdicts == [Verdict.VALID, Verdict.UNKNOWN, Verdict.VALID]


async def test_stubs_issue_and_revoke_a_key(service: Service, connect: Connect) -> None:
    client = connect(service.endpoint, near_cache=None)
    request = admin_pb2.IssueKeyRequest(tenant_id=service.tenant, name="test", scopes=["demo:read"])
    issued: admin_pb2.IssueKeyResponse = await call_stub(client.raw.admin.IssueKey, request, timeout=10.0)
    assert (await client.validate_key(issued.plaintext, timeout=10.0)).key_id == issued.key.key_id
    await call_stub(
        client.raw.admin.RevokeKey, admin_pb2.RevokeKeyRequest(key_id=issued.key.key_id, reason="test"), timeout=10.0
    )
    assert (await client.validate_key(issued.plaintext, timeout=10.0)).verdict is Verdict.REVOKED


async def test_real_service_describes_itself(service: Service, connect: Connect) -> None:
    info = await connect(service.endpoint).server_info(timeout=10.0)
    assert info.version
    assert info.database == "EMBEDDED"


async def test_real_service_binds_lists_and_unbinds_a_session(
    service: Service, connect: Connect, session_id: str
) -> None:
    client = connect(service.endpoint)
    for already in (False, True):
        binding = await client.bind_session(session_id, service.key, 60, attributes={"client": "cli"}, timeout=10.0)
        assert (binding.is_valid, binding.already_bound) == (True, already)
    validation = await client.validate_session(session_id, service.key, ["demo:read"], timeout=10.0)
    assert (validation.tenant_id, validation.attributes) == (service.tenant, {"client": "cli"})
    listed = await collect(client.list_sessions(service.tenant, timeout=10.0))
    assert [session.session_id for session in listed] == [session_id]
    assert await client.unbind_session(session_id, service.tenant, timeout=10.0)
    assert not await client.unbind_session(session_id, service.tenant, timeout=10.0)
    assert (await client.validate_session(session_id, service.key, timeout=10.0)).verdict is Verdict.UNBOUND


async def test_usage_is_counted_once(service: Service, connect: Connect, session_id: str) -> None:
    client = connect(service.endpoint)
    metric = f"calls.{session_id}"
    events = [
        UsageEvent(service.tenant, metric, 3),
        UsageEvent("unknown", metric, 1),
        UsageEvent(service.tenant, "No!", -1),
    ]
    for already in (False, True):
        receipt = await client.record_usage(events, session_id, timeout=10.0)
        assert (receipt.accepted, receipt.already_recorded) == (1, already)
        assert [(one.index, one.error.code) for one in receipt.rejected] == [(1, "NOT_FOUND"), (2, "INVALID_ARGUMENT")]
    now, hours = datetime.now(UTC), timedelta(hours=2)
    sums = client.query_usage(service.tenant, now - hours, now + hours, metric=metric, bucket=UsageBucket.MONTH)
    assert [one.quantity for one in await collect(sums)] == [3]


async def test_revocation_invalidates_the_near_cache(service: Service, connect: Connect) -> None:
    # The clock does not advance, so only the stream can invalidate the cache.
    client = connect(service.endpoint, clock=ManualClock())
    await until(lambda: client.watch_state.live)
    request = admin_pb2.IssueKeyRequest(tenant_id=service.tenant, name="test")
    issued: admin_pb2.IssueKeyResponse = await call_stub(client.raw.admin.IssueKey, request, timeout=10.0)
    assert (await client.validate_key(issued.plaintext, timeout=10.0)).is_valid
    await call_stub(
        client.raw.admin.RevokeKey, admin_pb2.RevokeKeyRequest(key_id=issued.key.key_id, reason="test"), timeout=10.0
    )
    async with asyncio.timeout(EVENT_TIMEOUT):
        while (await client.validate_key(issued.plaintext, timeout=10.0)).verdict is not Verdict.REVOKED:
            await asyncio.sleep(0.002)


async def test_stopped_service_is_unavailable(tmp_path_factory: pytest.TempPathFactory, connect: Connect) -> None:
    with dev(tmp_path_factory.mktemp("stopped")) as service:
        client = connect(service.endpoint, near_cache=None)
        assert (await client.validate_key(service.key, timeout=10.0)).is_valid
    with pytest.raises(TenantAuthError) as caught:
        await client.validate_key(service.key)
    assert caught.value.is_transient
