"""Keys that are limited to networks, with both clients and the real service."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from conftest import Connect, call_stub
from service import Service, dev
from tenant_auth import InvalidRequestError, Source, Validation, Verdict
from tenant_auth.proto import admin_pb2, info_pb2, validation_pb2

OFFICE = ["192.0.2.0/24", "2001:db8:1::/48", "198.51.100.7", "fe80::/10"]
ADDRESSES = [
    None,
    "192.0.2.7",
    "192.0.3.0",
    "198.51.100.7:443",
    "198.51.100.8",
    "::ffff:192.0.2.7",
    "[::ffff:c000:307]:443",
    "2001:DB8:1:0:0:0:0:7",
    "[2001:db8:2::7]",
    "fe80::1%eth0",
]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with dev(tmp_path_factory.mktemp("networks")) as service:
        yield service


async def issue(client: Any, service: Service, *networks: str) -> Any:
    request = admin_pb2.IssueKeyRequest(
        tenant_id=service.tenant, name="test", scopes=["demo:read"], allowed_networks=networks
    )
    return await call_stub(client.raw.admin.IssueKey, request, timeout=10.0)


async def test_addresses_are_evaluated_like_the_service(service: Service, connect: Connect) -> None:
    cached, uncached = connect(service.endpoint), connect(service.endpoint, near_cache=None)
    key = (await issue(cached, service, *OFFICE)).plaintext
    assert (await cached.validate_key(key, timeout=10.0)).verdict is Verdict.ADDRESS_REQUIRED
    for address in ADDRESSES:
        for scopes in ("demo:read", "demo:delete"):
            near = await cached.validate_key(key, scopes, client_address=address)
            served = await uncached.validate_key(key, scopes, client_address=address, timeout=10.0)
            assert near.provenance.source is Source.NEAR
            assert (near.verdict, near.missing_scopes) == (served.verdict, served.missing_scopes), address
            assert near.allowed_networks == served.allowed_networks


async def test_addresses_are_parsed_like_the_service(service: Service, connect: Connect) -> None:
    client = connect(service.endpoint, near_cache=None)
    stub = client.raw.validation.ValidateKey
    for address in filter(None, ADDRESSES):
        request = validation_pb2.ValidateKeyRequest(key=service.key, client_address=address)
        assert (await call_stub(stub, request, timeout=10.0)).verdict == Verdict.VALID, address
    for invalid in ("192.0.2.256", "192.0.02.1", "192.0.2.1:65536", "[192.0.2.1]", "fe80::1%", "192.0.2.1, ::1", "x"):
        request = validation_pb2.ValidateKeyRequest(key=service.key, client_address=invalid)
        with pytest.raises(InvalidRequestError) as by_service:
            await call_stub(stub, request, timeout=10.0)
        with pytest.raises(InvalidRequestError) as by_client:
            await client.validate_key(service.key, client_address=invalid)
        for caught in (by_service, by_client):
            assert [violation.field for violation in caught.value.violations] == ["client_address"]


async def test_each_key_of_a_batch_has_its_networks(service: Service, connect: Connect) -> None:
    client = connect(service.endpoint)
    office, home = [(await issue(client, service, network)).plaintext for network in ("192.0.2.0/24", "203.0.113.0/24")]
    outcomes = await client.validate_keys([office, home, service.key], client_address="192.0.2.7", timeout=10.0)
    verdicts = [outcome.verdict for outcome in outcomes if isinstance(outcome, Validation)]
    assert verdicts == [Verdict.VALID, Verdict.ADDRESS_NOT_ALLOWED, Verdict.VALID]


async def test_session_is_bound_and_used_from_allowed_networks(service: Service, connect: Connect) -> None:
    cached, uncached = connect(service.endpoint), connect(service.endpoint, near_cache=None)
    opener = (await issue(cached, service, "192.0.2.0/24", "198.51.100.0/24")).plaintext
    other = (await issue(cached, service, "198.51.100.0/24", "203.0.113.0/24")).plaintext
    session_id = uuid.uuid4().hex
    for address, verdict in ((None, Verdict.ADDRESS_REQUIRED), ("203.0.113.1", Verdict.ADDRESS_NOT_ALLOWED)):
        binding = await cached.bind_session(session_id, opener, 60, client_address=address, timeout=10.0)
        assert (binding.verdict, binding.session) == (verdict, None)
    assert (await cached.bind_session(session_id, opener, 60, client_address="192.0.2.1", timeout=10.0)).is_valid
    for key in (None, opener, other):
        for address in (None, "192.0.2.1", "198.51.100.1", "203.0.113.1"):
            verdicts = [
                (await client.validate_session(session_id, key, client_address=address, timeout=10.0)).verdict
                for client in (cached, uncached)
            ]
            assert verdicts[0] is verdicts[1], (key == other, address)


async def test_key_is_explained_and_its_change_awaited(service: Service, connect: Connect) -> None:
    client = connect(service.endpoint)
    issued = await issue(client, service, "192.0.2.0/24")
    request = admin_pb2.ExplainKeyRequest(plaintext=issued.plaintext, client_address="203.0.113.1")
    explained = await call_stub(client.raw.admin.ExplainKey, request, timeout=10.0)
    assert (explained.key_id, explained.verdict) == (issued.key.key_id, Verdict.ADDRESS_NOT_ALLOWED)
    revoked = await call_stub(
        client.raw.admin.RevokeKey, admin_pb2.RevokeKeyRequest(key_id=issued.key.key_id, reason="test"), timeout=10.0
    )
    waiting = info_pb2.WaitForRevisionRequest(revision=revoked.revision)
    assert (await call_stub(client.raw.info.WaitForRevision, waiting, timeout=10.0)).applied
