"""The usage recorder: `AsyncUsageRecorder` for asyncio, and `UsageRecorder` for threads, which is generated from it."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import datetime
from types import TracebackType
from typing import Protocol, Self

from . import _at_exit, _checks, _status
from ._async_worker import AsyncProgress, AsyncWorker
from ._core import Core
from ._retry import backoff
from ._usage_buffer import Batch, OnRejected, RecorderOptions, UsageBuffer, event_of
from .errors import TenantAuthError
from .usage import UnsentUsage, UsageEvent, UsageReceipt


class AsyncSend(Protocol):
    """Sends one batch: the method `record_usage` of the client."""

    async def __call__(
        self, events: Sequence[UsageEvent], request_id: str, *, timeout: float | None = None
    ) -> UsageReceipt: ...


class AsyncUsageRecorder:
    """Collects usage events and records them in batches; see the method `usage_recorder` of the client.

    An `AsyncUsageRecorder` belongs to one event loop. A `UsageRecorder` may be used from any thread.

    It never drops events silently: `record` raises an error when the queue is full, events that the service rejects go
    to `on_rejected`, and `close` returns the events that could not be sent.
    """

    def __init__(
        self, send: AsyncSend, core: Core, options: RecorderOptions | None, on_rejected: OnRejected | None
    ) -> None:
        options = options or RecorderOptions()
        _checks.instance("options", options, RecorderOptions)
        if on_rejected is not None:
            _checks.sync_function("on_rejected", on_rejected)
        self._send = send
        self._core = core
        self._options = options
        self._buffer = UsageBuffer(core.clock, options, on_rejected)
        self._flush_target = 0
        self._worker = AsyncWorker(core.clock)
        self._wake = self._worker.signal()
        self._retry_now = self._worker.signal()
        self._progress = AsyncProgress()
        _at_exit.register(self, self._finish)
        self._worker.start(self._run)

    def record(self, tenant_id: str, metric: str, quantity: int, at: datetime | None = None) -> None:
        """Queues one event, with the current time unless `at` is given. Does not block. Call the method of an
        `AsyncUsageRecorder` from the thread of its event loop.

        Raises `QueueFullError` if the queue is full, and `InvalidRequestError` for an event that violates the contract.
        """
        # The time is set here, not on arrival: an event that is delayed by an outage still belongs to its own hour.
        if self._buffer.add(event_of(tenant_id, metric, quantity, at, self._core.clock)):
            self._wake.set()

    async def flush(self, timeout: float | None = None) -> None:
        """Waits until all events queued so far are recorded, rejected or set aside. Raises `DeadlineExceededError`
        after `timeout`.
        """
        target = self._buffer.added
        self._flush_target = target
        self._wake.set()
        if not await self._progress.wait_for(lambda: self._buffer.completed >= target, timeout):
            raise _status.deadline_exceeded()

    async def close(self, timeout: float = 5.0) -> list[UnsentUsage]:
        """Sends the remaining events for at most `timeout` seconds, and returns those that could not be sent."""
        _at_exit.unregister(self)
        self._buffer.close()
        self._retry_now.set()
        try:
            await self.flush(timeout)
        except TenantAuthError:
            pass
        await self._worker.stop()
        return self._buffer.unsent()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        unsent = await self.close()
        _at_exit.warn_unsent(unsent)

    def _finish(self) -> list[UnsentUsage]:
        """Sends the remaining events at exit, when the client may be closed and its event loop gone."""
        end = time.monotonic() + _at_exit.EXIT_TIMEOUT
        self._buffer.close()
        self._worker.stop_at_exit(_at_exit.EXIT_TIMEOUT)
        return _at_exit.send(self._buffer.unsent(), self._core, end)

    async def _run(self) -> None:
        while True:
            # Cleared before the checks: whatever happens after them sets the signal again.
            self._wake.clear()
            if self._worker.stopped:
                return
            batch = self._buffer.next_batch(force=self._buffer.completed < self._flush_target)
            if batch is None:
                await self._wake.wait(self._buffer.time_until_due())
            else:
                await self._send_batch(batch)

    async def _send_batch(self, batch: Batch) -> None:
        failure: TenantAuthError | None = None
        try:
            receipt = await self._send(batch.events, batch.request_id, timeout=self._options.timeout)
            self._buffer.recorded(batch, receipt)
        except TenantAuthError as error:
            failure = error
        except Exception as error:
            # An internal error, or one of the user's token function: the events are kept for `close`.
            failure = TenantAuthError(f"{type(error).__name__} while sending")
        if failure is not None and self._buffer.failed(batch, failure):
            delay = backoff(batch.failures - 1, self._core.options.jitter(), maximum=self._options.max_backoff)
            await self._retry_now.wait(delay + (failure.retry_after or 0.0))
            # `close` asks for one attempt without a delay.
            self._retry_now.clear()
            return
        await self._progress.notify()
