"""The queue of usage events: bounded, ordered, with batches that keep their request id. Does no I/O."""

from __future__ import annotations

import logging
import re
import threading
import uuid
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from . import _checks, _status
from .clock import Clock
from .errors import ClosedError, ErrorKind, InvalidRequestError, QueueFullError, TenantAuthError, Violation
from .usage import UnsentUsage, UsageEvent, UsageReceipt, violations_of

log = logging.getLogger("tenant_auth")

INDEX = re.compile(r"events\[(\d+)\]")

OnRejected = Callable[[UsageEvent, TenantAuthError], None]


@dataclass(frozen=True, slots=True)
class RecorderOptions:
    """Options of a usage recorder. Durations are seconds."""

    batch_size: int = 500
    """Maximum number of events per call; the contract allows 500."""
    batch_delay: float = 1.0
    """Maximum time that an event waits for a full batch."""
    max_events: int = 10_000
    """Maximum number of events that are queued, in flight or set aside; beyond it, `record` raises `QueueFullError`."""
    timeout: float = 5.0
    """Timeout of one call."""
    max_backoff: float = 10.0
    """Maximum delay between attempts while the service is unavailable."""

    def __post_init__(self) -> None:
        _checks.count("batch_size", self.batch_size, 1, 500)
        _checks.duration("batch_delay", self.batch_delay)
        _checks.count("max_events", self.max_events, self.batch_size, _checks.MAX_ENTRIES)
        _checks.duration("timeout", self.timeout)
        _checks.duration("max_backoff", self.max_backoff)


@dataclass(slots=True)
class Batch:
    """Events with one request id. A batch is always sent with the same id and events, so that nothing counts twice."""

    events: tuple[UsageEvent, ...]
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    error: TenantAuthError | None = None
    failures: int = 0


