"""Requests and results of both clients with the fake service."""

from __future__ import annotations

from copy import copy
from datetime import UTC, datetime
from pathlib import Path

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2

from conftest import Connect, collect, until
from fake import Fake
from replies import answer, session_answer
from tenant_auth import (
    Binding,
    DeniedError,
    KeyQuery,
    Principal,
    SessionExpiry,
    Source,
    TenantAuthError,
    TokenFile,
    UnavailableError,
    UsageBucket,
    UsageEvent,
    Validation,
    Verdict,
)
from tenant_auth.proto import session_pb2, usage_pb2

KEY = "ta_canary_0123456789abcdef"


async def test_valid_key_has_its_principal(connect: Connect, fake: Fake) -> None:
    fake.keys[KEY] = answer(expires_at=Timestamp(seconds=2_000_000_000, nanos=5_000_000))
    validation = await connect().validate_key(KEY, ["orders:read"])
    assert validation.is_valid
    assert validation.principal == Principal(
        tenant_id="acme", tenant_name="Acme", plan="pro", key_id="key_1", scopes=("orders:read",)
    )
    assert validation.expires_at == datetime.fromtimestamp(2_000_000_000.005, UTC)
    assert validation.provenance.source is Source.DATABASE
    assert validation.provenance.cacheable_for == 5.0


async def test_denial_is_a_result_and_is_not_retried(connect: Connect, fake: Fake) -> None:
    fake.keys[KEY] = answer(5)
    validation = await connect(near_cache=None).validate_key(KEY)
    assert validation.verdict is Verdict.REVOKED
    assert not validation.is_valid
    assert fake.calls["ValidateKey"] == 1
    with pytest.raises(DeniedError, match="denied: REVOKED") as denied:
        _ = validation.principal
    copied = copy(denied.value)
    assert (str(copied), copied.validation) == ("denied: REVOKED", validation)


async def test_missing_scopes_are_named_with_and_without_a_cache(connect: Connect, fake: Fake) -> None:
    fake.keys[KEY] = answer(scopes=["a", "b"])
    validation = await connect().validate_key(KEY, ["z", "a", "c", "z"])
    assert validation.verdict is Verdict.INSUFFICIENT_SCOPE
    assert validation.missing_scopes == ("c", "z")
    assert validation.tenant_id == "acme"
    fake.keys[KEY] = answer(7, missing_scopes=["c"])
    assert (await connect(near_cache=None).validate_key(KEY, ["c"])).missing_scopes == ("c",)
    assert [list(request.required_scopes) for request in fake.requests] == [[], ["c"]]


async def test_batch_keeps_order_and_each_key_its_outcome(connect: Connect, fake: Fake) -> None:
    fake.keys |= {"a": answer(), "b": status_pb2.Status(code=14, message=f"not {KEY}"), KEY: answer(4)}
    client = connect()
    outcomes = await client.validate_keys(["a", "b", KeyQuery(KEY, "xyz"), "unknown"], ["y"])
    assert isinstance(outcomes[1], UnavailableError)
    assert [o.verdict for o in outcomes if isinstance(o, Validation)] == [
        Verdict.VALID,
        Verdict.EXPIRED,
        Verdict.UNKNOWN,
    ]
    assert [list(one.required_scopes) for one in fake.requests[0].requests] == [["y"], ["y"], ["xyz"], ["y"]]


async def test_batch_response_with_too_few_results_is_an_error(connect: Connect, fake: Fake) -> None:
    fake.drops_one_result = True
    with pytest.raises(TenantAuthError, match="1 results for 2 keys"):
        await connect().validate_keys(["a", "b"])


async def test_session_is_bound_listed_and_unbound(connect: Connect, fake: Fake) -> None:
    fake.keys[KEY] = answer()
    client = connect()
    binding = await client.bind_session("s1", KEY, 90.5, expiry=SessionExpiry.SLIDING, attributes={"a": "b"})
    assert isinstance(binding, Binding)
    assert binding.is_valid
    assert binding.session is not None
    assert (binding.session.expiry, dict(binding.session.attributes)) == (SessionExpiry.SLIDING, {"a": "b"})
    assert not binding.already_bound
    assert (fake.requests[-1].ttl.seconds, fake.requests[-1].ttl.nanos) == (90, 500_000_000)
    assert (await client.bind_session("s1", KEY, 90)).already_bound

    validation = await client.validate_session("s1", KEY, ["orders:read"])
    assert validation.is_valid
    assert dict(validation.attributes) == {"a": "b"}
    assert (await client.validate_session("s1", KEY)).provenance.source is Source.NEAR

    assert await client.unbind_session("s1", "acme")
    assert not await client.unbind_session("s1", "acme")
    assert (await client.validate_session("s1", KEY)).verdict is Verdict.UNBOUND, "own changes must apply immediately"

    fake.pages = [[session_pb2.Session(session_id="s3"), session_pb2.Session(session_id="s2")], [session_pb2.Session()]]
    listed = await collect(client.list_sessions("acme"))
    assert [session.session_id for session in listed] == ["s3", "s2", ""]
    assert fake.calls["ListSessions"] == 2


