"""Near caches of both clients with a service that sends invalidations: the stream, interruptions, merged calls."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import pytest

from conftest import Connect, engine_of, until
from fake import Fake
from replies import Failure, answer, session_answer
from tenant_auth import DeadlineExceededError, NearCache, Source, UnavailableError, Verdict
from tenant_auth._watch import UNIMPLEMENTED_DELAY, ReconnectDelays
from tenant_auth.proto import watch_pb2
from tenant_auth.testing import ManualClock


async def start_stream(client: Any, fake: Fake, revision: int = 10) -> None:
    """Waits until the client has received a revision from a stream."""
    await asyncio.to_thread(fake.until, lambda: bool(fake.streams))
    fake.heartbeat(revision)
    await until(lambda: client.watch_state.live and client.watch_state.revision >= revision)


async def send_heartbeats(client: Any, fake: Fake, clock: ManualClock, seconds: int, revision: int) -> int:
    """Advances the clock with one heartbeat per second. Tests distinguish heartbeats by their revision."""
    for _ in range(seconds):
        clock.advance(1)
        revision += 1
        fake.heartbeat(revision)
        await until(lambda wanted=revision: client.watch_state.revision == wanted)  # type: ignore[misc]
    return revision


async def test_watched_answer_is_requested_once(connect: Connect, fake: Fake) -> None:
    fake.keys["k"] = answer(scopes=["a"])
    clock = ManualClock()
    client = connect(clock=clock)
    await start_stream(client, fake)
    assert (await client.validate_key("k")).provenance.source is Source.DATABASE
    await send_heartbeats(client, fake, clock, 30, 10)
    near = await client.validate_key("k", ["a"])
    assert (near.verdict, near.provenance.source, near.provenance.age) == (Verdict.VALID, Source.NEAR, 30.0)
    assert (await client.validate_key("k", ["b"])).verdict is Verdict.INSUFFICIENT_SCOPE
    assert fake.calls["ValidateKey"] == 1


async def test_revocation_invalidates_a_key(connect: Connect, fake: Fake) -> None:
    fake.keys["k"] = answer()
    client = connect(clock=ManualClock())
    await start_stream(client, fake)
    assert (await client.validate_key("k")).is_valid
    fake.keys["k"] = answer(5, revision=11)
    fake.invalidate("KEY", "key_1", 11)
    await until(lambda: client.watch_state.revision == 11)
    assert (await client.validate_key("k")).verdict is Verdict.REVOKED
    assert (await client.validate_key("k")).provenance.source is Source.NEAR


async def test_session_invalidation_is_applied(connect: Connect, fake: Fake) -> None:
    fake.sessions["s"] = session_answer()
    client = connect(clock=ManualClock())
    await start_stream(client, fake)
    assert (await client.validate_session("s", "k")).is_valid
    fake.invalidate("SESSION", "s", 11)
    await until(lambda: client.watch_state.revision == 11)
    fake.sessions["s"] = session_answer(10, revision=11)
    assert (await client.validate_session("s", "k")).verdict is Verdict.UNBOUND


async def test_presented_key_invalidates_a_session(connect: Connect, fake: Fake) -> None:
    fake.sessions["s"] = session_answer(key_id="key_1", presented_key_id="key_2")
    client = connect(clock=ManualClock())
    await start_stream(client, fake)
    assert (await client.validate_session("s", "the second")).presented_key_id == "key_2"
    assert (await client.validate_session("s", "the second")).provenance.source is Source.NEAR
    fake.invalidate("KEY", "key_2", 11)
    await until(lambda: client.watch_state.revision == 11)
    fake.sessions["s"] = session_answer(5, revision=11)
    assert (await client.validate_session("s", "the second")).verdict is Verdict.REVOKED


async def test_superseded_answer_is_returned_but_not_cached(connect: Connect, fake: Fake) -> None:
    fake.keys["k"] = answer(revision=10)
    client = connect(clock=ManualClock(), timeout=60.0)
    await start_stream(client, fake)
    fake.responding.clear()
    pending = asyncio.ensure_future(client.validate_key("k"))
    await asyncio.to_thread(fake.until, lambda: fake.calls["ValidateKey"] == 1)
    fake.invalidate("KEY", "key_1", 11)
    await until(lambda: client.watch_state.revision == 11)
    # A request after the invalidation must not get the answer from before it.
    later = asyncio.ensure_future(client.validate_key("k"))
    await asyncio.to_thread(fake.until, lambda: fake.calls["ValidateKey"] == 2)
    fake.responding.set()
    assert (await pending).is_valid
    await later
    assert (await client.validate_key("k")).provenance.source is Source.DATABASE
    assert fake.calls["ValidateKey"] == 3


@pytest.mark.parametrize("event", ["start_over", "unknown event", "unknown scope"])
async def test_start_over_and_unknown_events_clear_the_cache(connect: Connect, fake: Fake, event: str) -> None:
    fake.keys["k"] = answer()
    client = connect(clock=ManualClock())
    await start_stream(client, fake)
    await client.validate_key("k")
    if event == "start_over":
        fake.start_over(20)
    elif event == "unknown event":
        fake.emit(revision=20)
    else:
        fake.emit(revision=20, invalidation=watch_pb2.Invalidation(scope=9, id="x"))  # type: ignore[arg-type]
    await until(lambda: client.watch_state.revision == 20)
    assert (await client.validate_key("k")).provenance.source is Source.DATABASE


async def test_broken_stream_is_resumed(connect: Connect, fake: Fake) -> None:
    fake.keys["k"] = answer()
    clock = ManualClock()
    client = connect(clock=clock, jitter=lambda: 1.0)
    await start_stream(client, fake)
    await client.validate_key("k")
    last = await send_heartbeats(client, fake, clock, 10, 10)
    fake.break_streams()
    await until(lambda: 0.1 in clock.sleeps)
    clock.advance(0.1)
    await asyncio.to_thread(fake.until, lambda: fake.calls["Watch"] == 2 and bool(fake.streams))
    assert fake.streams[0].resumed_after == last
    await start_stream(client, fake, last + 1)
    assert (await client.validate_key("k")).provenance.source is Source.NEAR


async def test_stalled_stream_is_not_used_and_reopened(connect: Connect, fake: Fake) -> None:
    fake.keys["k"] = answer()
    clock = ManualClock()
    client = connect(clock=clock, jitter=lambda: 1.0)
    await start_stream(client, fake)
    await client.validate_key("k")
    last = await send_heartbeats(client, fake, clock, 5, 10)
    clock.advance(3.1)
    assert not client.watch_state.live
    assert (await client.validate_key("k")).provenance.source is Source.DATABASE
    await until(lambda: 0.1 in clock.sleeps)
    clock.advance(0.1)
    await asyncio.to_thread(fake.until, lambda: fake.calls["Watch"] == 2 and bool(fake.streams))
    await start_stream(client, fake, last + 1)


@pytest.mark.parametrize("code", [grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.FAILED_PRECONDITION])
async def test_near_cache_without_stream_uses_cacheable_for(
    connect: Connect, fake: Fake, code: grpc.StatusCode
) -> None:
    fake.watch_enabled, fake.watch_error = False, code
    fake.keys["k"] = answer(cacheable_for=5)
    clock = ManualClock()
    client = connect(clock=clock)
    await until(lambda: UNIMPLEMENTED_DELAY in clock.sleeps)
    await client.validate_key("k")
    clock.advance(4.9)
    assert (await client.validate_key("k")).provenance.source is Source.NEAR
    clock.advance(0.1)
    assert (await client.validate_key("k")).provenance.source is Source.DATABASE
    assert fake.calls["Watch"] == 1
    fake.watch_enabled = True
    clock.advance(55)
    await asyncio.to_thread(fake.until, lambda: fake.calls["Watch"] == 2)
    await start_stream(client, fake)


async def test_stream_and_near_cache_can_be_turned_off(connect: Connect, fake: Fake) -> None:
    fake.keys["k"] = answer()
    for near, sources in (
        (NearCache(watch=False), [Source.DATABASE, Source.NEAR]),
        (None, [Source.DATABASE, Source.DATABASE]),
    ):
        client = connect(near_cache=near)
        assert [(await client.validate_key("k")).provenance.source for _ in range(2)] == sources
        assert not client.watch_state.live
    assert fake.calls["Watch"] == 0


async def test_reconnect_delay_grows_with_failures() -> None:
    delays = ReconnectDelays(lambda: 1.0)
    assert [delays.after("UNAVAILABLE") for _ in range(7)] == [0.1, 0.2, 0.4, 0.8, 1.6, 3.0, 3.0]
    delays.succeeded()
    assert delays.after("OK") == 0.1
    assert delays.after("UNIMPLEMENTED") == 60.0


async def test_concurrent_requests_for_one_key_are_one_call(connect: Connect, fake: Fake) -> None:
    fake.keys["k"] = answer(scopes=["a"])
    client = connect(timeout=60.0)
    fake.responding.clear()
    # As many as the test's thread pool has threads.
    scopes = [["a"], ["b"], []] * 20
    pending = [asyncio.ensure_future(client.validate_key("k", one)) for one in scopes]
    await asyncio.to_thread(fake.until, lambda: fake.calls["ValidateKey"] == 1)
    fake.responding.set()
    verdicts = [validation.verdict for validation in await asyncio.gather(*pending)]
    assert verdicts == [Verdict.VALID, Verdict.INSUFFICIENT_SCOPE, Verdict.VALID] * 20
    assert fake.calls["ValidateKey"] == 1


async def test_caller_that_gives_up_does_not_affect_others(connect: Connect, fake: Fake) -> None:
    fake.keys["k"] = answer()
    client = connect(timeout=60.0)
    fake.responding.clear()
    waiting = asyncio.ensure_future(client.validate_key("k"))
    await asyncio.to_thread(fake.until, lambda: fake.calls["ValidateKey"] == 1)
    with pytest.raises(DeadlineExceededError):
        await client.validate_key("k", timeout=0.05)
    fake.responding.set()
    assert (await waiting).is_valid
    assert fake.calls["ValidateKey"] == 1


async def test_short_timeout_does_not_affect_other_callers(connect: Connect, fake: Fake) -> None:
    fake.keys["k"] = answer()
    client = connect(timeout=0.5)
    fake.responding.clear()
    short = asyncio.ensure_future(client.validate_key("k", timeout=0.3))
    await asyncio.to_thread(fake.until, lambda: fake.calls["ValidateKey"] == 1)
    waiting = asyncio.ensure_future(client.validate_key("k", timeout=60.0))
    with pytest.raises(DeadlineExceededError):
        await short
    # Its own call, or the one after the first timeout, is answered.
    await asyncio.to_thread(fake.until, lambda: fake.calls["ValidateKey"] == 2)
    fake.responding.set()
    assert (await waiting).is_valid


async def test_cancelled_task_does_not_affect_others(fake: Fake) -> None:
    from tenant_auth import AsyncClient, Options

    fake.keys["k"] = answer()
    fake.responding.clear()
    async with AsyncClient(fake.endpoint, Options(timeout=60.0)) as client:
        first = asyncio.ensure_future(client.validate_key("k"))
        await asyncio.to_thread(fake.until, lambda: fake.calls["ValidateKey"] == 1)
        second = asyncio.ensure_future(client.validate_key("k"))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        fake.responding.set()
        assert (await second).is_valid
    assert fake.calls["ValidateKey"] == 1


async def test_error_is_shared_but_not_cached(connect: Connect, fake: Fake) -> None:
    fake.keys["k"] = answer()
    fake.permanent_failure = Failure(grpc.StatusCode.UNAVAILABLE, reason="DATABASE_BUSY")
    client = connect(retry=None, timeout=60.0)
    fake.responding.clear()
    pending = [asyncio.ensure_future(client.validate_key("k")) for _ in range(20)]
    await asyncio.to_thread(fake.until, lambda: fake.calls["ValidateKey"] == 1)
    await until(lambda: in_flight(client) == 20)
    fake.responding.set()
    errors = await asyncio.gather(*pending, return_exceptions=True)
    assert all(isinstance(error, UnavailableError) and error.reason == "DATABASE_BUSY" for error in errors)
    assert len({id(error) for error in errors}) == 20, "each error has its own traceback"
    assert fake.calls["ValidateKey"] == 1
    fake.permanent_failure = None
    assert (await client.validate_key("k")).provenance.source is Source.DATABASE


def in_flight(client: Any) -> int:
    return int(engine_of(client)._in_flight_count)
