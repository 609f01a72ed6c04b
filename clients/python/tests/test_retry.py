"""When calls are retried."""

from __future__ import annotations

import pytest

from tenant_auth import (
    DeadlineExceededError,
    Options,
    OverloadedError,
    Retry,
    TenantAuthError,
    UnavailableError,
    errors,
)
from tenant_auth._retry import Attempts, RetryBudget, backoff
from tenant_auth._status import KINDS
from tenant_auth.testing import ManualClock

UNAVAILABLE = UnavailableError("no", code="UNAVAILABLE")


def attempts(*, timeout: float = 1.0, jitter: float = 1.0, retry: Retry | None = None, made: int = 1) -> Attempts:
    options = Options(clock=ManualClock(), jitter=lambda: jitter, retry=retry or Retry())
    attempts = Attempts(options, RetryBudget(options.retry or Retry()), timeout)
    for _ in range(made):
        attempts.next_timeout()
    return attempts


def test_retry_delays_grow_with_full_jitter() -> None:
    assert [attempts(made=made).delay_after(UNAVAILABLE) for made in (1, 2, 3)] == [0.05, 0.1, 0.2]
    assert [attempts(made=made, jitter=0.0).delay_after(UNAVAILABLE) for made in (1, 2, 3)] == [0.0, 0.0, 0.0]


def test_attempts_are_limited() -> None:
    assert attempts(made=4).delay_after(UNAVAILABLE) is None


def test_retry_after_is_the_minimum_delay() -> None:
    error = UnavailableError("no", retry_after=0.3)
    assert attempts(jitter=0.0).delay_after(error) == pytest.approx(0.3)
    assert attempts(jitter=1.0).delay_after(error) == pytest.approx(0.35)


def test_delay_beyond_the_deadline_is_final() -> None:
    assert attempts(timeout=1.0).delay_after(UnavailableError("no", retry_after=0.95)) is None
    assert attempts(timeout=1.1).delay_after(UnavailableError("no", retry_after=0.95)) == pytest.approx(1.0)


def test_overload_is_retried_only_with_retry_after() -> None:
    assert attempts().delay_after(OverloadedError("no")) is None
    assert attempts().delay_after(OverloadedError("no", retry_after=0.2)) is not None


def test_other_errors_are_not_retried() -> None:
    others = set(KINDS.values()) | {TenantAuthError, errors.ClosedError} - {UnavailableError, OverloadedError}
    for kind in others - {UnavailableError, OverloadedError}:
        assert attempts().delay_after(kind("no", retry_after=0.1)) is None, kind


def test_retries_are_a_tenth_of_the_calls() -> None:
    budget = RetryBudget(Retry(burst=10, budget=0.1))
    assert sum(budget.try_withdraw() for _ in range(50)) == 10
    for _ in range(95):
        budget.deposit()
    assert sum(budget.try_withdraw() for _ in range(50)) == 9


def test_attempt_gets_the_remaining_time() -> None:
    clock = ManualClock()
    attempts = Attempts(Options(clock=clock), None, 2.0)
    assert attempts.next_timeout() == pytest.approx(2.0)
    clock.advance(1.5)
    assert attempts.next_timeout() == pytest.approx(0.5)
    clock.advance(0.5)
    with pytest.raises(DeadlineExceededError):
        attempts.next_timeout()


def test_backoff_is_bounded() -> None:
    assert [backoff(failures, 1.0, maximum=3.0) for failures in (0, 1, 5, 10_000)] == [0.1, 0.2, 3.0, 3.0]
