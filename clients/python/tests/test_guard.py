"""Guards of live streams, with the fake service."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import gc
import json
import pickle
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from pydantic import TypeAdapter

from conftest import until
from fake import Fake
from guards import (
    KEY,
    Source,
    guards_of,
    next_of,
    reason_of,
    settle,
    started,
    watch,
)
from replies import answer, session_answer
from tenant_auth import AsyncClient, Client, ClosedError, DeniedError, Options, Principal, UnavailableError
from tenant_auth.proto import admin_pb2
from tenant_auth.testing import ManualClock


@pytest_asyncio.fixture
async def client(fake: Fake, clock: ManualClock) -> AsyncIterator[AsyncClient]:
    """A client whose watch stream is live."""
    fake.keys[KEY] = answer()
    async with AsyncClient(fake.endpoint, Options(clock=clock, retry=None)) as client:
        await watch(fake, client)
        yield client


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


async def test_interrupted_source_may_end_in_its_own_way(client: AsyncClient, fake: Fake) -> None:
    async def ends() -> AsyncIterator[int]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            return
        yield 1

    async def fails() -> AsyncIterator[int]:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise OSError("interrupted") from None
        yield 1

    for revision, source in ((11, ends), (13, fails)):
        fake.keys[KEY] = answer(revision=revision)
        fake.invalidate("KEY", "key_1", revision)
        await until(lambda: len(guards_of(client)._near) == 0)
        waiting = next_of(client.guard(await client.require_key(KEY), source()))
        await until(lambda: len(guards_of(client)) == 1)
        await settle(client)
        fake.keys[KEY] = answer(5, revision=revision + 1)
        fake.invalidate("KEY", "key_1", revision + 1)
        assert await reason_of(waiting) == "REVOKED"


async def test_undecided_end_has_its_cause(fake: Fake) -> None:
    fake.keys[KEY] = answer()
    async with AsyncClient(fake.endpoint) as client:
        _, waiting = await started(client, Source())
    with pytest.raises(UnavailableError) as caught:
        await waiting
    assert isinstance(caught.value.__cause__, ClosedError)


async def test_caller_that_is_cancelled_stays_cancelled(client: AsyncClient, fake: Fake) -> None:
    _, waiting = await started(client, Source())
    guard = next(iter(guards_of(client)._guards))
    guard.end_undecided(OSError())
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