class UsageBuffer:
    """Thread-safe, with one sender at a time."""

    def __init__(self, clock: Clock, options: RecorderOptions, on_rejected: OnRejected | None) -> None:
        self._clock = clock
        self._options = options
        self._on_rejected = on_rejected or log_rejected
        self._lock = threading.Lock()
        self._queue: deque[tuple[UsageEvent, float]] = deque()
        self._in_flight: deque[Batch] = deque()
        self._set_aside: list[Batch] = []
        self._closed = False
        self.added = 0
        """Total number of events that were added."""
        self.completed = 0
        """Number of events that are recorded, rejected or set aside."""

    def add(self, event: UsageEvent) -> bool:
        """Adds an event. Returns whether to wake the sender: for the first event, and for a full batch."""
        check(event)
        with self._lock:
            if self._closed:
                raise _status.closed_error("usage recorder")
            pending = self.added - self.completed + sum(len(batch.events) for batch in self._set_aside)
            if pending >= self._options.max_events:
                raise QueueFullError(f"usage queue full: {pending} events")
            self.added += 1
            self._queue.append((event, self._clock.monotonic()))
            return len(self._queue) == 1 or len(self._queue) >= self._options.batch_size

    def next_batch(self, *, force: bool = False) -> Batch | None:
        """Returns the batch to send now."""
        with self._lock:
            if not self._in_flight and self._queue:
                full = len(self._queue) >= self._options.batch_size
                if full or force or self._time_until_due() <= 0:
                    count = min(len(self._queue), self._options.batch_size)
                    self._in_flight.append(Batch(tuple(self._queue.popleft()[0] for _ in range(count))))
            return self._in_flight[0] if self._in_flight else None

    def time_until_due(self) -> float | None:
        """Returns the time until the oldest event must be sent, in seconds; `None` if the queue is empty."""
        with self._lock:
            return max(0.0, self._time_until_due()) if self._queue else None

    def recorded(self, batch: Batch, receipt: UsageReceipt) -> None:
        self._complete(batch)
        for rejection in receipt.rejected:
            self._reject(rejection.event, rejection.error)

    def failed(self, batch: Batch, error: TenantAuthError) -> bool:
        """Handles a failure. Returns whether the same batch may be sent again."""
        batch.error = error
        batch.failures += 1
        if error.is_transient:
            return True
        invalid = invalid_events(error, len(batch.events))
        if not invalid and error.kind is ErrorKind.INVALID:
            if len(batch.events) > 1:
                # No event was recorded, and the error names none: each half is sent with a new request id.
                half = len(batch.events) // 2
                with self._lock:
                    if self._remove(batch):
                        self._in_flight.extendleft((Batch(batch.events[half:]), Batch(batch.events[:half])))
                return False
            invalid = {0}
        if invalid:
            # No event was recorded, so the remaining ones may be sent with a new request id.
            rest = tuple(event for index, event in enumerate(batch.events) if index not in invalid)
            with self._lock:
                if not self._remove(batch):
                    return False
                self.completed += len(invalid)
                if rest:
                    self._in_flight.appendleft(Batch(rest))
            for index in sorted(invalid):
                self._reject(batch.events[index], error)
            return False
        self._complete(batch, set_aside=True)
        if not isinstance(error, ClosedError):
            log.error("usage events not recorded: %d: %s", len(batch.events), error)
        return False

    def close(self) -> None:
        """Rejects further events."""
        with self._lock:
            self._closed = True

    def unsent(self) -> list[UnsentUsage]:
        """Removes and returns the events that are set aside, in flight or queued."""
        with self._lock:
            batches = [*self._set_aside, *self._in_flight]
            queued = tuple(event for event, _ in self._queue)
            size = self._options.batch_size
            batches += [Batch(queued[start : start + size]) for start in range(0, len(queued), size)]
            self._set_aside.clear()
            self._in_flight.clear()
            self._queue.clear()
            self.completed = self.added
            return [UnsentUsage(batch.request_id, batch.events, batch.error) for batch in batches]

    def _remove(self, batch: Batch) -> bool:
        """Removes a batch in flight. Returns `False` if `unsent` has already removed it."""
        if not self._in_flight or self._in_flight[0] is not batch:
            return False
        self._in_flight.popleft()
        return True

    def _complete(self, batch: Batch, *, set_aside: bool = False) -> None:
        with self._lock:
            if not self._remove(batch):
                return
            self.completed += len(batch.events)
            if set_aside:
                self._set_aside.append(batch)

    def _reject(self, event: UsageEvent, error: TenantAuthError) -> None:
        try:
            self._on_rejected(event, error)
        except Exception:
            # An error of the user's callback must not stop the recording of other events.
            log.exception("on_rejected callback failed")

    def _time_until_due(self) -> float:
        return self._queue[0][1] + self._options.batch_delay - self._clock.monotonic()


def event_of(tenant_id: str, metric: str, quantity: int, at: datetime | None, clock: Clock) -> UsageEvent:
    """Returns an event, with the current time unless `at` is given."""
    try:
        return UsageEvent(tenant_id, metric, quantity, at or datetime.fromtimestamp(clock.time(), UTC))
    except (TypeError, ValueError) as error:
        violation = Violation("occurred_at", str(error))
        raise InvalidRequestError(str(violation), code="INVALID_ARGUMENT", violations=[violation]) from None


def check(event: UsageEvent) -> None:
    """Rejects invalid events immediately. In a batch, they would be rejected far from the code that recorded them."""
    violations = violations_of(event)
    if violations:
        message = "; ".join(str(violation) for violation in violations)
        raise InvalidRequestError(message, code="INVALID_ARGUMENT", violations=violations)


def invalid_events(error: TenantAuthError, count: int) -> set[int]:
    """Returns the events that a rejection names; none if it is about anything else as well."""
    names = [INDEX.match(violation.field) for violation in error.violations]
    invalid = {int(name[1]) for name in names if name}
    return invalid if invalid and None not in names and max(invalid) < count else set()


def log_rejected(event: UsageEvent, error: TenantAuthError) -> None:
    log.warning("usage event of metric %s and tenant %s rejected: %s", event.metric, event.tenant_id, error)