async def test_session_of_another_tenant_is_a_mismatch(connect: Connect, fake: Fake) -> None:
    fake.keys |= {KEY: answer(), "other": answer(tenant_id="other")}
    client = connect()
    await client.bind_session("s1", KEY, 60)
    binding = await client.bind_session("s1", "other", 60)
    assert (binding.verdict, binding.session) == (Verdict.TENANT_MISMATCH, None)
    fake.sessions["s2"] = session_answer(12)
    assert (await client.validate_session("s2", KEY)).verdict is Verdict.TENANT_MISMATCH


async def test_usage_is_recorded_and_queried(connect: Connect, fake: Fake) -> None:
    client = connect()
    fake.rejected_metrics = {"bad"}
    time = datetime(2026, 11, 21, 7, 2, 11, 250_000, tzinfo=UTC)
    events = [UsageEvent("acme", "bad", 1), UsageEvent("acme", "api.calls", 3, time)]
    receipt = await client.record_usage(events, "r1")
    assert (receipt.accepted, receipt.already_recorded) == (1, False)
    assert (receipt.rejected[0].index, receipt.rejected[0].event) == (0, events[0])
    assert receipt.rejected[0].error.code == "NOT_FOUND"
    assert fake.usage["r1"][0].occurred_at.ToMilliseconds() == time.timestamp() * 1e3
    assert (await client.record_usage(events, "r1")).already_recorded

    start = Timestamp(seconds=1_763_683_200)
    fake.pages = [[usage_pb2.UsageSum(metric="a", bucket_start=start, quantity=5)], [usage_pb2.UsageSum(metric="b")]]
    sums = await collect(client.query_usage("acme", time, time, bucket=UsageBucket.HOUR))
    assert [(s.metric, s.quantity) for s in sums] == [("a", 5), ("b", 0)]
    assert sums[0].bucket_start == datetime.fromtimestamp(1_763_683_200, UTC)
    assert fake.requests[-1].bucket == usage_pb2.USAGE_BUCKET_HOUR


async def test_server_info_describes_the_replica(connect: Connect) -> None:
    info = await connect().server_info()
    assert (info.version, info.database, info.revision) == ("1.2.3", "EMBEDDED", 7)


async def test_caller_token_is_reloaded(connect: Connect, fake: Fake, tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("first\n")
    client = connect(token=TokenFile(file), near_cache=None)
    await client.server_info()
    file.write_text("\ufeffsecond \r\n")
    await client.server_info()
    file.unlink()
    await client.server_info()
    assert [m["authorization"] for m in fake.metadata] == ["Bearer first", "Bearer second", "Bearer second"]

    tokens = iter(["one", "two"])
    client = connect(token=lambda: next(tokens), near_cache=None)
    await client.server_info()
    await client.server_info()
    assert [m["authorization"] for m in fake.metadata[3:]] == ["Bearer one", "Bearer two"]


async def test_replicas_are_used_in_turn(connect: Connect, fake: Fake) -> None:
    other = Fake()
    try:
        client = connect([fake.endpoint, other.endpoint], near_cache=None)
        # Round-robin starts with the replica that connects first.
        while not (fake.calls["GetServerInfo"] and other.calls["GetServerInfo"]):
            await client.server_info()
        before = [fake.calls["GetServerInfo"], other.calls["GetServerInfo"]]
        for _ in range(10):
            await client.server_info()
        assert [fake.calls["GetServerInfo"] - before[0], other.calls["GetServerInfo"] - before[1]] == [5, 5]
    finally:
        other.stop()
    for _ in range(5):
        await client.server_info(timeout=5.0)


async def test_generated_stubs_are_available(connect: Connect, fake: Fake) -> None:
    client = connect()
    await until(lambda: bool(fake.streams))
    assert {"admin", "info", "session", "usage", "validation", "watch"} <= set(vars(client.raw))
