"""Recording usage in the background: batches keep their request id, and no event is lost silently."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import grpc
import pytest

from conftest import Connect, until
from fake import Fake
from replies import Failure
from service import Service, dev
from tenant_auth import (
    Client,
    ClosedError,
    DeadlineExceededError,
    InvalidRequestError,
    QueueFullError,
    RecorderOptions,
    TenantAuthError,
    UsageBucket,
    UsageEvent,
    UsageReceipt,
)
from tenant_auth._usage_buffer import UsageBuffer
from tenant_auth.testing import ManualClock

Rejections = list[tuple[UsageEvent, TenantAuthError]]


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    with dev(tmp_path_factory.mktemp("recorder")) as service:
        yield service


class Recorder:
    """A recorder of either client."""

    def __init__(self, client: Any, **options: Any) -> None:
        self.rejected: Rejections = []
        kind = getattr(client, "client", client)
        limits = RecorderOptions(**options)
        self._recorder = kind.usage_recorder(
            limits, on_rejected=lambda event, error: self.rejected.append((event, error))
        )
        self._threaded = kind is not client

    def record(self, *args: Any) -> None:
        self._recorder.record(*args)

    async def flush(self, timeout: float | None = None) -> None:
        await self._await(self._recorder.flush, timeout)

    async def close(self, timeout: float = 5.0) -> Any:
        return await self._await(self._recorder.close, timeout)

    async def _await(self, method: Callable[..., Any], *args: Any) -> Any:
        return await (asyncio.to_thread(method, *args) if self._threaded else method(*args))


def quantities(fake: Fake) -> list[list[int]]:
    return [[event.quantity for event in events] for events in fake.usage.values()]


async def test_events_are_batched_for_up_to_one_second(connect: Connect, fake: Fake) -> None:
    clock = ManualClock()
    recorder = Recorder(connect(clock=clock, near_cache=None))
    recorder.record("acme", "a", 1)
    await until(lambda: 1.0 in clock.sleeps)
    recorder.record("acme", "a", 2)
    assert not fake.usage
    clock.advance(1)
    await asyncio.to_thread(fake.until, lambda: len(fake.usage) == 1)
    assert quantities(fake) == [[1, 2]]
    event = next(iter(fake.usage.values()))[0]
    assert event.occurred_at.seconds == clock.time() - 1, "the time of the event, not of its arrival"
    assert await recorder.close() == []


async def test_full_batch_is_sent_immediately(connect: Connect, fake: Fake) -> None:
    recorder = Recorder(connect(clock=ManualClock(), near_cache=None), batch_size=3)
    for quantity in range(7):
        recorder.record("acme", "a", quantity)
    await asyncio.to_thread(fake.until, lambda: len(fake.usage) == 2)
    assert quantities(fake) == [[0, 1, 2], [3, 4, 5]]
    await recorder.flush()
    assert quantities(fake)[2:] == [[6]]
    assert await recorder.close() == []


async def test_failed_batch_is_resent_unchanged(connect: Connect, fake: Fake) -> None:
    clock = ManualClock(auto=True)
    recorder = Recorder(connect(clock=clock, near_cache=None, retry=None))
    fake.failures.extend([Failure(grpc.StatusCode.UNAVAILABLE), Failure(grpc.StatusCode.DEADLINE_EXCEEDED)])
    recorder.record("acme", "a", 1)
    await recorder.flush()
    assert fake.calls["RecordUsage"] == 3
    assert len({request.SerializeToString() for request in fake.requests}) == 1
    assert await recorder.close() == []


async def test_full_queue_raises_and_close_returns_unsent(connect: Connect, fake: Fake) -> None:
    fake.permanent_failure = Failure(grpc.StatusCode.UNAVAILABLE, retry_after=3600)
    recorder = Recorder(connect(clock=ManualClock(), near_cache=None), batch_size=2, max_events=5)
    for quantity in range(5):
        recorder.record("acme", "a", quantity)
    with pytest.raises(QueueFullError):
        recorder.record("acme", "a", 5)
    await asyncio.to_thread(fake.until, lambda: fake.calls["RecordUsage"] >= 1)
    with pytest.raises(DeadlineExceededError):
        await recorder.flush(0.05)
    unsent = await recorder.close(0.05)
    assert [[event.quantity for event in one.events] for one in unsent] == [[0, 1], [2, 3], [4]]
    assert unsent[0].request_id == fake.requests[0].request_id
    assert unsent[0].error is not None
    assert unsent[0].error.code == "UNAVAILABLE"
    assert (unsent[2].error, len({one.request_id for one in unsent})) == (None, 3)
    with pytest.raises(ClosedError):
        recorder.record("acme", "a", 6)


async def test_rejected_events_are_reported(connect: Connect, fake: Fake) -> None:
    fake.rejected_metrics = {"bad"}
    recorder = Recorder(connect(clock=ManualClock(), near_cache=None))
    recorder.record("acme", "bad", 1)
    recorder.record("acme", "good", 2)
    await recorder.flush()
    assert quantities(fake) == [[2]]
    assert [(event.metric, error.message) for event, error in recorder.rejected] == [("bad", "no such tenant")]
    assert await recorder.close() == []


async def test_invalid_event_does_not_affect_others(connect: Connect, fake: Fake) -> None:
    fake.failures.append(Failure(grpc.StatusCode.INVALID_ARGUMENT, violations=[("events[1].metric", "is invalid")]))
    recorder = Recorder(connect(clock=ManualClock(), near_cache=None))
    for quantity in range(3):
        recorder.record("acme", "a", quantity)
    await recorder.flush()
    assert quantities(fake) == [[0, 2]]
    assert [event.quantity for event, _ in recorder.rejected] == [1]
    assert fake.requests[0].request_id != fake.requests[1].request_id
    assert await recorder.close() == []


async def test_permanently_failed_batch_is_set_aside(connect: Connect, fake: Fake) -> None:
    fake.permanent_failure = Failure(grpc.StatusCode.UNIMPLEMENTED)
    recorder = Recorder(connect(clock=ManualClock(), near_cache=None), batch_size=1, max_events=2)
    recorder.record("acme", "a", 1)
    recorder.record("acme", "a", 2)
    await recorder.flush()
    with pytest.raises(QueueFullError):
        recorder.record("acme", "a", 3)
    unsent = await recorder.close()
    assert [one.events[0].quantity for one in unsent] == [1, 2]
    assert all(one.error is not None and one.error.code == "UNIMPLEMENTED" for one in unsent)


@pytest.mark.parametrize(
    ("tenant", "metric", "quantity", "field"),
    [
        ("", "a", 1, "tenant_id"),
        ("acme", "", 1, "metric"),
        ("acme", "a", -1, "quantity"),
        ("a", "a", 2**63, "quantity"),
    ],
)
async def test_invalid_event_is_rejected_immediately(
    connect: Connect, tenant: str, metric: str, quantity: int, field: str
) -> None:
    recorder = Recorder(connect(near_cache=None))
    with pytest.raises(InvalidRequestError) as caught:
        recorder.record(tenant, metric, quantity)
    assert [violation.field for violation in caught.value.violations] == [field]
    assert await recorder.close() == []


async def test_closed_client_loses_no_events(connect: Connect, fake: Fake) -> None:
    client = connect(clock=ManualClock(), near_cache=None)
    recorder = Recorder(client)
    recorder.record("acme", "a", 1)
    await client.close()
    unsent = await recorder.close()
    assert [one.events[0].quantity for one in unsent] == [1]


@pytest.mark.parametrize("error", [None, ClosedError("closed"), InvalidRequestError("invalid")])
def test_result_after_unsent_is_ignored(error: TenantAuthError | None) -> None:
    buffer = UsageBuffer(ManualClock(), RecorderOptions(), None)
    buffer.add(UsageEvent("acme", "a", 1))
    batch = buffer.next_batch(force=True)
    assert batch is not None
    assert [one.request_id for one in buffer.unsent()] == [batch.request_id]
    if error is None:
        buffer.recorded(batch, UsageReceipt(1, (), False))
    else:
        buffer.failed(batch, error)
    assert buffer.unsent() == []


class Text(str):
    """A subclass of str is text too."""


@pytest.mark.parametrize(
    ("event", "field"),
    [
        (("acme", "a", 1.5), "quantity"),
        (("acme", "a", 1.0), "quantity"),
        (("acme", "a", Decimal(1)), "quantity"),
        (("acme", "a", True), "quantity"),
        (("acme", "a", "1"), "quantity"),
        (("acme", "a", None), "quantity"),
        (("acme", "a", -1), "quantity"),
        (("acme", "a", 10**12 + 1), "quantity"),
        ((5, "a", 1), "tenant_id"),
        ((None, "a", 1), "tenant_id"),
        (("", "a", 1), "tenant_id"),
        (("a\udcff", "a", 1), "tenant_id"),
        (("a b", "a", 1), "tenant_id"),
        (("a\n", "a", 1), "tenant_id"),
        (("x" * 65, "a", 1), "tenant_id"),
        (("x" * 5_000_000, "a", 1), "tenant_id"),
        (("acme", "A", 1), "metric"),
        (("acme", "1a", 1), "metric"),
        (("acme", "a" * 65, 1), "metric"),
        (("acme", b"a", 1), "metric"),
        (("acme", "a", 1, datetime(1969, 12, 31, tzinfo=UTC)), "occurred_at"),
        (("acme", "a", 1, datetime(2026, 1, 1)), "occurred_at"),
        (("acme", "a", 1, "2026-01-01"), "occurred_at"),
    ],
)
async def test_uncountable_event_does_not_affect_its_batch(
    connect: Connect, fake: Fake, event: Any, field: str
) -> None:
    client = connect(clock=ManualClock(), near_cache=None)
    recorder = Recorder(client)
    recorder.record(Text("acme"), "before", 1)
    with pytest.raises(InvalidRequestError) as caught:
        recorder.record(*event)
    assert [violation.field for violation in caught.value.violations] == [field]
    recorder.record("acme", "after", 10**12)
    await recorder.flush()
    assert quantities(fake) == [[1, 10**12]]
    assert await recorder.close() == []


async def test_unencodable_event_is_rejected_by_record_usage(connect: Connect, fake: Fake) -> None:
    events = [UsageEvent("acme", "a", 1), UsageEvent("acme", "a", 1.5)]  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError) as caught:
        await connect(near_cache=None).record_usage(events, "r1")
    assert [violation.field for violation in caught.value.violations] == ["events[1].quantity"]


async def test_unnamed_invalid_event_is_isolated(connect: Connect, fake: Fake) -> None:
    fake.unnamed_invalid_metrics = {"bad"}
    recorder = Recorder(connect(clock=ManualClock(), near_cache=None))
    for metric in ("a", "b", "bad", "c", "d"):
        recorder.record("acme", metric, 1)
    await recorder.flush()
    assert [event.metric for event, _ in recorder.rejected] == ["bad"]
    assert sorted(event.metric for events in fake.usage.values() for event in events) == ["a", "b", "c", "d"]
    assert await recorder.close() == []


@pytest.mark.parametrize("left", ["open", "closed client"])
@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_exit_without_close_sends_remaining_events(service: Service, kind: str, left: str) -> None:
    metric = f"exit.{kind.lower()}.{left.replace(' ', '')}"
    ran = run_and_exit(service.endpoint, service.tenant, metric, kind, left)
    assert (ran.returncode, ran.stderr) == (0, "")
    with Client(service.endpoint) as client:
        now, hours = datetime.now(UTC), timedelta(hours=2)
        sums = client.query_usage(service.tenant, now - hours, now + hours, metric=metric, bucket=UsageBucket.MONTH)
        assert [one.quantity for one in sums] == [600]


@pytest.mark.parametrize("kind", ["Client", "AsyncClient"])
def test_exit_without_service_logs_lost_events(kind: str) -> None:
    ran = run_and_exit("127.0.0.1:1", "acme", "lost", kind, "open")
    assert ran.returncode == 0
    assert "usage events lost: 600" in ran.stderr


def run_and_exit(endpoint: str, tenant: str, metric: str, kind: str, left: str) -> subprocess.CompletedProcess[str]:
    """A process that records 600 events and does not close its recorder."""
    code = f"""
import asyncio
from tenant_auth import AsyncClient, Client, Options, RecorderOptions
def record(recorder):
    for _ in range(600):
        recorder.record({tenant!r}, {metric!r}, 1)
async def main():
    client = AsyncClient({endpoint!r})
    record(client.usage_recorder(RecorderOptions(batch_delay=3600)))
    if {left!r} != "open":
        await client.close()
if {kind!r} == "AsyncClient":
    asyncio.run(main())
else:
    client = Client({endpoint!r})
    record(client.usage_recorder(RecorderOptions(batch_delay=3600)))
    if {left!r} != "open":
        client.close()
"""
    command = [sys.executable, "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


async def test_recorder_is_a_context_manager(connect: Connect, fake: Fake) -> None:
    client = connect(clock=ManualClock(), near_cache=None)
    kind: Any = getattr(client, "client", client)
    if kind is client:
        async with kind.usage_recorder() as recorder:
            recorder.record("acme", "a", 1)
    else:

        def within() -> None:
            with kind.usage_recorder() as recorder:
                recorder.record("acme", "a", 1)

        await asyncio.to_thread(within)
    assert quantities(fake) == [[1]]
