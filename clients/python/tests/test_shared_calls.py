"""Calls that several requests wait for, when a request arrives at the moment they end."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fake import Fake
from limit_replies import QUOTA_EXCEEDED, reserved
from replies import answer
from tenant_auth import AsyncClient, DeadlineExceededError, NearCache, Options, Validation, Verdict
from tenant_auth import _methods as methods
from tenant_auth._in_flight import InFlightCalls
from tenant_auth.testing import ManualClock

KEY = "ta_canary_0123456789abcdef"

# A request that waits for a task that is done, again and again, blocks the event loop for ever.
pytestmark = pytest.mark.timeout(20)


async def test_request_that_arrives_when_a_chunk_was_just_refused_reserves_its_own(
    fake: Fake, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.keys[KEY] = answer(cacheable_for=3_600.0)
    fake.limits |= {"Reserve": reserved(), "Settle": lambda _: None}
    client = AsyncClient(fake.endpoint, Options(clock=clock, near_cache=NearCache(watch=False)))
    async with client:
        limiter = client.local_limiter("requests")
        answers = asyncio.get_running_loop().create_future()
        sizes: list[int] = []

        async def call(method: Any, request: Any, *_: Any) -> tuple[Any, Any]:
            if method is methods.RESERVE:
                (cost,) = request.costs
                sizes.append(cost.amount)
                if len(sizes) > 1:
                    await answers
                    return reserved(QUOTA_EXCEEDED), None
                return reserved(), None
            return None, None

        async def late() -> Any:
            await answers
            return await limiter.admit(KEY)

        await client.validate_key(KEY)
        monkeypatch.setattr(client._engine, "call", call)
        assert (await limiter.admit(KEY, 100)).allowed
        while len(sizes) < 2:
            await asyncio.sleep(0)
        waiting = asyncio.create_task(late())
        await asyncio.sleep(0)
        answers.set_result(None)
        assert (await waiting).verdict is Verdict.QUOTA_EXCEEDED
        assert sizes[-1] == 1


async def test_request_that_arrives_when_a_call_has_just_timed_out_makes_its_own() -> None:
    calls = InFlightCalls(ManualClock(), 1.0)
    ended = asyncio.get_running_loop().create_future()
    answered = Validation.__new__(Validation)
    made: list[float] = []

    async def load(timeout: float) -> Validation:
        made.append(timeout)
        await ended
        if len(made) == 1:
            raise DeadlineExceededError("too late", code="DEADLINE_EXCEEDED")
        return answered

    async def late() -> Validation:
        await ended
        return await calls.join("key", load, 5.0)

    first = asyncio.create_task(calls.join("key", load, 1.0))
    await asyncio.sleep(0)
    while not made:
        await asyncio.sleep(0)
    second = asyncio.create_task(late())
    await asyncio.sleep(0)
    ended.set_result(None)
    assert await second is answered
    assert made == [1.0, 5.0]
    with pytest.raises(DeadlineExceededError):
        await first
