"""Shared fixtures: the fake service, and both clients with one interface."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import pytest_asyncio

from fake import EVENT_TIMEOUT, Fake
from tenant_auth import AsyncClient, Client, Options
from tenant_auth import NearCache as Limits
from tenant_auth._async_engine import AsyncEngine
from tenant_auth._near_cache import NearCache
from tenant_auth.testing import ManualClock


class Threaded:
    """Calls a `Client` from threads, so that one test covers both clients."""

    def __init__(self, client: Client, executor: ThreadPoolExecutor) -> None:
        self.client = client
        self._executor = executor

    async def run(self, work: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._executor, work)

    def __getattr__(self, name: str) -> Any:
        if name in ("watch_state", "raw", "_core"):
            return getattr(self.client, name)
        method = getattr(self.client, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            run = asyncio.get_running_loop().run_in_executor
            result = await run(self._executor, lambda: method(*args, **kwargs))
            return await run(self._executor, list, result) if isinstance(result, Iterator) else result

        return call


def engine_of(client: Any) -> Any:
    """Returns the engine in the event loop of either client."""
    engine = getattr(client, "client", client)._engine
    return engine if isinstance(engine, AsyncEngine) else engine._inner


async def collect(items: Any) -> list[Any]:
    """Iterates over an async iterator, or over items that a thread has collected."""
    return [item async for item in items] if isinstance(items, AsyncIterator) else list(await items)


async def call_stub(stub: Any, request: Any, **options: Any) -> Any:
    """Awaits or returns the result of a stub of either client."""
    response = stub(request, **options)
    return await response if isinstance(response, Awaitable) else response


async def until(condition: Callable[[], bool]) -> None:
    """Polls for a condition in this process that has no notification."""
    async with asyncio.timeout(EVENT_TIMEOUT):
        while not condition():
            await asyncio.sleep(0.002)


@pytest.fixture
def fake() -> Iterator[Fake]:
    fake = Fake()
    yield fake
    fake.stop()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def near(clock: ManualClock) -> NearCache:
    return NearCache(Limits(), clock)


Connect = Callable[..., Any]


@pytest_asyncio.fixture(params=["async", "threads"])
async def connect(request: pytest.FixtureRequest, fake: Fake) -> AsyncIterator[Connect]:
    """Creates clients of either kind, by default for the fake service, and closes them."""
    clients: list[Any] = []
    executor = ThreadPoolExecutor(64)

    def make(endpoint: Any = None, **options: Any) -> Any:
        endpoint = endpoint or fake.endpoint
        made: Any
        if request.param == "async":
            made = AsyncClient(endpoint, Options(**options))
            made._engine.open()
        else:
            made = Threaded(Client(endpoint, Options(**options)).__enter__(), executor)
        clients.append(made)
        return made

    yield make
    for client in clients:
        await client.close()
    executor.shutdown()
