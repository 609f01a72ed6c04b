"""Helpers for tests of guarded streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any

from google.protobuf.timestamp_pb2 import Timestamp

from conftest import until
from fake import Fake
from replies import answer
from tenant_auth import AsyncClient, DeniedError, UnavailableError
from tenant_auth.testing import ManualClock

KEY = "ta_canary_0123456789abcdef"


class Source:
    """A stream whose items the test sends."""

    def __init__(self) -> None:
        self._items: asyncio.Queue[Any] = asyncio.Queue()
        self.closed = False

    def send(self, item: Any) -> None:
        self._items.put_nowait(item)

    async def stream(self) -> AsyncIterator[Any]:
        try:
            while (item := await self._items.get()) is not None:
                yield item
        finally:
            self.closed = True


def guards_of(client: AsyncClient) -> Any:
    return client._engine.guards


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


def expiring(clock: ManualClock, seconds: float, verdict: int = 1, **more: Any) -> Any:
    expires_at = Timestamp()
    expires_at.FromDatetime(datetime.fromtimestamp(clock.time() + seconds, UTC).replace(tzinfo=None))
    return answer(verdict, expires_at=expires_at, **more)


async def pass_time_until(clock: ManualClock, condition: Callable[[], bool], step: float = 0.5) -> float:
    """Lets time pass until a condition holds. Returns how much has passed at least."""
    started_at = clock.monotonic()

    def holds() -> bool:
        if not condition():
            clock.advance(step)
            return False
        return True

    await until(holds)
    return clock.monotonic() - started_at
