"""Closing the clients, with the real service."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from conftest import Connect, collect
from service import Service, dev
from tenant_auth import AsyncClient, ClosedError, ConsumeRequest, Options, UsageEvent


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with dev(tmp_path_factory.mktemp("dev")) as service:
        yield service


async def test_close_waits_for_calls_in_flight(service: Service) -> None:
    client = AsyncClient(service.endpoint, Options(near_cache=None, timeout=10.0))
    calls = [asyncio.ensure_future(client.validate_key(service.key)) for _ in range(50)]
    await client.close()
    assert [(await call).is_valid for call in calls] == [True] * 50


async def test_closed_client_rejects_every_call(service: Service, connect: Connect) -> None:
    client = connect(service.endpoint)
    assert (await client.validate_key(service.key, timeout=10.0)).is_valid
    await client.close()
    for call in (
        # This includes calls that the near cache could answer.
        client.validate_key(service.key),
        client.require_key(service.key),
        client.validate_session("s"),
        client.validate_keys([service.key]),
        client.bind_session("s", service.key, 60),
        client.unbind_session("s", service.tenant),
        client.record_usage([UsageEvent(service.tenant, "calls", 1)], "r"),
        client.consume(service.key, {"calls": 1}),
        client.consume_many([ConsumeRequest(service.key, {"calls": 1})]),
        client.reserve(service.key, {"calls": 1}),
        client.settle_reservation("r"),
        client.cancel_reservation("r"),
        client.limit_state(tenant_id=service.tenant),
        client.server_info(),
        collect(client.list_sessions(service.tenant)),
    ):
        with pytest.raises(ClosedError):
            await call
    await client.close()
