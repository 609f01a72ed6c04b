"""Usage recorder for asyncio."""

from __future__ import annotations

import asyncio
from datetime import datetime
from types import TracebackType
from typing import Self

from . import _at_exit, _checks, _status
from ._at_exit import ClientFactory, Send
from ._core import Core
from ._retry import backoff
from ._usage_buffer import Batch, OnRejected, RecorderOptions, UsageBuffer, event_of
from .errors import TenantAuthError
from .usage import UnsentUsage


class AsyncUsageRecorder:
    """Collects usage events and records them in batches; see `AsyncClient.usage_recorder`.

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
        self._wake = asyncio.Event()
        self._flush_target = 0
        self._retry_now = asyncio.Event()
        self._progress = asyncio.Condition()
        _at_exit.register(self, lambda: self._finish(reopened))
        self._task = asyncio.create_task(self._run())

    def record(self, tenant_id: str, metric: str, quantity: int, at: datetime | None = None) -> None:
        """Queues one event, with the current time unless `at` is given. Does not block. Call it from the event loop's
        thread.

        Raises `QueueFullError` if the queue is full, and `InvalidRequestError` for an event that violates the contract.
        """
        # The time is set here, not on arrival: an event that is delayed by an outage still belongs to its own hour.
        if self._buffer.add(event_of(tenant_id, metric, quantity, at, self._clock)):
            self._wake.set()

    async def flush(self, timeout: float | None = None) -> None:
        """Waits until all events queued so far are recorded, rejected or set aside. Raises `DeadlineExceededError`
        after `timeout`.
        """
        upto = self._buffer.added
        self._flush_target = upto
        self._wake.set()
        try:
            async with asyncio.timeout(timeout), self._progress:
                await self._progress.wait_for(lambda: self._buffer.completed >= upto)
        except TimeoutError:
            raise _status.deadline_exceeded() from None

    async def close(self, timeout: float = 5.0) -> list[UnsentUsage]:
        """Sends the remaining events for at most `timeout` seconds, and returns those that could not be sent."""
        _at_exit.unregister(self)
        self._buffer.close()
        self._retry_now.set()
        try:
            await self.flush(timeout)
        except TenantAuthError:
            pass
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        return self._buffer.unsent()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        left = await self.close()
        _at_exit.warn_unsent(left)

    def _finish(self, reopened: ClientFactory) -> list[UnsentUsage]:
        """Sends the remaining events at exit, when the event loop of this recorder no longer runs."""
        self._buffer.close()
        return _at_exit.send(self._buffer.unsent(), reopened)

    async def _run(self) -> None:
        while True:
            batch = self._buffer.next_batch(force=self._buffer.completed < self._flush_target)
            if batch is not None:
                await self._send_batch(batch)
                continue
            self._wake.clear()
            await self._wait(self._wake, self._buffer.time_until_due())

    async def _send_batch(self, batch: Batch) -> None:
        failure: TenantAuthError | None = None
        try:
            receipt = await self._send(batch.events, batch.request_id, self._options.timeout)
            self._buffer.recorded(batch, receipt)
        except TenantAuthError as error:
            failure = error
        except Exception as error:
            # An internal error, or one of the user's token function: the events are kept for `close`.
            failure = TenantAuthError(f"{type(error).__name__} while sending")
        if failure is not None and self._buffer.failed(batch, failure):
            pause = backoff(batch.failures - 1, self._jitter(), longest=self._options.longest_pause)
            self._retry_now.clear()
            await self._wait(self._retry_now, pause + (failure.retry_after or 0.0))
            return
        async with self._progress:
            self._progress.notify_all()

    async def _wait(self, event: asyncio.Event, seconds: float | None) -> None:
        waits: set[asyncio.Future[object]] = {asyncio.ensure_future(event.wait())}
        if seconds is not None:
            waits.add(asyncio.ensure_future(self._clock.sleep(seconds)))
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
