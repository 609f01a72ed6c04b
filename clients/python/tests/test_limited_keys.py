"""Keys that are limited to networks, with both clients and the fake service."""

from __future__ import annotations

import asyncio
from ipaddress import ip_address
from typing import Any

import pytest

from conftest import Connect, call_stub, engine_of, until
from fake import Fake
from replies import answer, session_answer
from tenant_auth import DeniedError, InvalidRequestError, KeyQuery, NearCache, Source, Validation, Verdict
from tenant_auth.networks import parse_address, parse_network
from tenant_auth.proto import admin_pb2, info_pb2

KEY = "ta_canary_0123456789abcdef"
NETWORKS = ["192.0.2.0/24", "2001:db8:1::/48"]


def limited(request: Any) -> Any:
    """Decides like the service."""
    verdict = verdict_for(request.client_address, NETWORKS)
    missing = sorted(set(request.required_scopes) - {"orders:read"}) if verdict == 1 else []
    return answer(7 if missing else verdict, allowed_networks=NETWORKS, missing_scopes=missing)


def verdict_for(text: str, networks: list[str]) -> int:
    if not text:
        return 14
    address = parse_address(text)
    return 1 if any(address in (parse_network(network) or ()) for network in networks) else 15


ADDRESSES = [
    ("192.0.2.7", "VALID"),
    ("192.0.2.7:443", "VALID"),
    ("::ffff:192.0.2.7", "VALID"),
    (ip_address("2001:db8:1::1"), "VALID"),
    (ip_address("::ffff:192.0.2.7"), "VALID"),
    ("192.0.3.7", "ADDRESS_NOT_ALLOWED"),
    ("2001:db8:2::1", "ADDRESS_NOT_ALLOWED"),
    ("", "ADDRESS_REQUIRED"),
    (None, "ADDRESS_REQUIRED"),
]


@pytest.mark.parametrize("first", ["192.0.2.7", "203.0.113.1", None])
async def test_one_call_serves_all_addresses(connect: Connect, fake: Fake, first: str | None) -> None:
    fake.keys[KEY] = limited
    client = connect()
    assert (await client.validate_key(KEY, ["other"], client_address=first)).provenance.source is Source.DATABASE
    for address, verdict in ADDRESSES:
        validation = await client.validate_key(KEY, "orders:read", client_address=address)
        assert (str(validation.verdict), validation.provenance.source) == (verdict, Source.NEAR), address
        assert (validation.tenant_id, validation.key_id, list(validation.allowed_networks)) == (
            "acme",
            "key_1",
            NETWORKS,
        )
    denied = await client.validate_key(KEY, "orders:write", client_address="192.0.3.7")
    assert (denied.verdict, denied.missing_scopes) == (Verdict.ADDRESS_NOT_ALLOWED, ())
    denied = await client.validate_key(KEY, "orders:write", client_address="192.0.2.7")
    assert (denied.verdict, denied.missing_scopes) == (Verdict.INSUFFICIENT_SCOPE, ("orders:write",))
    assert [(r.client_address, list(r.required_scopes)) for r in fake.requests] == [(first or "", [])]


async def test_service_decides_without_a_cache(connect: Connect, fake: Fake) -> None:
    fake.keys[KEY] = limited
    client = connect(near_cache=None)
    for address, verdict in ADDRESSES:
        assert str((await client.validate_key(KEY, client_address=address)).verdict) == verdict, address
    sent = [request.client_address for request in fake.requests]
    assert sent == ["192.0.2.7"] * 3 + ["2001:db8:1::1", "192.0.2.7", "192.0.3.7", "2001:db8:2::1", "", ""]


async def test_callers_of_one_call_have_their_own_address(connect: Connect, fake: Fake) -> None:
    fake.keys[KEY] = limited
    fake.responding.clear()
    client = connect(timeout=60.0)
    addresses = [None, "192.0.2.7", "203.0.113.1", "2001:db8:1::1"]
    calls = [asyncio.ensure_future(client.validate_key(KEY, client_address=address)) for address in addresses]
    await until(lambda: engine_of(client)._in_flight_count == len(calls))
    fake.responding.set()
    verdicts = [str((await call).verdict) for call in calls]
    assert verdicts == ["ADDRESS_REQUIRED", "VALID", "ADDRESS_NOT_ALLOWED", "VALID"]
    assert fake.calls["ValidateKey"] == 1


async def test_require_raises_the_address_denial(connect: Connect, fake: Fake) -> None:
    fake.keys[KEY] = limited
    fake.sessions["s"] = session_answer(allowed_networks=NETWORKS)
    client = connect()
    assert (await client.require_key(KEY, client_address="192.0.2.7")).key_id == "key_1"
    assert (await client.require_session("s", client_address="192.0.2.7")).key_id == "key_1"
    for call in (client.require_key(KEY), client.require_session("s")):
        with pytest.raises(DeniedError, match="ADDRESS_REQUIRED"):
            await call
    for call in (
        client.require_key(KEY, "orders:write", client_address="192.0.3.7"),
        client.require_session("s", client_address="192.0.3.7"),
    ):
        with pytest.raises(DeniedError, match="ADDRESS_NOT_ALLOWED") as caught:
            await call
        assert caught.value.missing_scopes == ()


