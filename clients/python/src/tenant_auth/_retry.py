"""Decides whether and when to retry. Does no I/O."""

from __future__ import annotations

import threading
import uuid

from . import _checks, _status
from .errors import ErrorKind, TenantAuthError
from .options import Options, Retry


class RetryBudget:
    """A token bucket: each call deposits a fraction of a token, each retry withdraws one."""

    def __init__(self, retry: Retry) -> None:
        self._lock = threading.Lock()
        self._deposit = retry.budget
        self._max_tokens = float(retry.burst)
        self._tokens = self._max_tokens

    def deposit(self) -> None:
        with self._lock:
            self._tokens = min(self._max_tokens, self._tokens + self._deposit)

    def try_withdraw(self) -> bool:
        with self._lock:
            # Tenths do not add up exactly in binary.
            if self._tokens < 1 - 1e-9:
                return False
            self._tokens -= 1
            return True


class Attempts:
    """The attempts of one call, until it has a result, must not be retried, or times out."""

    def __init__(self, options: Options, budget: RetryBudget | None, timeout: float | None) -> None:
        self._clock = options.clock
        self._jitter = options.jitter
        self._retry = options.retry
        self._budget = budget
        self.timeout = options.timeout if timeout is None else _checks.duration("timeout", timeout)
        """The timeout of all attempts together, in seconds."""
        self._deadline = self._clock.monotonic() + self.timeout
        self._made = 0
        self.request_id = uuid.uuid4().hex
        if budget is not None:
            budget.deposit()

    def next_timeout(self) -> float:
        """Returns the timeout of the next attempt."""
        remaining = self._deadline - self._clock.monotonic()
        if remaining <= 0:
            raise _status.deadline_exceeded(self.request_id)
        self._made += 1
        return remaining

    def hedge(self) -> bool:
        """Reports whether the current attempt may be hedged. A hedge counts as a retry."""
        return self._budget is not None and self._budget.try_withdraw()

    def delay_after(self, error: TenantAuthError, *, failover: bool = False) -> float | None:
        """Returns the delay before the next attempt, or `None` if the error is final.

        `failover`: this client itself ended the attempt to make it on another replica, immediately and independently of
        the budget.
        """
        retry, budget = self._retry, self._budget
        if retry is None or budget is None or self._made >= retry.max_attempts or not is_retryable(error):
            return None
        if failover:
            return 0.0
        delay = self._jitter() * min(retry.max_backoff, retry.initial_backoff * 2 ** (self._made - 1))
        # The delay that the service asks for is the minimum. The added jitter keeps callers from retrying at the same
        # time.
        delay += error.retry_after or 0.0
        if self._clock.monotonic() + delay >= self._deadline:
            return None
        return delay if budget.try_withdraw() else None


def is_retryable(error: TenantAuthError) -> bool:
    """Reports whether a retry may help. An overloaded service is retried only if it gave a retry delay."""
    if error.kind is ErrorKind.OVERLOADED:
        return error.retry_after is not None
    return error.kind is ErrorKind.UNAVAILABLE


def backoff(failures: int, jitter: float, *, base: float = 0.1, maximum: float = 5.0) -> float:
    """Returns a random delay that grows with each consecutive failure."""
    return float(jitter * min(maximum, base * 2 ** min(failures, 16)))
