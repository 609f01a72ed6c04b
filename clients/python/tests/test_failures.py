"""Errors, retries and deadlines of both clients, and redaction of keys."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import traceback
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from conftest import Connect, call_stub, collect, engine_of, until
from fake import Fake
from replies import Failure, answer
from tenant_auth import (
    AsyncClient,
    ClosedError,
    DeadlineExceededError,
    ErrorKind,
    InvalidRequestError,
    KeyQuery,
    OverloadedError,
    Retry,
    TenantAuthError,
    UnavailableError,
    Violation,
)
from tenant_auth.proto import admin_pb2, info_pb2
from tenant_auth.testing import ManualClock

KEY = "ta_canary_0123456789abcdef"


@pytest.mark.parametrize("number", [0, 16, -1, 2**31 - 1])
async def test_unknown_verdict_is_a_denial(connect: Connect, fake: Fake, number: int) -> None:
    fake.keys[KEY] = answer(number)
    verdict = (await connect().validate_key(KEY)).verdict
    assert not verdict.is_valid
    assert verdict == number
    assert str(verdict) == f"UNRECOGNIZED({number})"


@pytest.mark.parametrize("scopes", [["x"] * 33, [""], ["UPPER"], ["a" * 65]])
async def test_invalid_scopes_are_left_to_the_service(connect: Connect, fake: Fake, scopes: list[str]) -> None:
    fake.permanent_failure = Failure(grpc.StatusCode.INVALID_ARGUMENT, violations=[("required_scopes[0]", "is wrong")])
    with pytest.raises(InvalidRequestError) as caught:
        await connect().validate_key(KEY, scopes)
    assert caught.value.violations == (Violation("required_scopes[0]", "is wrong"),)
    assert list(fake.requests[0].required_scopes) == scopes


async def test_error_has_all_details_of_the_service(connect: Connect, fake: Fake) -> None:
    fake.permanent_failure = Failure(
        grpc.StatusCode.UNAVAILABLE, "the database does not respond", reason="DATABASE_TIMED_OUT", retry_after=1.5
    )
    with pytest.raises(UnavailableError) as caught:
        await connect().validate_key(KEY)
    error = caught.value
    assert error.kind is ErrorKind.UNAVAILABLE
    assert error.is_transient
    assert (error.code, error.message) == ("UNAVAILABLE", "the database does not respond")
    assert (error.reason, error.retry_after) == ("DATABASE_TIMED_OUT", 1.5)
    assert error.request_id == "fake-ValidateKey"
    assert "request fake-ValidateKey" in str(error)


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (grpc.StatusCode.UNAUTHENTICATED, ErrorKind.UNAUTHENTICATED),
        (grpc.StatusCode.PERMISSION_DENIED, ErrorKind.PERMISSION_DENIED),
        (grpc.StatusCode.UNIMPLEMENTED, ErrorKind.UNIMPLEMENTED),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, ErrorKind.OVERLOADED),
        (grpc.StatusCode.NOT_FOUND, ErrorKind.OTHER),
        (grpc.StatusCode.INTERNAL, ErrorKind.OTHER),
    ],
)
async def test_status_code_determines_error_kind(
    connect: Connect, fake: Fake, code: grpc.StatusCode, kind: ErrorKind
) -> None:
    fake.permanent_failure = Failure(code)
    with pytest.raises(TenantAuthError) as caught:
        await connect().validate_key(KEY)
    assert (caught.value.kind, caught.value.code) == (kind, code.name)
    assert fake.calls["ValidateKey"] == 1


async def test_transient_failure_is_retried(connect: Connect, fake: Fake) -> None:
    fake.keys[KEY] = answer()
    fake.failures.extend([Failure(grpc.StatusCode.UNAVAILABLE)] * 2)
    clock = ManualClock(auto=True)
    assert (await connect(clock=clock, jitter=lambda: 0.5).validate_key(KEY)).is_valid
    assert [delay for delay in clock.sleeps if delay in (0.025, 0.05)] == [0.025, 0.05]
    assert fake.calls["ValidateKey"] == 3
    assert len({metadata["x-request-id"] for metadata in fake.metadata}) == 1


async def test_retry_after_is_respected_within_the_deadline(connect: Connect, fake: Fake) -> None:
    fake.keys[KEY] = answer()
    clock = ManualClock(auto=True)
    client = connect(clock=clock, jitter=lambda: 0.0, near_cache=None)
    fake.failures.append(Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after=0.2))
    assert (await client.validate_key(KEY)).is_valid
    assert clock.sleeps == [pytest.approx(0.2)]
    fake.failures.append(Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after=2))
    with pytest.raises(OverloadedError):
        await client.validate_key(KEY)
    assert fake.calls["ValidateKey"] == 3


async def test_outage_does_not_multiply_the_load(connect: Connect, fake: Fake) -> None:
    fake.permanent_failure = Failure(grpc.StatusCode.UNAVAILABLE)
    client = connect(clock=ManualClock(auto=True), near_cache=None, timeout=100.0)
    for _ in range(40):
        with pytest.raises(UnavailableError):
            await client.validate_key(KEY)
    assert fake.calls["ValidateKey"] == 40 + 10 + 3, "each call, the burst, and a tenth of the calls"


async def test_retries_can_be_turned_off(connect: Connect, fake: Fake) -> None:
    fake.permanent_failure = Failure(grpc.StatusCode.UNAVAILABLE)
    with pytest.raises(UnavailableError):
        await connect(retry=None).validate_key(KEY)
    assert fake.calls["ValidateKey"] == 1


@pytest.mark.parametrize("near", [True, False])
async def test_call_ends_at_its_deadline(connect: Connect, fake: Fake, near: bool) -> None:
    fake.responding.clear()
    client = connect(timeout=60.0) if near else connect(timeout=60.0, near_cache=None)
    with pytest.raises(DeadlineExceededError):
        await client.validate_key(KEY, timeout=0.05)


async def test_unreachable_service_is_unavailable(connect: Connect, fake: Fake) -> None:
    fake.stop()
    with pytest.raises(UnavailableError):
        await connect(retry=Retry(max_attempts=1)).validate_key(KEY)


async def test_close_waits_for_calls_and_rejects_new_ones(connect: Connect, fake: Fake) -> None:
    client = connect()
    fake.keys[KEY] = answer()
    fake.responding.clear()
    waiting = asyncio.ensure_future(client.validate_key(KEY, timeout=60.0))
    await asyncio.to_thread(fake.until, lambda: fake.calls["ValidateKey"] == 1)
    closing = [asyncio.ensure_future(client.close()) for _ in range(2)]
    await asyncio.sleep(0)
    await until(lambda: is_closed(client))
    for call in (
        client.validate_key(KEY),
        client.require_key("another"),
        client.validate_session("s"),
        client.validate_keys([KEY]),
        client.unbind_session("s", "acme"),
        client.record_usage([], "r"),
        client.consume(KEY, {"requests": 1}),
        client.consume("x" * 600, {"requests": 1}),
        client.reserve(KEY, {"requests": 1}),
        client.settle_reservation("r"),
        client.limit_state(tenant_id="acme"),
        client.server_info(),
        collect(client.list_sessions("acme")),
        call_stub(client.raw.info.GetServerInfo, info_pb2.GetServerInfoRequest()),
    ):
        with pytest.raises(ClosedError):
            await call
    fake.responding.set()
    assert (await waiting).is_valid
    await asyncio.gather(*closing)
    await client.close()


async def test_calls_of_the_same_tick_complete_before_close(fake: Fake) -> None:
    fake.keys[KEY] = answer()
    client = AsyncClient(fake.endpoint)
    calls = [asyncio.ensure_future(client.validate_key(KEY)) for _ in range(3)]
    await client.close()
    assert [(await call).is_valid for call in calls] == [True] * 3


def test_second_event_loop_is_rejected(fake: Fake) -> None:
    client = AsyncClient(fake.endpoint)
    asyncio.run(client.server_info())
    with pytest.raises(TenantAuthError, match="belongs to the event loop on which it was first used"):
        asyncio.run(client.server_info())


def test_client_used_before_a_fork_raises_instead_of_hanging() -> None:
    code = """
