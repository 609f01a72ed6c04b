"""Usage recorder for threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from datetime import datetime
from types import TracebackType
from typing import Self

from . import _at_exit, _checks, _status
from ._at_exit import ClientFactory
from ._core import Core
from ._retry import backoff
from ._usage_buffer import Batch, OnRejected, RecorderOptions, UsageBuffer, event_of
from .errors import ClosedError, TenantAuthError
from .usage import UnsentUsage, UsageEvent, UsageReceipt

Send = Callable[[Sequence[UsageEvent], str, float], UsageReceipt]


class UsageRecorder:
    """Collects usage events and records them in batches; see `Client.usage_recorder`. Thread-safe.

    It never drops events silently: `record` raises an error when the queue is full, events that the service rejects go
    to `on_rejected`, and `close` returns the events that could not be sent.
    """

    def __init__(
        self,
        send: Send,
        core: Core,
        options: RecorderOptions | None,
        on_rejected: OnRejected | None,
        reopened: ClientFactory,
    ) -> None:
        options = options or RecorderOptions()
        _checks.instance("options", options, RecorderOptions)
        if on_rejected is not None:
            _checks.sync_function("on_rejected", on_rejected)
        self._send = send
        self._clock = core.clock
        self._jitter = core.options.jitter
        self._options = options
        self._buffer = UsageBuffer(core.clock, options, on_rejected)
        self._wake = threading.Event()
        self._flush_target = 0
        self._retry_now = threading.Event()
        self._stop = threading.Event()
        self._progress = threading.Condition()
        _at_exit.register(self, lambda: self._finish(reopened))
        self._thread = threading.Thread(target=self._run, name="tenant-auth-usage", daemon=True)
        self._thread.start()

    def record(self, tenant_id: str, metric: str, quantity: int, at: datetime | None = None) -> None:
        """Queues one event, with the current time unless `at` is given. Does not block.

        Raises `QueueFullError` if the queue is full, and `InvalidRequestError` for an event that violates the contract.
        """
        # The time is set here, not on arrival: an event that is delayed by an outage still belongs to its own hour.
        if self._buffer.add(event_of(tenant_id, metric, quantity, at, self._clock)):
            self._wake.set()

    def flush(self, timeout: float | None = None) -> None:
        """Waits until all events queued so far are recorded, rejected or set aside. Raises `DeadlineExceededError`
        after `timeout`.
        """
        upto = self._buffer.added
        self._flush_target = upto
        self._wake.set()
        with self._progress:
            if not self._progress.wait_for(lambda: self._buffer.completed >= upto, timeout):
                raise _status.deadline_exceeded()

    def close(self, timeout: float = 5.0) -> list[UnsentUsage]:
        """Sends the remaining events for at most `timeout` seconds, and returns those that could not be sent."""
        _at_exit.unregister(self)
        self._buffer.close()
        self._retry_now.set()
        try:
            self.flush(timeout)
        except TenantAuthError:
            pass
        self._stop.set()
        self._wake.set()
        self._retry_now.set()
        # A call in flight ends with its own deadline. Until then its events must not be returned as unsent.
        if self._thread.is_alive():
            self._thread.join()
        return self._buffer.unsent()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = self.close()
        _at_exit.warn_unsent(left)

    def _finish(self, reopened: ClientFactory) -> list[UnsentUsage]:
        """Sends the remaining events at exit. The client may already be closed."""
        left = self.close(_at_exit.EXIT_TIMEOUT)
        again = [batch for batch in left if isinstance(batch.error, ClosedError)]
        return [batch for batch in left if batch not in again] + _at_exit.send(again, reopened)

    def _run(self) -> None:
        while not self._stop.is_set():
            # Cleared before the check: events that arrive in the meantime set it again.
            self._wake.clear()
            batch = self._buffer.next_batch(force=self._buffer.completed < self._flush_target)
            if batch is not None:
                self._send_batch(batch)
                continue
            seconds = self._buffer.time_until_due()
            if seconds is None:
                self._wake.wait()
            else:
                self._clock.wait(self._wake, seconds)

    def _send_batch(self, batch: Batch) -> None:
        failure: TenantAuthError | None = None
        try:
            receipt = self._send(batch.events, batch.request_id, self._options.timeout)
            self._buffer.recorded(batch, receipt)
        except TenantAuthError as error:
            failure = error
        except Exception as error:
            # An internal error, or one of the user's token function: the events are kept for `close`.
            failure = TenantAuthError(f"{type(error).__name__} while sending")
        if failure is not None and self._buffer.failed(batch, failure):
            pause = backoff(batch.failures - 1, self._jitter(), longest=self._options.longest_pause)
            self._clock.wait(self._retry_now, pause + (failure.retry_after or 0.0))
            if not self._stop.is_set():
                self._retry_now.clear()
            return
        with self._progress:
            self._progress.notify_all()
