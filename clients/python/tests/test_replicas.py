"""Both clients with several real replicas: resolution, latency, hung and replaced replicas."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
import pytest_asyncio

from conftest import Connect, engine_of, until
from latency_proxy import LatencyProxy
from service import Fleet, Replica, fleet_in
from tenant_auth import Retry, UnavailableError, UsageEvent, _resolver

LONG_TIMEOUT = 4.0
"""Timeout for busy machines. A quarter of it is much longer than any round trip here."""


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet_in(tmp_path_factory.mktemp("fleet")) as fleet:
        yield fleet


@pytest_asyncio.fixture
async def pair(fleet: Fleet) -> AsyncIterator[tuple[Replica, Replica]]:
    pair = fleet.start(), fleet.start()
    yield pair
    for replica in pair:
        replica.kill()


def pool_of(client: Any) -> Any:
    return engine_of(client)._pool


def connected(client: Any) -> int:
    """The number of connected replicas."""
    return sum(replica.ready for replica in pool_of(client)._replicas.values())


def tokens_of(client: Any) -> float:
    return float(client._core._budget._tokens)


@pytest.mark.parametrize("form", ["list", "commas", "urls", "names"])
async def test_endpoints_are_used_in_turn(connect: Connect, fleet: Fleet, pair: Any, form: str) -> None:
    endpoints = [replica.endpoint for replica in pair]
    given: Any = {
        "list": endpoints,
        "commas": ",".join(endpoints),
        "urls": [f"http://{endpoint}" for endpoint in endpoints],
        "names": [f"dns:///localhost:{replica.port}" for replica in pair],
    }[form]
    client = connect(given, near_cache=None)
    await until(lambda: connected(client) == 2)
    # Only one of the two replicas has this session.
    assert (await client.bind_session("session", fleet.key, 60, timeout=10.0)).is_valid
    verdicts = [(await client.validate_session("session", timeout=10.0)).is_valid for _ in range(10)]
    assert verdicts.count(True) == 5
    await client.unbind_session("session", fleet.tenant)
    await client.unbind_session("session", fleet.tenant)


async def test_ipv6_authority_has_brackets(connect: Connect, fleet: Fleet) -> None:
    replica = fleet.start("[::1]:0")
    assert replica.endpoint.startswith("[::1]:")
    assert (await connect(replica.endpoint).require_key(fleet.key, timeout=10.0)).tenant_id == fleet.tenant
    replica.kill()


async def test_name_that_appears_late_is_used(
    connect: Connect, fleet: Fleet, pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: dict[str, list[str]] = {}

    async def lookup(host: str, _port: int) -> list[str]:
        if host not in known:
            raise OSError("no such name")
        return known[host]

    monkeypatch.setattr(_resolver, "lookup", lookup)
    client = connect([f"first.test:{pair[0].port}", f"second.test:{pair[1].port}"], near_cache=None)
    with pytest.raises(UnavailableError, match=r"first\.test cannot be looked up: no such name"):
        await client.require_key(fleet.key)
    known["first.test"] = ["127.0.0.1"]
    await until(lambda: connected(client) == 1)
    await client.require_key(fleet.key)
    known["second.test"] = ["127.0.0.1"]
    await until(lambda: connected(client) == 2)
    await client.require_key(fleet.key)


async def test_changed_address_of_a_name_is_used(
    connect: Connect, fleet: Fleet, pair: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    addresses = ["127.0.0.1"]

    async def lookup(_host: str, _port: int) -> list[str]:
        return addresses

    monkeypatch.setattr(_resolver, "lookup", lookup)
    other = fleet.start(f"127.0.0.2:{pair[0].port}")
    client = connect(f"changing.test:{pair[0].port}", near_cache=None)
    await client.require_key(fleet.key, timeout=10.0)
    addresses[:] = ["127.0.0.2"]
    pair[0].kill()
    await until(lambda: [a.target for a in pool_of(client)._replicas] == [f"ipv4:{other.endpoint}"])
    await client.require_key(fleet.key, timeout=10.0)


# The last round trip takes longer than the delay before a refused address is retried.
@pytest.mark.parametrize("round_trip", [0.08, 0.15, 0.9])
async def test_latency_causes_neither_failures_nor_hedges(
    connect: Connect, fleet: Fleet, pair: Any, round_trip: float
) -> None:
    proxies = [LatencyProxy(replica.port, round_trip) for replica in pair]
    client = connect([proxy.endpoint for proxy in proxies], near_cache=None, timeout=10.0)
    for _ in range(4):
        await client.require_key(fleet.key)
    assert tokens_of(client) == 10
    for proxy in proxies:
        proxy.close()


@pytest.mark.parametrize("round_trip", [0.0, 0.08, 0.15])
async def test_hung_replica_fails_no_call_and_is_skipped(
    connect: Connect, fleet: Fleet, pair: Any, round_trip: float
) -> None:
    proxies = [LatencyProxy(replica.port, round_trip) for replica in pair]
    client = connect([proxy.endpoint for proxy in proxies], near_cache=None, timeout=LONG_TIMEOUT)
    await until(lambda: connected(client) == 2)
    await client.require_key(fleet.key)
    pair[1].hang()
    # More calls than the budget of hedges and retries could cover.
    await asyncio.gather(*(client.require_key(fleet.key) for _ in range(50)))
    await until(lambda: connected(client) == 1)
    before = tokens_of(client)
    for _ in range(5):
        await client.require_key(fleet.key)
    assert tokens_of(client) >= before, "the hung replica must get no more calls"
    pair[1].resume()
    await until(lambda: connected(client) == 2)
    for proxy in proxies:
        proxy.close()


async def test_usage_moves_off_a_hung_replica_and_counts_once(connect: Connect, fleet: Fleet, pair: Any) -> None:
    client = connect([replica.endpoint for replica in pair], near_cache=None, timeout=LONG_TIMEOUT)
    await until(lambda: connected(client) == 2)
    pair[1].hang()
    event = UsageEvent(fleet.tenant, "moved", 1)
    receipts = [await client.record_usage([event], f"r{number}", timeout=5.0) for number in range(2)]
    assert [receipt.accepted for receipt in receipts] == [1, 1]


@pytest.mark.parametrize("stop_method", ["kill", "terminate"])
async def test_rolling_restart_fails_no_call(connect: Connect, fleet: Fleet, pair: Any, stop_method: str) -> None:
    client = connect([replica.endpoint for replica in pair], near_cache=None, timeout=LONG_TIMEOUT)
    await until(lambda: connected(client) == 2)
    stop = asyncio.Event()

    async def call_repeatedly() -> int:
        calls = 0
        while not stop.is_set():
            await client.require_key(fleet.key)
            calls += 1
        return calls

    callers = [asyncio.create_task(call_repeatedly()) for _ in range(4)]
    replaced = []
    for replica in pair:
        await client.require_key(fleet.key)
        await asyncio.to_thread(getattr(replica, stop_method))
        await until(lambda: connected(client) == 1)
        replaced.append(await asyncio.to_thread(fleet.start, replica.endpoint))
        await until(lambda: connected(client) == 2)
    stop.set()
    assert all(calls > 0 for calls in await asyncio.gather(*callers))
    for replica in replaced:
        replica.kill()


async def test_watch_stream_moves_off_a_hung_replica(connect: Connect, fleet: Fleet, pair: Any) -> None:
    client = connect([replica.endpoint for replica in pair])
    await until(lambda: client.watch_state.live)
    watched = watch_of(client)._replica.address.target
    hung = next(replica for replica in pair if watched == f"ipv4:{replica.endpoint}")
    hung.hang()
    await until(lambda: not client.watch_state.live)
    # A validation detects that the stream hangs.
    await client.require_key(fleet.key)
    await until(lambda: client.watch_state.live)
    assert watch_of(client)._replica.address.target != watched


def watch_of(client: Any) -> Any:
    return engine_of(client)._watch


async def test_unreachable_service_fails_immediately_with_the_reason(connect: Connect, fleet: Fleet) -> None:
    replica = fleet.start()
    replica.kill()
    with pytest.raises(UnavailableError, match="Connection refused"):
        await connect(replica.endpoint, retry=Retry(max_attempts=1)).require_key(fleet.key, timeout=10.0)
