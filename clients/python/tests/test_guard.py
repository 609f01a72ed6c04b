"""Guards of live streams, with the fake service."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import gc
import json
import pickle
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from functools import partial
from typing import Any

import grpc
import pytest
import pytest_asyncio
from google.protobuf.timestamp_pb2 import Timestamp
from pydantic import TypeAdapter

from conftest import until
from fake import Fake
from guards import Source, guards_of
from replies import Failure, answer, session_answer
from tenant_auth import AsyncClient, Client, DeniedError, NearCache, Options, Principal, UnavailableError
from tenant_auth.proto import admin_pb2
from tenant_auth.testing import ManualClock

KEY = "ta_canary_0123456789abcdef"


@pytest_asyncio.fixture
async def client(fake: Fake, clock: ManualClock) -> AsyncIterator[AsyncClient]:
    """A client whose watch stream is live."""
    fake.keys[KEY] = answer()
    async with AsyncClient(fake.endpoint, Options(clock=clock, retry=None)) as client:
        await watch(fake, client)
        yield client


async def watch(fake: Fake, client: AsyncClient, revision: int = 10) -> None:
    await until(lambda: bool(fake.streams))
    fake.heartbeat(revision)
    await until(lambda: client.watch_state.live)


async def pass_time(fake: Fake, clock: ManualClock, seconds: int, client: AsyncClient, revision: int = 10) -> None:
    """Lets time pass with a live watch stream."""
    for _ in range(seconds):
        clock.advance(1.0)
        fake.heartbeat(revision)
        await until(lambda: guards_of(client)._near._stream._last_event_at == clock.monotonic())


async def settle(client: AsyncClient) -> None:
    """Waits until no guard is validating."""
    await until(lambda: all(guard._task is None for guard in guards_of(client)._guards))


async def started(client: AsyncClient, source: Source, **options: Any) -> tuple[Any, asyncio.Task[Any]]:
    """Returns a guarded stream, and the wait for its second item."""
    principal = await client.require_key(KEY, options.pop("required", ()))
    stream = client.guard(principal, source.stream(), **options)
    source.send("first")
    assert await anext(stream) == "first"
    await settle(client)
    return stream, next_of(stream)


def next_of(stream: Any) -> asyncio.Task[Any]:
    return asyncio.create_task(anext(stream))


def retry_delays(clock: ManualClock) -> list[float]:
    return [seconds for seconds in clock.sleeps if seconds < 1.0]


def has_delays(clock: ManualClock, count: int) -> bool:
    return len(retry_delays(clock)) == count


async def reason_of(waiting: asyncio.Task[Any]) -> str:
    """Returns why a stream ended."""
    try:
        await waiting
    except DeniedError as denial:
        return denial.verdict.name
    except UnavailableError as error:
        return str(error.reason)
    raise AssertionError("the stream goes on")


async def test_items_pass_and_the_guard_is_released_at_the_end(client: AsyncClient) -> None:
    source = Source()
    for item in ("a", "b", None):
        source.send(item)
    principal = await client.require_key(KEY)
    assert [item async for item in client.guard(principal, source.stream())] == ["a", "b"]
    assert len(guards_of(client)) == 0
    assert not guards_of(client)._by_subject


@pytest.mark.parametrize(("scope", "name"), [("KEY", "key_1"), ("TENANT", "acme")])
async def test_revocation_ends_a_waiting_stream(client: AsyncClient, fake: Fake, scope: str, name: str) -> None:
    source = Source()
    _, waiting = await started(client, source)
    fake.keys[KEY] = answer(5, revision=11)
    fake.invalidate(scope, name, 11)
    assert await reason_of(waiting) == "REVOKED"
    assert source.closed
    assert len(guards_of(client)) == 0


async def test_stream_goes_on_after_a_change_that_leaves_the_key_valid(client: AsyncClient, fake: Fake) -> None:
    source = Source()
    stream, waiting = await started(client, source)
    fake.keys[KEY] = answer(revision=11)
    fake.invalidate("KEY", "key_1", 11)
    await until(lambda: fake.calls["ValidateKey"] == 2)
    await settle(client)
    source.send("second")
    assert await waiting == "second"
    await stream.aclose()


async def test_scopes_must_still_be_held(client: AsyncClient, fake: Fake) -> None:
    for options in ({"required": "orders:read"}, {"scopes": "orders:read"}):
        fake.keys[KEY] = answer(scopes=["orders:read"], revision=10)
        fake.start_over(10)
        await until(lambda: len(guards_of(client)._near) == 0)
        _, waiting = await started(client, Source(), **options)
        fake.keys[KEY] = answer(scopes=["other"], revision=11)
        fake.invalidate("KEY", "key_1", 11)
        assert await reason_of(waiting) == "INSUFFICIENT_SCOPE"


async def test_start_over_checks_every_stream(client: AsyncClient, fake: Fake) -> None:
    _, waiting = await started(client, Source())
    fake.keys[KEY] = answer(4, revision=3)
    fake.start_over(3)
    assert await reason_of(waiting) == "EXPIRED"


async def test_change_of_this_process_ends_a_stream(client: AsyncClient, fake: Fake) -> None:
    _, waiting = await started(client, Source())
    fake.keys[KEY] = answer(5)
    await client.raw.admin.RevokeKey(admin_pb2.RevokeKeyRequest(key_id="key_1", reason="test"))
    assert await reason_of(waiting) == "REVOKED"


@pytest.mark.parametrize("subject", [("SESSION", "s1"), ("KEY", "key_2")])
async def test_end_of_a_session_ends_its_streams(client: AsyncClient, fake: Fake, subject: tuple[str, str]) -> None:
    fake.sessions["s1"] = session_answer(key_id="key_2", presented_key_id="key_1")
    principal = await client.require_session("s1", KEY)
    source = Source()
    stream = client.guard(principal, source.stream())
    waiting = next_of(stream)
    await until(lambda: len(guards_of(client)) == 1)
    await settle(client)
    fake.sessions["s1"] = session_answer(10, revision=11)
    fake.invalidate(*subject, 11)
    assert await reason_of(waiting) == "UNBOUND"


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


def expiring(clock: ManualClock, seconds: float, verdict: int = 1, **more: Any) -> Any:
    expires_at = Timestamp()
    expires_at.FromDatetime(datetime.fromtimestamp(clock.time() + seconds, UTC).replace(tzinfo=None))
    return answer(verdict, expires_at=expires_at, **more)


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
        passed = 0.0
        while not waiting.done():
            await until(lambda: waiting.done() or bool(clock._sleepers))
            clock.advance(0.25)
            passed += 0.25
            await asyncio.sleep(0.001)
        assert await reason_of(waiting) == "UNDECIDED"
        assert 15.0 <= passed <= 17.0, "5 s that the answer is fresh, and 10 s of patience"


async def test_end_does_not_depend_on_the_consumer_waiting(client: AsyncClient, fake: Fake) -> None:
    principal = await client.require_key(KEY)
    source = Source()
    stream = client.guard(principal, source.stream())
    source.send("first")
    source.send("second")
    assert await anext(stream) == "first"
    fake.keys[KEY] = answer(5, revision=11)
    fake.invalidate("KEY", "key_1", 11)
    await until(lambda: all(guard.reason is not None for guard in guards_of(client)._guards))
    with pytest.raises(DeniedError):
        await anext(stream)
    assert source.closed


async def test_source_is_read_only_on_demand_and_in_the_callers_task(client: AsyncClient) -> None:
    tasks: list[Any] = []

    async def source() -> AsyncIterator[int]:
        for number in range(3):
            tasks.append(asyncio.current_task())
            yield number

    stream = client.guard(await client.require_key(KEY), source())
    assert await anext(stream) == 0
    assert tasks == [asyncio.current_task()]
    await stream.aclose()  # type: ignore[attr-defined]


async def test_errors_of_the_source_pass(client: AsyncClient) -> None:
    async def failing() -> AsyncIterator[int]:
        yield 1
        raise TimeoutError("of the source")

    stream = client.guard(await client.require_key(KEY), failing())
    assert await anext(stream) == 1
    with pytest.raises(TimeoutError, match="of the source"):
        await anext(stream)
    assert len(guards_of(client)) == 0


async def test_abandoned_streams_are_released(client: AsyncClient) -> None:
    principal = await client.require_key(KEY)
    source = Source()
    source.send("first")

    async def leave() -> None:
        async for _ in client.guard(principal, source.stream()):
            break

    await leave()
    gc.collect()
    await until(lambda: len(guards_of(client)) == 0)
    assert source.closed
    client.guard(principal, source.stream())
    assert len(guards_of(client)) == 0, "an iterator that is not used has no guard"
    waiting = next_of(client.guard(principal, Source().stream()))
    await until(lambda: len(guards_of(client)) == 1)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    await until(lambda: len(guards_of(client)) == 0)
    assert guards_of(client)._ticker is None


async def test_closing_the_client_ends_its_streams(fake: Fake) -> None:
    fake.keys[KEY] = answer()
    async with AsyncClient(fake.endpoint) as client:
        _, waiting = await started(client, Source())
    assert await reason_of(waiting) == "UNDECIDED"


async def test_principal_hides_its_key(client: AsyncClient) -> None:
    principal = await client.require_key(KEY)
    forms = [
        repr(principal),
        str(principal),
        json.dumps(dataclasses.asdict(principal)),
        TypeAdapter(Principal).dump_json(principal).decode(),
        pickle.dumps(principal).decode("latin-1"),
        repr(principal._presented),
    ]
    assert not any(KEY in form for form in forms)
    with pytest.raises(TypeError):
        pickle.dumps(principal._presented)
    made = Principal(tenant_id="acme", tenant_name="Acme", plan="pro", key_id="key_1", scopes=("orders:read",))
    assert made == principal
    assert hash(made) == hash(principal)
    for other in (made, copy.copy(principal), copy.deepcopy(principal), pickle.loads(pickle.dumps(principal))):  # noqa: S301
        assert other == principal
        with pytest.raises(ValueError, match="made without its key"):
            client.guard(other, Source().stream())


async def test_invalid_guard_arguments_are_rejected(client: AsyncClient) -> None:
    principal = await client.require_key(KEY)
    for arguments in ({"undecided_for": 0}, {"scopes": 5}):
        with pytest.raises((ValueError, TypeError), match=next(iter(arguments))):
            client.guard(principal, Source().stream(), **arguments)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="principal is str"):
        client.guard("acme", Source().stream())  # type: ignore[arg-type]


def test_client_for_threads_has_no_guard() -> None:
    assert not hasattr(Client, "guard")
