"""When guards validate again, with the fake service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import grpc
import pytest
import pytest_asyncio

from conftest import until
from fake import Fake
from guards import (
    KEY,
    Source,
    expiring,
    guards_of,
    has_delays,
    next_of,
    pass_time,
    pass_time_until,
    reason_of,
    retry_delays,
    settle,
    started,
    watch,
)
from replies import Failure, answer
from tenant_auth import AsyncClient, NearCache, Options
from tenant_auth.testing import ManualClock


@pytest_asyncio.fixture
async def client(fake: Fake, clock: ManualClock) -> AsyncIterator[AsyncClient]:
    """A client whose watch stream is live."""
    fake.keys[KEY] = answer()
    async with AsyncClient(fake.endpoint, Options(clock=clock, retry=None)) as client:
        await watch(fake, client)
        yield client


@pytest.mark.parametrize("recovers", [True, False])
async def test_undecided_change_is_retried_for_one_second(
    client: AsyncClient, fake: Fake, clock: ManualClock, recovers: bool
) -> None:
    source = Source()
    stream, waiting = await started(client, source)
    fake.permanent_failure = Failure(grpc.StatusCode.UNAVAILABLE)
    fake.invalidate("KEY", "key_1", 11)
    await until(lambda: 0.05 in clock.sleeps)
    if recovers:
        fake.permanent_failure = None
        fake.keys[KEY] = answer(revision=11)
        clock.advance(0.05)
        await settle(client)
        source.send("second")
        assert await waiting == "second"
        await stream.aclose()
        return
    # The delays between attempts: 0.05, 0.1, 0.2, 0.4 and the rest of the second.
    for count in range(1, 6):
        await until(partial(has_delays, clock, count))
        clock.advance(retry_delays(clock)[-1])
    assert await reason_of(waiting) == "UNDECIDED"


async def test_answer_older_than_the_change_does_not_count(client: AsyncClient, fake: Fake, clock: ManualClock) -> None:
    _, waiting = await started(client, Source())
    # The replica that answers does not know the revocation yet.
    fake.invalidate("KEY", "key_1", 11)
    await until(lambda: fake.calls["ValidateKey"] == 2)
    fake.keys[KEY] = answer(5, revision=11)
    await until(lambda: 0.05 in clock.sleeps)
    clock.advance(0.05)
    assert await reason_of(waiting) == "REVOKED"


async def test_stream_ends_when_its_key_expires(client: AsyncClient, fake: Fake, clock: ManualClock) -> None:
    fake.keys[KEY] = expiring(clock, 2.5)
    _, waiting = await started(client, Source())
    await pass_time(fake, clock, 2, client)
    assert not waiting.done()
    assert fake.calls["ValidateKey"] == 1
    clock.advance(0.5)
    assert await reason_of(waiting) == "EXPIRED"
    assert fake.calls["ValidateKey"] == 2, "an expiry may have been extended"


async def test_extended_expiry_keeps_the_stream(client: AsyncClient, fake: Fake, clock: ManualClock) -> None:
    fake.keys[KEY] = expiring(clock, 2.5)
    source = Source()
    stream, waiting = await started(client, source)
    fake.keys[KEY] = expiring(clock, 100)
    await pass_time(fake, clock, 2, client)
    clock.advance(0.5)
    await until(lambda: fake.calls["ValidateKey"] == 2)
    await settle(client)
    source.send("second")
    assert await waiting == "second"
    await stream.aclose()


async def test_idle_guards_cost_no_calls_while_watched(client: AsyncClient, fake: Fake, clock: ManualClock) -> None:
    principal = await client.require_key(KEY)
    sources = [Source() for _ in range(200)]
    streams = [client.guard(principal, source.stream()) for source in sources]
    waiting = [next_of(stream) for stream in streams]
    await until(lambda: len(guards_of(client)) == 200)
    await settle(client)
    tasks = len(asyncio.all_tasks())
    await pass_time(fake, clock, 90, client)
    assert fake.calls["ValidateKey"] == 1
    assert len(asyncio.all_tasks()) == tasks
    fake.keys[KEY] = answer(5, revision=11)
    fake.invalidate("KEY", "key_1", 11)
    assert {await reason_of(one) for one in waiting} == {"REVOKED"}
    assert fake.calls["ValidateKey"] == 2, "the guards of a key share their calls"


@pytest.mark.parametrize("near_cache", [None, NearCache(watch=False), NearCache()])
async def test_stream_is_validated_regularly_without_a_watch_stream(
    fake: Fake, clock: ManualClock, near_cache: NearCache | None
) -> None:
    fake.keys[KEY] = answer()
    fake.watch_enabled = False
    async with AsyncClient(fake.endpoint, Options(clock=clock, retry=None, near_cache=near_cache)) as client:
        _, waiting = await started(client, Source())
        calls = fake.calls["ValidateKey"]
        for second in range(5):
            assert fake.calls["ValidateKey"] == calls, second
            await until(lambda: any(sleeper.until == clock.monotonic() + 1.0 for sleeper in clock._sleepers))
            clock.advance(1.0)
        await until(lambda: fake.calls["ValidateKey"] == calls + 1)
        await settle(client)
        fake.keys[KEY] = answer(6)
        for _ in range(5):
            await until(lambda: any(sleeper.until == clock.monotonic() + 1.0 for sleeper in clock._sleepers))
            clock.advance(1.0)
        assert await reason_of(waiting) == "TENANT_SUSPENDED"


async def test_revocation_before_the_watch_stream_was_live_is_noticed(fake: Fake, clock: ManualClock) -> None:
    fake.keys[KEY] = answer()
    async with AsyncClient(fake.endpoint, Options(clock=clock, retry=None)) as client:
        _, waiting = await started(client, Source())
        # Not reported: the stream starts later.
        fake.keys[KEY] = answer(5, revision=11)
        clock.advance(0.5)
        await watch(fake, client, revision=11)
        await pass_time(fake, clock, 6, client, revision=11)
        assert await reason_of(waiting) == "REVOKED"


async def test_undecided_stream_goes_on_for_ten_seconds(fake: Fake, clock: ManualClock) -> None:
    fake.keys[KEY] = answer()
    fake.watch_enabled = False
    async with AsyncClient(fake.endpoint, Options(clock=clock, retry=None)) as client:
        _, waiting = await started(client, Source())
        fake.permanent_failure = Failure(grpc.StatusCode.UNAVAILABLE)
        passed = await pass_time_until(clock, waiting.done)
        assert await reason_of(waiting) == "UNDECIDED"
        assert passed >= 15.0, "5 s that the answer is fresh, and 10 s of patience"


async def test_failing_token_function_is_an_undecided_check(fake: Fake, clock: ManualClock) -> None:
    fake.keys[KEY] = answer()
    fails = False

    def token() -> str:
        if fails:
            raise OSError("no token")
        return "token"

    async with AsyncClient(fake.endpoint, Options(clock=clock, retry=None, token=token)) as client:
        await watch(fake, client)
        _, waiting = await started(client, Source())
        fails = True
        fake.invalidate("KEY", "key_1", 11)
        for count in range(1, 6):
            await until(partial(has_delays, clock, count))
            clock.advance(retry_delays(clock)[-1])
        assert await reason_of(waiting) == "UNDECIDED"


async def test_reported_change_does_not_wait_for_the_delay_of_a_failure(
    fake: Fake, clock: ManualClock, client: AsyncClient
) -> None:
    _, waiting = await started(client, Source())
    fake.permanent_failure = Failure(grpc.StatusCode.UNAVAILABLE)
    fake.invalidate("KEY", "key_1", 11)
    await until(partial(has_delays, clock, 1))
    fake.permanent_failure = None
    fake.keys[KEY] = answer(5, revision=12)
    fake.invalidate("KEY", "key_1", 12)
    # The clock stands still.
    assert await reason_of(waiting) == "REVOKED"


async def test_failure_of_a_guard_ends_its_stream(
    client: AsyncClient, fake: Fake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    _, waiting = await started(client, Source())

    def fail(*_arguments: Any) -> None:
        raise RuntimeError("unexpected")

    monkeypatch.setattr(guards_of(client), "validate", fail)
    fake.keys[KEY] = answer(revision=11)
    fake.invalidate("KEY", "key_1", 11)
    assert await reason_of(waiting) == "UNDECIDED"
    assert "guard failed" in caplog.text
