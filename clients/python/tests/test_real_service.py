"""Both clients against the real service."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import grpc
import pytest

from conftest import Connect, until
from service import Service, dev
from tenant_auth import InvalidRequestError, NotServedError, Source, TenantAuthError, Validation, Verdict
from tenant_auth.proto import admin_pb2, watch_pb2


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with dev(tmp_path_factory.mktemp("dev")) as service:
        yield service


async def test_a_key_is_decided_about_and_kept_near(service: Service, connect: Connect) -> None:
    client = connect(service.endpoint)
    first = await client.validate_key(service.key, ["demo:read"], timeout=10.0)
    assert first.is_valid
    assert first.tenant_id == service.tenant
    assert first.provenance.source in (Source.DATABASE, Source.FRESH)
    assert first.provenance.cacheable_for > 0
    near = await client.validate_key(service.key, ["demo:delete"])
    assert (near.verdict, near.missing_scopes) == (Verdict.INSUFFICIENT_SCOPE, ("demo:delete",))
    assert near.provenance.source is Source.NEAR


async def test_scopes_are_judged_here_as_there(service: Service, connect: Connect) -> None:
    near, far = connect(service.endpoint), connect(service.endpoint, near_cache=None)
    for scopes in ([], ["demo:read"], ["z", "demo:read", "a", "z"], ["*"], ["demo:*"]):
        here, there = [await client.validate_key(service.key, scopes, timeout=10.0) for client in (near, far)]
        assert (here.verdict, here.missing_scopes) == (there.verdict, there.missing_scopes)


async def test_denials(service: Service, connect: Connect) -> None:
    client = connect(service.endpoint)
    changed = service.key[:-1] + ("a" if service.key[-1] != "a" else "b")
    assert (await client.validate_key(changed, timeout=10.0)).verdict is Verdict.MALFORMED
    assert (await client.validate_key("an-old-key-of-nobody", timeout=10.0)).verdict is Verdict.UNKNOWN


async def test_wrong_fields_are_named(service: Service, connect: Connect) -> None:
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


async def test_a_batch(service: Service, connect: Connect) -> None:
    outcomes = await connect(service.endpoint).validate_keys([service.key, "x" * 40, service.key], timeout=10.0)
    verdicts = [outcome.verdict for outcome in outcomes if isinstance(outcome, Validation)]
    assert verdicts == [Verdict.VALID, Verdict.UNKNOWN, Verdict.VALID]


async def test_a_key_issued_and_revoked_by_the_stubs(service: Service, connect: Connect) -> None:
    client = connect(service.endpoint, near_cache=None)

    async def administer(method: object, request: object) -> object:
        reply = method(request, timeout=10.0)  # type: ignore[operator]
        return await reply if hasattr(reply, "__await__") else reply

    request = admin_pb2.IssueKeyRequest(tenant_id=service.tenant, name="test", scopes=["demo:read"])
    issued: admin_pb2.IssueKeyResponse = await administer(client.raw.admin.IssueKey, request)  # type: ignore[assignment]
    assert (await client.validate_key(issued.plaintext, timeout=10.0)).key_id == issued.key.key_id
    await administer(client.raw.admin.RevokeKey, admin_pb2.RevokeKeyRequest(key_id=issued.key.key_id, reason="test"))
    assert (await client.validate_key(issued.plaintext, timeout=10.0)).verdict is Verdict.REVOKED


async def test_the_server_describes_itself(service: Service, connect: Connect) -> None:
    info = await connect(service.endpoint).server_info(timeout=10.0)
    assert info.version
    assert info.database == "EMBEDDED"


async def test_sessions_work_or_are_plainly_not_served(service: Service, connect: Connect) -> None:
    client = connect(service.endpoint)
    try:
        binding = await client.bind_session("s1", service.key, 60, timeout=10.0)
    except NotServedError as error:
        assert error.reason == "NOT_SERVED"
        return
    assert binding.is_valid
    assert (await client.validate_session("s1", service.key)).tenant_id == service.tenant
    assert await client.unbind_session("s1", service.tenant)
    assert (await client.validate_session("s1", service.key)).verdict is Verdict.UNBOUND


async def test_the_stream_is_followed_or_plainly_not_served(service: Service, connect: Connect) -> None:
    client = connect(service.endpoint)
    reply = client.raw.watch.Watch(watch_pb2.WatchRequest())
    try:
        await (reply.read() if hasattr(reply, "read") else asyncio.to_thread(next, reply))
    except grpc.RpcError as error:
        assert error.code() is grpc.StatusCode.UNIMPLEMENTED
        assert not client.watch_state.live
        return
    reply.cancel()
    await until(lambda: client.watch_state.live)


async def test_nothing_is_decided_once_it_is_gone(tmp_path_factory: pytest.TempPathFactory, connect: Connect) -> None:
    with dev(tmp_path_factory.mktemp("gone")) as service:
        client = connect(service.endpoint, near_cache=None)
        assert (await client.validate_key(service.key, timeout=10.0)).is_valid
    with pytest.raises(TenantAuthError) as caught:
        await client.validate_key(service.key)
    assert caught.value.is_transient