import os
from tenant_auth import Client, TenantAuthError
client = Client("127.0.0.1:1")
def call():
    try:
        client.server_info()
    except TenantAuthError as error:
        print(error.code, flush=True)
call()
if os.fork() == 0:
    call()
    os._exit(0)
os.wait()
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.split() == ["UNAVAILABLE", "FAILED_PRECONDITION"]


def is_closed(client: Any) -> bool:
    return bool(engine_of(client)._closed)


async def test_errors_reprs_and_logs_contain_no_key(
    connect: Connect, fake: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    client = connect(token="caller-secret-token")
    fake.keys["ok" + KEY] = answer()
    texts = [repr(await client.validate_key("ok" + KEY)), repr(KeyQuery(KEY)), repr(client._core.options)]
    fake.permanent_failure = Failure(
        grpc.StatusCode.INVALID_ARGUMENT, f"unknown key {KEY}", reason=KEY, violations=[("key", f"{KEY} is invalid")]
    )
    for call in (
        client.validate_key(KEY),
        client.validate_session("s", KEY),
        client.validate_keys([KEY]),
        client.bind_session("s", KEY, 1),
    ):
        with pytest.raises(TenantAuthError) as caught:
            await call
        error = caught.value
        texts += ["".join(traceback.format_exception(error)), repr(error), repr(vars(error))]
        assert "unknown key [redacted]" in str(error)
        assert error.__context__ is None
    assert KEY not in "".join(texts) + caplog.text
    assert "caller-secret-token" not in "".join(texts) + caplog.text


@pytest.mark.parametrize("stub", ["ExplainKey", "ReportLeak"])
async def test_administration_shows_no_key(connect: Connect, fake: Fake, stub: str) -> None:
    request: Any = getattr(admin_pb2, f"{stub}Request")(plaintext=KEY)
    assert KEY not in f"{request} {request!r}"
    fake.permanent_failure = Failure(grpc.StatusCode.INVALID_ARGUMENT, f"unknown key {KEY}")
    with pytest.raises(InvalidRequestError, match=r"unknown key \[redacted\]") as caught:
        await call_stub(getattr(connect().raw.admin, stub), request)
    assert KEY not in "".join(traceback.format_exception(caught.value))


async def test_invalid_unicode_key_is_rejected_without_showing_it(connect: Connect, fake: Fake) -> None:
    client, invalid = connect(), KEY + "\udcff"
    for call, field in (
        (client.validate_key(invalid), "key"),
        (client.validate_session("s", invalid), "key"),
        (client.bind_session("s", invalid, 1), "key"),
    ):
        with pytest.raises(InvalidRequestError) as caught:
            await call
        assert [violation.field for violation in caught.value.violations] == [field]
        assert KEY not in "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    assert not fake.requests


@pytest.mark.parametrize("invalid", [KEY + "\udcff", KEY * 1_000])
async def test_invalid_unicode_key_in_a_batch_is_an_error_outcome(connect: Connect, fake: Fake, invalid: str) -> None:
    fake.keys["a"] = answer()
    first, second, third = await connect().validate_keys(["a", invalid, "a"])
    assert isinstance(second, InvalidRequestError)
    assert [violation.field for violation in second.violations] == ["requests[1].key"]
    assert first.is_valid
    assert third.is_valid
    assert KEY not in repr(second)
    (alone,) = await connect().validate_keys([invalid])
    assert isinstance(alone, InvalidRequestError)


async def test_too_large_batch_is_rejected_by_the_client(connect: Connect, fake: Fake) -> None:
    with pytest.raises(InvalidRequestError, match="must have 1 to 1000 entries, not 1001"):
        await connect().validate_keys(["k"] * 1_001)
    assert not fake.requests


async def test_invalid_expiry_is_an_error(connect: Connect, fake: Fake) -> None:
    fake.keys[KEY] = answer(expires_at=Timestamp(seconds=2**62))
    with pytest.raises(TenantAuthError, match="timestamp out of range"):
        await connect().validate_key(KEY)
