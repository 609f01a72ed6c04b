"""Reservations of both clients, with the fake service."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import anyio
import grpc
import pytest
import pytest_asyncio

from conftest import Connect, Threaded, engine_of, until
from fake import Fake
from limit_replies import QUOTA_EXCEEDED, cancelled, exceeded, limit, reserved, settled
from replies import Failure, answer
from tenant_auth import (
    AsyncClient,
    Client,
    DeadlineExceededError,
    InvalidRequestError,
    LimitExceededError,
    ReservationExpiry,
    ReservationState,
    TenantAuthError,
    UnavailableError,
    Verdict,
)
from tenant_auth.proto import limit_pb2

KEY = "ta_canary_0123456789abcdef"
TOKENS = {"tokens": 10}


class CrashError(Exception):
    """Raised by the code of a caller."""


@pytest_asyncio.fixture
async def client(connect: Connect, fake: Fake) -> AsyncIterator[Any]:
    fake.limits |= {"Reserve": reserved(1, limit()), "Settle": settled(), "Cancel": cancelled()}
    yield connect(jitter=lambda: 0.0)


async def in_context(client: Any, work: Callable[[Any], Any], credential: str = KEY, **options: Any) -> Any:
    """Reserves, and does something in the block: with an `AsyncClient` it may be awaited."""
    if isinstance(client, Threaded):

        def run() -> Any:
            with client.client.reserve(credential, TOKENS, **options) as reservation:
                return work(reservation)

        return await client.run(run)
    async with await client.reserve(credential, TOKENS, **options) as reservation:
        result = work(reservation)
        return await result if asyncio.iscoroutine(result) else result


async def test_reservation_is_settled_with_the_actual_amount(client: Any, fake: Fake) -> None:
    settlement = await in_context(client, lambda one: one.settle({"tokens": 4}), expires_in=60.0)
    assert (settlement.state, settlement.already_settled) == (ReservationState.SETTLED, False)
    (one,) = settlement.limits
    assert (one.name, one.metric, one.reserved, one.charged, one.exceeded_by) == ("hourly", "tokens", 10, 4, 0)
    reserve, settle = fake.requests
    assert reserve.credential.key.key == KEY
    assert (reserve.costs[0].metric, reserve.costs[0].amount) == ("tokens", 10)
    assert (reserve.expires_in.seconds, reserve.on_expiry) == (60, limit_pb2.RESERVATION_EXPIRY_RELEASE)
    assert settle.reservation_id == reserve.reservation_id
    assert [(one.metric, one.amount) for one in settle.actual] == [("tokens", 4)]
    assert not fake.calls["Cancel"]


async def test_reservation_says_what_it_holds(client: Any, fake: Fake) -> None:
    made = await client.reserve(KEY, TOKENS, reservation_id="r-1", on_expiry=ReservationExpiry.CHARGE)
    assert (made.allowed, made.verdict, made.reservation_id) == (True, Verdict.VALID, "r-1")
    assert (made.expires_in, made.already_reserved) == (600.0, False)
    assert (made.principal.tenant_id, [one.name for one in made.limits]) == ("acme", ["hourly"])
    assert fake.requests[0].on_expiry == limit_pb2.RESERVATION_EXPIRY_CHARGE
    fake.limits["Reserve"] = reserved(1, already_reserved=True)
    again = await client.reserve(KEY, TOKENS, reservation_id="r-1")
    assert (again.already_reserved, again.limits) == (True, ())


async def test_crash_cancels_the_reservation(client: Any, fake: Fake) -> None:
    def crash(_reservation: Any) -> None:
        raise CrashError

    with pytest.raises(CrashError):
        await in_context(client, crash)
    await until(lambda: fake.calls["Cancel"] == 1)
    assert fake.requests[-1].reservation_id == fake.requests[0].reservation_id
    await in_context(client, lambda _: None)
    assert fake.calls["Cancel"] == 2, "also a block that just ends without settling"


async def test_failed_cancellation_does_not_hide_the_crash(
    client: Any, fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    def crash(_reservation: Any) -> None:
        fake.permanent_failure = Failure(grpc.StatusCode.INTERNAL)
        raise CrashError

    with pytest.raises(CrashError):
        await in_context(client, crash)
    assert "reservation not cancelled, it is held until it expires" in caplog.text


@pytest.mark.parametrize("code", [grpc.StatusCode.NOT_FOUND, grpc.StatusCode.FAILED_PRECONDITION])
async def test_reservation_that_holds_nothing_is_not_reported(
    client: Any, fake: Fake, caplog: pytest.LogCaptureFixture, code: grpc.StatusCode
) -> None:
    def end(_reservation: Any) -> None:
        fake.permanent_failure = Failure(code)

    with caplog.at_level(logging.WARNING):
        await in_context(client, end)
    assert not caplog.records


async def test_denied_reservation_raises_in_a_context(client: Any, fake: Fake) -> None:
    fake.limits["Reserve"] = reserved(QUOTA_EXCEEDED, exceeded())
    with pytest.raises(LimitExceededError) as caught:
        await in_context(client, lambda _: pytest.fail("the block must not run"))
    assert (caught.value.verdict, caught.value.retry_after) == (Verdict.QUOTA_EXCEEDED, 90.5)
    made = await client.reserve(KEY, TOKENS)
    assert (made.allowed, made.expires_in) == (False, None)
    made = await client.reserve("x" * 600, TOKENS)
    assert made.verdict is Verdict.MALFORMED
    assert not fake.calls["Cancel"]


async def test_settle_whose_outcome_is_unknown_is_not_cancelled(client: Any, fake: Fake) -> None:
    def settle(reservation: Any) -> Any:
        fake.permanent_failure = Failure(grpc.StatusCode.UNAVAILABLE)
        return reservation.settle({"tokens": 4})

    with pytest.raises(UnavailableError):
        await in_context(client, settle)
    fake.permanent_failure = None
    assert not fake.calls["Cancel"]


async def test_settle_with_invalid_amounts_is_cancelled_in_the_end(client: Any, fake: Fake) -> None:
    with pytest.raises(InvalidRequestError):
        await in_context(client, lambda one: one.settle({"tokens": 2**64}))
    await until(lambda: fake.calls["Cancel"] == 1)

    def settle(reservation: Any) -> Any:
        fake.failures.append(Failure(grpc.StatusCode.INVALID_ARGUMENT, violations=[("actual[0].metric", "is new")]))
        return reservation.settle({"other": 1})

    with pytest.raises(InvalidRequestError):
        await in_context(client, settle)
    await until(lambda: fake.calls["Cancel"] == 2)


async def test_reservation_is_cancelled_once(client: Any, fake: Fake) -> None:
    assert await in_context(client, lambda one: one.cancel()) is ReservationState.CANCELLED
    assert fake.calls["Cancel"] == 1


async def test_reservation_is_settled_and_cancelled_by_its_id(client: Any, fake: Fake) -> None:
    assert (await client.settle_reservation("r-1")).state is ReservationState.SETTLED
    assert list(fake.requests[-1].actual) == []
    assert await client.cancel_reservation("r-1") is ReservationState.CANCELLED
    assert [request.reservation_id for request in fake.requests] == ["r-1", "r-1"]
    fake.permanent_failure = Failure(grpc.StatusCode.NOT_FOUND)
    for call in (client.settle_reservation("r-2"), client.cancel_reservation("r-2")):
        with pytest.raises(TenantAuthError) as caught:
            await call
        assert caught.value.code == "NOT_FOUND"
    for call in (client.settle_reservation(""), client.cancel_reservation("")):
        with pytest.raises(InvalidRequestError, match="reservation_id: must not be empty"):
            await call


async def test_calls_about_reservations_are_sent_again(client: Any, fake: Fake) -> None:
    for method, call in (
        ("Reserve", client.reserve(KEY, TOKENS)),
        ("Settle", client.settle_reservation("r-1", {"tokens": 1})),
        ("Cancel", client.cancel_reservation("r-1")),
    ):
        fake.failures.append(Failure(grpc.StatusCode.UNAVAILABLE))
        await call
        assert fake.calls[method] == 2
    assert fake.requests[0] == fake.requests[1], "the same reservation id"


async def test_reservation_whose_outcome_is_unknown_is_cancelled(client: Any, fake: Fake) -> None:
    fake.responding.clear()
    for given in (None, "r-1"):
        with pytest.raises(DeadlineExceededError):
            await client.reserve(KEY, TOKENS, reservation_id=given, timeout=0.05)
    fake.responding.set()
    await until(lambda: fake.calls["Cancel"] == 1)
    cancelled = [one for one in fake.requests if isinstance(one, limit_pb2.CancelRequest)]
    assert [one.reservation_id == "r-1" for one in cancelled] == [False], "only the random id, which nobody else knows"


async def test_reservation_of_a_revoked_key_is_given_back(client: Any, fake: Fake) -> None:
    await until(lambda: bool(fake.streams))
    fake.heartbeat(10)
    fake.invalidate("KEY", "key_1", 11)
    await until(lambda: client.watch_state.revision == 11)
    fake.keys[KEY] = answer(5, revision=11)
    made = await client.reserve(KEY, TOKENS)
    assert (made.verdict, made.expires_in) == (Verdict.REVOKED, None)
    await until(lambda: fake.calls["Cancel"] == 1)


async def test_cancelled_task_cancels_its_reservation(fake: Fake) -> None:
    fake.limits |= {"Reserve": reserved(), "Cancel": cancelled()}
    entered = asyncio.Event()

    async def work(client: AsyncClient) -> None:
        async with await client.reserve(KEY, TOKENS):
            entered.set()
            await asyncio.Event().wait()

    async with AsyncClient(fake.endpoint) as client:
        task = asyncio.create_task(work(client))
        await entered.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()
        await until(lambda: fake.calls["Cancel"] == 1)
        # In a cancelled scope, every await is interrupted.
        with anyio.CancelScope() as scope:
            async with await client.reserve(KEY, TOKENS):
                scope.cancel()
        await until(lambda: fake.calls["Cancel"] == 2)


@contextmanager
def closed_client(fake: Fake) -> Iterator[Any]:
    with Client(fake.endpoint) as client:
        reservation = client.reserve(KEY, TOKENS)
    yield reservation


async def test_block_ends_after_the_client_was_closed(fake: Fake, caplog: pytest.LogCaptureFixture) -> None:
    fake.limits |= {"Reserve": reserved(), "Cancel": cancelled()}
    with closed_client(fake) as reservation, reservation:
        pass
    async with AsyncClient(fake.endpoint) as client:
        made = await client.reserve(KEY, TOKENS)
    async with made:
        pass
    assert len([one for one in caplog.records if "the client is closed" in one.getMessage()]) == 2
    assert engine_of(client)._giving_back == set()