async def test_cached_session_needs_both_networks(connect: Connect, fake: Fake) -> None:
    fake.sessions["s"] = session_answer(
        14,
        presented_key_id="key_2",
        allowed_networks=["192.0.2.0/24", "198.51.100.0/24"],
        presented_key_allowed_networks=["198.51.100.0/24", "203.0.113.0/24"],
    )
    client = connect()
    assert (await client.validate_session("s", KEY)).verdict is Verdict.ADDRESS_REQUIRED
    for address, verdict in (
        ("198.51.100.1", "VALID"),
        ("192.0.2.1", "ADDRESS_NOT_ALLOWED"),
        ("203.0.113.1", "ADDRESS_NOT_ALLOWED"),
        (None, "ADDRESS_REQUIRED"),
    ):
        validation = await client.validate_session("s", KEY, client_address=address)
        assert (str(validation.verdict), validation.provenance.source) == (verdict, Source.NEAR)
    assert validation.presented_key_allowed_networks == ("198.51.100.0/24", "203.0.113.0/24")
    assert fake.calls["ValidateSession"] == 1


async def test_unparsable_network_of_the_service_allows_nothing(connect: Connect, fake: Fake) -> None:
    fake.keys[KEY] = answer(allowed_networks=["a network of the future"])
    client = connect()
    for address, verdict in ((None, "ADDRESS_REQUIRED"), ("192.0.2.7", "ADDRESS_NOT_ALLOWED")):
        assert str((await client.validate_key(KEY, client_address=address)).verdict) == verdict


async def test_each_key_of_a_batch_may_have_its_address(connect: Connect, fake: Fake) -> None:
    fake.keys |= {KEY: answer(), "other": answer()}
    keys = [KEY, KeyQuery("other"), KeyQuery("other", client_address="203.0.113.1:80"), KeyQuery(KEY, "a", "invalid")]
    outcomes = await connect().validate_keys(keys, client_address="192.0.2.7")
    assert [type(outcome) for outcome in outcomes] == [Validation] * 3 + [InvalidRequestError]
    assert [violation.field for violation in outcomes[3].violations] == ["client_address"]
    assert [one.client_address for one in fake.requests[0].requests] == ["192.0.2.7", "", "203.0.113.1"]


async def test_invalid_address_is_rejected_without_a_call(connect: Connect, fake: Fake) -> None:
    fake.keys[KEY] = answer()
    client = connect()
    assert (await client.validate_key(KEY)).is_valid
    made = len(fake.requests)
    for call in (
        client.validate_key(KEY, client_address="192.0.2.256"),
        client.require_key(KEY, client_address="192.0.2.0/24"),
        client.validate_session("s", client_address="x"),
        client.require_session("s", client_address="x"),
        client.bind_session("s", KEY, 60, client_address="x"),
    ):
        with pytest.raises(InvalidRequestError) as caught:
            await call
        assert [violation.field for violation in caught.value.violations] == ["client_address"]
    (outcome,) = await client.validate_keys([KEY], client_address="x")
    assert [violation.field for violation in outcome.violations] == ["client_address"]
    assert len(fake.requests) == made


async def test_binding_carries_the_address(connect: Connect, fake: Fake) -> None:
    fake.keys |= {KEY: answer(), "limited": answer(15)}
    client = connect()
    assert (await client.bind_session("s", KEY, 60, client_address="[2001:db8::7]:443")).is_valid
    assert (await client.bind_session("s", "limited", 60)).verdict is Verdict.ADDRESS_NOT_ALLOWED
    assert [request.client_address for request in fake.requests] == ["2001:db8::7", ""]


CHANGES: dict[str, Any] = {
    "UpdateTenant": admin_pb2.UpdateTenantRequest(tenant_id="acme"),
    "UpdateKey": admin_pb2.UpdateKeyRequest(key_id="key_1"),
    "DeleteTenant": admin_pb2.DeleteTenantRequest(tenant_id="acme"),
    "ReportLeak": admin_pb2.ReportLeakRequest(plaintext=KEY, source="test"),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_administration_invalidates_the_near_cache(connect: Connect, fake: Fake, change: str) -> None:
    fake.keys[KEY] = answer()
    client = connect(near_cache=NearCache(watch=False))
    for source in (Source.DATABASE, Source.NEAR):
        assert (await client.validate_key(KEY)).provenance.source is source
    await call_stub(getattr(client.raw.admin, change), CHANGES[change])
    assert (await client.validate_key(KEY)).provenance.source is Source.DATABASE
    assert fake.calls[change] == 1


async def test_explaining_and_waiting_change_nothing(connect: Connect, fake: Fake) -> None:
    fake.keys[KEY] = answer()
    client = connect(near_cache=NearCache(watch=False))
    assert (await client.validate_key(KEY)).provenance.source is Source.DATABASE
    await call_stub(client.raw.admin.ExplainKey, admin_pb2.ExplainKeyRequest(plaintext=KEY, client_address="192.0.2.7"))
    waited = await call_stub(client.raw.info.WaitForRevision, info_pb2.WaitForRevisionRequest(revision=7))
    assert waited.applied
    assert (await client.validate_key(KEY)).provenance.source is Source.NEAR
