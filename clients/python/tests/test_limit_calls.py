"""When calls about limits are sent, repeated and checked, with both clients and the fake service."""

from __future__ import annotations

import grpc
import pytest

from conftest import Connect, call_stub, until
from fake import Fake
from limit_replies import batch_of, consumed, credential_of, limit
from replies import Failure, answer
from tenant_auth import ConsumeRequest, Source, TenantAuthError, UnavailableError, Verdict
from tenant_auth.proto import limit_pb2
from tenant_auth.testing import ManualClock

KEY = "ta_canary_0123456789abcdef"


async def test_only_a_call_with_an_id_is_sent_again(connect: Connect, fake: Fake) -> None:
    client = connect(jitter=lambda: 0.0)
    fake.limits |= {"Consume": consumed(), "BatchConsume": batch_of(consumed(), consumed())}
    undecided = Failure(grpc.StatusCode.UNAVAILABLE, reason="LIMIT_UNDECIDED")
    for consume_id, calls in ((None, 1), ("c-1", 2)):
        fake.calls.clear()
        fake.failures.append(undecided)
        if consume_id is None:
            with pytest.raises(UnavailableError) as caught:
                await client.consume(KEY, {"requests": 1})
            assert caught.value.reason == "LIMIT_UNDECIDED"
        else:
            assert (await client.consume(KEY, {"requests": 1}, consume_id)).allowed
        assert fake.calls["Consume"] == calls
    for second, calls in ((None, 1), ("c-2", 2)):
        fake.calls.clear()
        fake.failures.append(undecided)
        requests = [ConsumeRequest(KEY, {"requests": 1}, consume_id) for consume_id in ("c-1", second)]
        if second is None:
            with pytest.raises(UnavailableError):
                await client.consume_many(requests)
        else:
            assert [one.allowed for one in await client.consume_many(requests)] == [True, True]
        assert fake.calls["BatchConsume"] == calls


async def test_call_that_could_not_be_sent_is_retried(connect: Connect, fake: Fake) -> None:
    clock = ManualClock(auto=True)
    fake.stop()
    client = connect(clock=clock, jitter=lambda: 0.5, near_cache=None)
    with pytest.raises(UnavailableError):
        await client.consume(KEY, {"requests": 1})
    assert clock.sleeps == [0.025, 0.05, 0.1]


async def test_consumption_is_not_hedged(connect: Connect) -> None:
    hung = Fake()
    hung.responding.clear()
    other = Fake()
    other.limits["Consume"] = hung.limits["Consume"] = consumed()
    client = connect([hung.endpoint, other.endpoint], hedge_after=0.01, timeout=0.3)
    for _ in range(2):
        try:
            await client.consume(KEY, {"requests": 1}, "c-1")
        except TenantAuthError as error:
            assert error.is_transient
    assert hung.calls["Consume"] + other.calls["Consume"] <= 3, "two calls, of which one may fail over"
    for fake in (hung, other):
        fake.stop()


async def test_consumption_keeps_the_near_cache(connect: Connect, fake: Fake) -> None:
    client = connect()
    fake.keys[KEY] = answer()
    fake.limits["Consume"] = consumed(1, limit())
    await client.validate_key(KEY)
    assert (await client.consume(KEY, {"requests": 1})).validation.provenance.source is Source.DATABASE
    await call_stub(client.raw.limit.Consume, limit_pb2.ConsumeRequest(credential=credential_of(KEY)))
    assert (await client.validate_key(KEY)).provenance.source is Source.NEAR
    assert (fake.calls["Consume"], fake.calls["ValidateKey"]) == (2, 1)


async def test_consumption_is_not_weaker_than_a_reported_change(connect: Connect, fake: Fake) -> None:
    client = connect()
    await until(lambda: bool(fake.streams))
    fake.heartbeat(10)
    await until(lambda: client.watch_state.live)
    fake.limits["Consume"] = consumed(1, limit())
    fake.invalidate("KEY", "key_1", 11)
    await until(lambda: client.watch_state.revision == 11)
    fake.keys[KEY] = answer(5, revision=11)
    for calls in (1, 1):
        made = await client.consume(KEY, {"requests": 1})
        assert (made.verdict, made.allowed, made.limits) == (Verdict.REVOKED, False, ())
        assert fake.calls["ValidateKey"] == calls, "the first denial is cached"
    fake.limits["Consume"] = consumed(1, limit(), about=answer(revision=12))
    assert (await client.consume(KEY, {"requests": 1})).allowed, "the answer is newer"
