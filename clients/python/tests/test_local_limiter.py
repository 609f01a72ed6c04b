"""The local limiter of both clients, with the fake service."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
import pytest_asyncio

from conftest import Connect, Threaded, until
from fake import Fake
from limit_replies import Book, reserved
from replies import Failure, answer
from tenant_auth import (
    ClosedError,
    DeadlineExceededError,
    KeyQuery,
    LimitExceededError,
    NearCache,
    TenantAuthError,
    UnavailableError,
    Verdict,
)
from tenant_auth.testing import ManualClock

KEY = "ta_canary_0123456789abcdef"


class Limiter:
    """A limiter of either client."""

    def __init__(self, client: Any, metric: str = "requests") -> None:
        self._client = client
        self._threaded = isinstance(client, Threaded)
        self.inner = (client.client if self._threaded else client).local_limiter(metric)

    async def admit(self, credential: Any = KEY, amount: int = 1, **options: Any) -> Any:
        if self._threaded:
            return await self._client.run(lambda: self.inner.admit(credential, amount, **options))
        return await self.inner.admit(credential, amount, **options)

    async def close(self) -> None:
        await (self._client.run(self.inner.close) if self._threaded else self.inner.close())


@pytest.fixture
def book(fake: Fake) -> Book:
    book = Book(100)
    fake.keys[KEY] = answer(cacheable_for=3_600.0)
    fake.limits |= book.replies()
    return book


@pytest_asyncio.fixture
async def client(connect: Connect, clock: ManualClock) -> AsyncIterator[Any]:
    yield connect(clock=clock, near_cache=NearCache(watch=False), timeout=5.0)


async def test_requests_are_admitted_from_a_chunk_without_a_call(client: Any, fake: Fake, book: Book) -> None:
    limiter = Limiter(client)
    made = await limiter.admit(amount=10)
    assert (made.allowed, made.principal.tenant_id, [one.name for one in made.limits]) == (True, "acme", ["hourly"])
    request = next(one for one in fake.requests if "Reserve" in type(one).__name__)
    assert (request.expires_in.seconds, request.on_expiry) == (30, 2)
    await until(lambda: book.used == 10 and bool(book.held))
    calls = dict(fake.calls)
    for _ in range(2):
        assert (await limiter.admit()).allowed
    assert dict(fake.calls) == calls
    await limiter.close()
    assert (book.used, book.held) == (12, {})


async def test_never_more_is_admitted_than_the_limit_and_nothing_is_lost(
    connect: Connect, fake: Fake, book: Book
) -> None:
    book.amount = 1_000
    limiters = [Limiter(connect(timeout=10.0)) for _ in range(2)]

    async def work(limiter: Limiter) -> list[Any]:
        return [await limiter.admit() for _ in range(50)]

    worked = await asyncio.gather(*(work(limiters[number % 2]) for number in range(32)))
    outcomes = [one for each in worked for one in each]
    admitted = sum(one.allowed for one in outcomes)
    assert admitted <= 1_000
    assert {one.verdict for one in outcomes} <= {Verdict.VALID, Verdict.QUOTA_EXCEEDED}
    assert admitted >= 1_000 - sum(book.held.values()), "only what is held is denied"
    for limiter in limiters:
        await limiter.close()
    assert (book.used, book.held) == (admitted, {})
    assert max(book.sizes) > 10, "chunks follow the rate"
    last = Limiter(connect(timeout=10.0))
    while (await last.admit()).allowed:
        admitted += 1
    await last.close()
    assert (book.used, admitted) == (1_000, 1_000)


async def test_denial_says_what_the_limit_says(client: Any, book: Book) -> None:
    book.amount = 3
    limiter = Limiter(client)
    assert (await limiter.admit(amount=3)).allowed
    made = await limiter.admit()
    assert (made.verdict, made.retry_after) == (Verdict.QUOTA_EXCEEDED, 90.5)
    with pytest.raises(LimitExceededError):
        _ = made.principal
    await limiter.close()
    assert book.used == 3


async def test_refused_chunk_is_halved_down_to_what_is_needed(client: Any, book: Book) -> None:
    book.amount = 9
    limiter = Limiter(client)
    assert (await limiter.admit(amount=8)).allowed
    assert (await limiter.admit()).allowed
    assert book.sizes[-1] == 1
    assert not (await limiter.admit()).allowed
    await limiter.close()
    assert book.used == 9


async def test_chunk_is_settled_before_its_expiry(client: Any, fake: Fake, book: Book, clock: ManualClock) -> None:
    limiter = Limiter(client)
    await limiter.admit(amount=7)
    await until(lambda: book.used == 7 and bool(book.held))
    await limiter.admit(amount=2)
    clock.advance(27.0)
    await limiter.admit()
    assert book.used == 7
    clock.advance(1.1)
    await until(lambda: not book.held)
    assert book.used == 10
    reservations = len(book.sizes)
    await limiter.admit()
    assert len(book.sizes) == reservations + 1
    await limiter.close()
    assert book.used == 11


async def test_failed_settlement_is_repeated_until_the_expiry(
    client: Any, fake: Fake, book: Book, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    limiter = Limiter(client)
    fake.limits["Settle"] = Failure(grpc.StatusCode.UNAVAILABLE)
    await limiter.admit()
    await pass_until(clock, lambda: fake.calls["Settle"] > 8)
    assert book.held, "more often than one call is retried"
    fake.limits["Settle"] = book.settle
    await pass_until(clock, lambda: not book.held)
    assert book.used == 1
    fake.limits["Settle"] = Failure(grpc.StatusCode.UNAVAILABLE)
    await limiter.admit()
    await pass_until(clock, lambda: "of which 1 were used, are charged" in caplog.text)
    calls = fake.calls["Settle"]
    await limiter.close()
    assert fake.calls["Settle"] == calls, "after the expiry, it would be taken again"


async def pass_until(clock: ManualClock, condition: Any) -> None:
    def passed() -> bool:
        clock.advance(0.25)
        return bool(condition())

    await until(passed)


async def test_revoked_key_is_not_admitted(connect: Connect, fake: Fake, book: Book) -> None:
    client = connect(timeout=5.0)
    await until(lambda: bool(fake.streams))
    fake.heartbeat(10)
    await until(lambda: client.watch_state.live)
    limiter = Limiter(client)
    await limiter.admit(amount=10)
    await until(lambda: bool(book.held))
    fake.keys[KEY] = answer(5, revision=11)
    fake.invalidate("KEY", "key_1", 11)
    await until(lambda: client.watch_state.revision == 11)
    made = await limiter.admit()
    assert (made.verdict, made.allowed) == (Verdict.REVOKED, False)
    await limiter.close()
    assert (book.used, book.held) == (10, {})


async def test_conditions_of_each_request_are_checked(client: Any, fake: Fake, book: Book) -> None:
    fake.keys[KEY] = answer(cacheable_for=3_600.0, allowed_networks=["192.0.2.0/24"])
    limiter = Limiter(client)
    assert (await limiter.admit(KeyQuery(KEY, "orders:read", "192.0.2.1"), 10)).allowed
    for query, verdict in (
        (KeyQuery(KEY, "orders:write", "192.0.2.1"), Verdict.INSUFFICIENT_SCOPE),
        (KeyQuery(KEY, "orders:read", "192.0.3.1"), Verdict.ADDRESS_NOT_ALLOWED),
        ("unknown", Verdict.UNKNOWN),
    ):
        assert (await limiter.admit(query)).verdict is verdict
    await limiter.close()
    assert book.used == 10


async def test_key_that_only_the_service_knows_to_be_revoked_is_not_admitted(
    client: Any, fake: Fake, book: Book
) -> None:
    limiter = Limiter(client)
    assert (await limiter.admit(amount=100)).allowed
    await until(lambda: len(book.sizes) == 2)
    fake.limits["Reserve"] = reserved(5)
    reservations = fake.calls["Reserve"]
    assert (await limiter.admit()).verdict is Verdict.REVOKED
    assert fake.calls["Reserve"] == reservations + 1, "no smaller chunk would help"
    await limiter.close()
    assert book.used == 100


async def test_undecided_key_is_an_error(client: Any, fake: Fake, book: Book) -> None:
    limiter = Limiter(client)
    fake.permanent_failure = Failure(grpc.StatusCode.UNIMPLEMENTED)
    with pytest.raises(TenantAuthError):
        await limiter.admit()
    fake.permanent_failure = None
    await client.validate_key(KEY)
    fake.permanent_failure = Failure(grpc.StatusCode.INTERNAL, reason="BROKEN")
    with pytest.raises(TenantAuthError, match="BROKEN"):
        await limiter.admit()
    fake.permanent_failure = None
    await until(lambda: fake.calls["Cancel"] == 1)
    assert (await limiter.admit()).allowed
    await limiter.close()


async def test_caller_that_gives_up_leaves_nothing_reserved(client: Any, fake: Fake, book: Book) -> None:
    await client.validate_key(KEY)
    limiter = Limiter(client)
    fake.responding.clear()
    with pytest.raises(DeadlineExceededError):
        await limiter.admit(timeout=0.05)
    fake.responding.set()
    await until(lambda: bool(book.held))
    await limiter.close()
    assert (book.used, book.held) == (0, {})


async def test_response_with_too_short_an_expiry_is_an_error(client: Any, fake: Fake, book: Book) -> None:
    fake.limits["Reserve"] = reserved(expires_in=1.5)
    limiter = Limiter(client)
    with pytest.raises(TenantAuthError, match=r"an expiry of 1\.5 seconds"):
        await limiter.admit()
    await until(lambda: fake.calls["Cancel"] == 1)
    await limiter.close()


async def test_closed_limiter_admits_nothing(client: Any, book: Book) -> None:
    limiter = Limiter(client)
    await limiter.admit()
    await limiter.close()
    await limiter.close()
    with pytest.raises(ClosedError, match="the local limiter is closed"):
        await limiter.admit()


async def test_invalid_arguments_are_rejected(client: Any, connect: Connect, book: Book) -> None:
    with pytest.raises(ValueError, match="needs the near cache"):
        Limiter(connect(near_cache=None))
    with pytest.raises(ValueError, match="costs has the metric"):
        Limiter(client, "Requests")
    with pytest.raises(ValueError, match="amount is 0"):
        await Limiter(client).admit(amount=0)


async def test_service_that_does_not_respond_is_unavailable(connect: Connect, fake: Fake, book: Book) -> None:
    client = connect(retry=None)
    await client.validate_key(KEY)
    limiter = Limiter(client)
    fake.permanent_failure = Failure(grpc.StatusCode.UNAVAILABLE, reason="LIMIT_UNDECIDED")
    with pytest.raises(UnavailableError):
        await limiter.admit()
    fake.permanent_failure = None
    await limiter.close()
