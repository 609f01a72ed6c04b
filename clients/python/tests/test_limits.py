"""Consuming amounts of limits with both clients, and the fake service."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2

from conftest import Connect, call_stub
from fake import Fake
from limit_replies import (
    QUOTA_EXCEEDED,
    RATE_LIMITED,
    batch_of,
    consumed,
    credential_of,
    exceeded,
    limit,
    state_of_hourly,
)
from replies import Failure, answer, session_answer
from tenant_auth import (
    AsyncClient,
    ConsumeRequest,
    Consumption,
    DecidedBy,
    DeniedError,
    InvalidRequestError,
    KeyQuery,
    LimitExceededError,
    LimitSubject,
    OutagePolicy,
    Quota,
    SessionQuery,
    SessionValidation,
    TenantAuthError,
    Verdict,
)
from tenant_auth.proto import limit_pb2

KEY = "ta_canary_0123456789abcdef"
COSTS = {"requests": 1, "tokens": 2_000}


async def test_consume_sends_key_conditions_and_costs(connect: Connect, fake: Fake) -> None:
    fake.limits["Consume"] = consumed(1, limit())
    query = KeyQuery(KEY, "orders:read", "203.0.113.7:443")
    made = await connect().consume(query, COSTS, "c-1")
    assert (made.allowed, made.verdict, made.already_consumed) == (True, Verdict.VALID, False)
    assert (made.principal.tenant_id, made.validation.key_id) == ("acme", "key_1")
    (sent,) = fake.requests
    assert sent.credential.key.key == KEY
    assert list(sent.credential.key.required_scopes) == ["orders:read"]
    assert sent.credential.key.client_address == "203.0.113.7"
    assert {one.metric: one.amount for one in sent.costs} == COSTS
    assert sent.consume_id == "c-1"


async def test_decision_has_all_that_the_limits_say(connect: Connect, fake: Fake) -> None:
    shadow = limit("planned", shadow=True, exceeded=True, window=None, reset_after=None, decided_by=99)
    fake.limits["Consume"] = consumed(QUOTA_EXCEEDED, exceeded(), shadow)
    made = await connect().consume(KEY, {"requests": 1})
    assert (made.allowed, made.verdict, made.validation.is_valid) == (False, Verdict.QUOTA_EXCEEDED, True)
    hourly, planned = made.limits
    assert (hourly.name, hourly.metric, hourly.limit, hourly.remaining) == ("hourly", "requests", 100, 0)
    assert (hourly.window, hourly.reset_after, hourly.retry_after) == (3_600.0, 1_800.0, 90.5)
    assert (hourly.decided_by, hourly.exceeded, hourly.shadow) == (DecidedBy.LEASE, True, False)
    assert (planned.window, planned.reset_after, planned.shadow) == (None, None, True)
    assert planned.decided_by is DecidedBy.UNSPECIFIED
    assert made.retry_after == 90.5


async def test_principal_of_a_denied_consumption_raises_the_denial(connect: Connect, fake: Fake) -> None:
    client = connect()
    fake.limits["Consume"] = consumed(RATE_LIMITED, exceeded())
    made = await client.consume(KEY, {"requests": 1})
    with pytest.raises(LimitExceededError) as caught:
        _ = made.principal
    error = pickle.loads(pickle.dumps(caught.value))  # noqa: S301
    assert (error.verdict, error.limits, error.retry_after) == (Verdict.RATE_LIMITED, made.limits, 90.5)
    assert str(error) == "denied: RATE_LIMITED: hourly"
    fake.limits["Consume"] = consumed(5)
    made = await client.consume(KEY, {"requests": 1})
    with pytest.raises(DeniedError) as denied:
        _ = made.principal
    assert not isinstance(denied.value, LimitExceededError)
    assert denied.value.verdict is Verdict.REVOKED
    with pytest.raises(TypeError, match="allowed"):
        bool(made)


async def test_retry_after_is_unknown_if_it_is_of_one_limit(connect: Connect, fake: Fake) -> None:
    client = connect()
    for limits, expected in (
        ([exceeded(), exceeded("b", retry_after=5.0)], 90.5),
        ([exceeded(), exceeded("credits", retry_after=None)], None),
        ([exceeded(), exceeded("planned", retry_after=None, shadow=True), limit("c")], 90.5),
    ):
        fake.limits["Consume"] = consumed(QUOTA_EXCEEDED, *limits)
        assert (await client.consume(KEY, {"requests": 1})).retry_after == expected


async def test_session_takes_from_limits(connect: Connect, fake: Fake) -> None:
    fake.limits["Consume"] = consumed(1, limit(), session=True, about=session_answer(attributes={"client": "cli"}))
    made = await connect().consume(SessionQuery("s-1", KEY, ["orders:read"], "::1"), {"requests": 1})
    assert isinstance(made.validation, SessionValidation)
    assert made.validation.attributes == {"client": "cli"}
    (sent,) = fake.requests
    session = sent.credential.session
    assert (session.session_id, session.key, session.client_address) == ("s-1", KEY, "::1")
    assert list(session.required_scopes) == ["orders:read"]


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (consumed(1, about=answer(5)), "admits a key that is REVOKED"),
        (consumed(1, session=True), "no validation of a key"),
        (limit_pb2.ConsumeResponse(verdict=1), "no validation of a key"),  # type: ignore[arg-type]
        (consumed(1, limit(window=-1.0)), "negative duration"),
    ],
)
async def test_contradicting_decision_is_an_error(connect: Connect, fake: Fake, reply: Any, message: str) -> None:
    fake.limits["Consume"] = reply
    with pytest.raises(TenantAuthError, match=message):
        await connect().consume(KEY, {"requests": 1})


async def test_unknown_verdict_denies(connect: Connect, fake: Fake) -> None:
    fake.limits["Consume"] = consumed(99, about=answer())
    made = await connect().consume(KEY, {"requests": 1})
    assert not made.allowed
    with pytest.raises(LimitExceededError):
        _ = made.principal


async def test_batch_keeps_order_and_has_an_outcome_for_each_request(connect: Connect, fake: Fake) -> None:
    client = connect()
    session = consumed(1, session=True)
    fake.limits["BatchConsume"] = batch_of(consumed(), status_pb2.Status(code=14), session, consumed(QUOTA_EXCEEDED))
    outcomes = await client.consume_many(
        [
            ConsumeRequest(KEY, {"requests": 1}),
            ConsumeRequest(KeyQuery(KEY, client_address="nowhere"), {"requests": 1}),
            ConsumeRequest("other", {"requests": 1}),
            ConsumeRequest("x" * 600, {"requests": 1}),
            ConsumeRequest(SessionQuery("s-1"), {"requests": 1}, "c-1"),
            ConsumeRequest(KEY, {"requests": 9}),
        ]
    )
    kinds = [one.verdict.name if isinstance(one, Consumption) else one.code for one in outcomes]
    assert kinds == ["VALID", "INVALID_ARGUMENT", "UNAVAILABLE", "MALFORMED", "VALID", "QUOTA_EXCEEDED"]
    assert [one.field for one in outcomes[1].violations] == ["credential.key.client_address"]
    assert [one.costs[0].amount for one in fake.requests[0].requests] == [1, 1, 1, 9]
    fake.limits["BatchConsume"] = batch_of(consumed())
    with pytest.raises(TenantAuthError, match="1 results for 2 requests"):
        await client.consume_many([ConsumeRequest(KEY, {"requests": 1})] * 2)
    unsent = await client.consume_many([ConsumeRequest("x" * 600, {"requests": 1})])
    assert [one.verdict for one in unsent] == [Verdict.MALFORMED]
    with pytest.raises(InvalidRequestError, match="1 to 1000 entries"):
        await client.consume_many([ConsumeRequest(KEY, {"requests": 1})] * 1_001)


@pytest.mark.parametrize(
    ("credential", "costs", "consume_id", "message"),
    [
        (5, {"requests": 1}, None, "credential is int: give a key as text, a KeyQuery or a SessionQuery"),
        (KEY, [("requests", 1)], None, "costs is list: give amounts by metric"),
        (KEY, {"requests": 1.5}, None, "costs.0..amount: must be a 64-bit integer"),
        (KEY, {"requests": True}, None, "costs.0..amount: must be a 64-bit integer"),
        (KEY, {"requests": 2**63}, None, "costs.0..amount: must be a 64-bit integer"),
        (KEY, {"\ud800": 1}, None, "costs.0..metric: must be valid Unicode text"),
        (KEY, {"requests": 1}, "", "consume_id: must not be empty"),
        ("\ud800", {"requests": 1}, None, "credential.key.key: must be valid Unicode text"),
        (KeyQuery(KEY, client_address="x"), {"requests": 1}, None, "credential.key.client_address: must be"),
        (SessionQuery("\ud800"), {"requests": 1}, None, "credential.session.session_id: must be valid"),
    ],
)
async def test_invalid_argument_is_named(
    connect: Connect, credential: Any, costs: Any, consume_id: str | None, message: str
) -> None:
    with pytest.raises((InvalidRequestError, TypeError), match=message):
        await connect().consume(credential, costs, consume_id)


async def test_no_error_and_no_message_shows_a_key(connect: Connect, fake: Fake) -> None:
    fake.permanent_failure = Failure(grpc.StatusCode.INTERNAL, f"cannot handle {KEY}")
    client = connect()
    for call in (
        client.consume(KEY, {"requests": 1}),
        client.reserve(KEY, {"requests": 1}),
        client.consume_many([ConsumeRequest(SessionQuery("s-1", KEY), {"requests": 1})]),
        call_stub(client.raw.limit.Consume, limit_pb2.ConsumeRequest(credential=credential_of(KEY))),
    ):
        with pytest.raises(TenantAuthError) as caught:
            await call
        assert KEY not in str(caught.value)
    batch = limit_pb2.BatchConsumeRequest(requests=[limit_pb2.ConsumeRequest(credential=credential_of(KEY))])
    for shown in (batch, KeyQuery(KEY), SessionQuery("s-1", KEY), ConsumeRequest(KEY, {"requests": 1})):
        assert KEY not in f"{shown!r} {shown}"


async def test_copies_of_a_decision_have_no_key(connect: Connect, fake: Fake) -> None:
    fake.limits["Consume"] = consumed(1, limit())
    made = await connect().consume(KEY, {"requests": 1})
    data = pickle.dumps(made)
    assert KEY.encode() not in data
    assert KEY not in repr(made)
    for copied in (pickle.loads(data), copy.deepcopy(made), dataclasses.replace(made)):  # noqa: S301
        assert copied == made
        assert copied.principal._presented is None
    assert made.principal._presented is not None


async def test_guard_accepts_the_principal_of_a_consumption(fake: Fake) -> None:
    fake.keys[KEY] = answer()
    fake.limits["Consume"] = consumed(1, limit())

    async def one_item() -> Any:
        yield "first"

    async with AsyncClient(fake.endpoint) as client:
        principal = (await client.consume(KEY, {"requests": 1})).principal
        assert [item async for item in client.guard(principal, one_item())] == ["first"]


async def test_limit_state_is_read(connect: Connect, fake: Fake) -> None:
    client = connect()
    fake.limits["GetLimitState"] = state_of_hourly()
    (state,) = await client.limit_state(tenant_id="acme")
    assert state.limit.subject == LimitSubject(tenant_id="acme")
    assert (state.limit.name, state.limit.metric, state.limit.version) == ("hourly", "requests", 3)
    assert state.limit.rule == Quota(amount=100, window=3_600.0)
    assert state.limit.on_outage is OutagePolicy.LOCAL_SHARE
    assert (state.used, state.leased, state.reserved, state.unaccounted, state.remaining) == (1, 2, 3, 4, 90)
    assert (state.window_start, state.reset_after) == (None, 60.0)
    await client.limit_state(key_id="key_1")
    assert [one.WhichOneof("subject") for one in fake.requests] == ["tenant_id", "key_id"]
    for given in ({}, {"tenant_id": "acme", "key_id": "key_1"}):
        with pytest.raises(ValueError, match="give exactly one"):
            await client.limit_state(**given)
