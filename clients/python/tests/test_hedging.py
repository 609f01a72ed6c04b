"""Both clients with a slow but live replica, which the real service cannot simulate."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from conftest import Connect, engine_of, until
from fake import Fake
from replies import answer
from tenant_auth import DeadlineExceededError, Retry, UsageEvent
from test_replicas import connected, tokens_of


@pytest.fixture
def other() -> Iterator[Fake]:
    other = Fake()
    yield other
    other.stop()


async def slow_pair(connect: Connect, fake: Fake, other: Fake, **options: Any) -> Any:
    """A client whose next call goes to `fake`, which holds its response back."""
    fake.keys["k"] = other.keys["k"] = answer()
    client = connect([fake.endpoint, other.endpoint], near_cache=None, timeout=20.0, **options)
    await until(lambda: connected(client) == 2)
    while True:
        before = other.calls["GetServerInfo"]
        await client.server_info()
        if other.calls["GetServerInfo"] > before:
            fake.responding.clear()
            return client


async def test_slow_read_is_hedged_and_first_response_wins(connect: Connect, fake: Fake, other: Fake) -> None:
    client = await slow_pair(connect, fake, other, hedge_after=0.02)
    assert (await client.validate_key("k")).is_valid
    assert (fake.calls["ValidateKey"], other.calls["ValidateKey"]) == (1, 1)
    assert tokens_of(client) < 10, "a hedge costs budget like a retry"
    # The replica passes the health check, so it is slow but live.
    await until(lambda: not any(replica.check_pending for replica in replicas_of(client)))
    assert connected(client) == 2


async def test_write_is_never_hedged(connect: Connect, fake: Fake, other: Fake) -> None:
    client = await slow_pair(connect, fake, other, hedge_after=0.02)
    event = UsageEvent("acme", "a", 1)
    recording = asyncio.ensure_future(client.record_usage([event], "r1"))
    await asyncio.to_thread(fake.until, lambda: fake.calls["RecordUsage"] == 1)
    # At this time a read would have been hedged.
    await asyncio.to_thread(fake.until, lambda: fake.calls["Check"] == 1)
    fake.responding.set()
    assert (await recording).accepted == 1
    assert other.calls["RecordUsage"] == 0


@pytest.mark.parametrize("retry", [Retry(burst=0, budget=0.0), None])
async def test_read_is_not_hedged_without_a_budget(
    connect: Connect, fake: Fake, other: Fake, retry: Retry | None
) -> None:
    client = await slow_pair(connect, fake, other, hedge_after=0.02, retry=retry)
    with pytest.raises(DeadlineExceededError):
        await client.validate_key("k", timeout=0.3)
    assert other.calls["ValidateKey"] == 0


def replicas_of(client: Any) -> list[Any]:
    return list(engine_of(client)._pool._replicas.values())
