"""Usage that waits to be sent: bounded, in order, in batches that keep their request id. Does no I/O."""

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
    """How a usage recorder behaves. Durations are seconds."""

    batch_size: int = 500
    """The most events in a call; the contract allows 500."""
    linger: float = 1.0
    """How long an event waits for others."""
    max_events: int = 10_000
    """The most events that wait, are under way or could not be sent; beyond it `record` raises `QueueFullError`."""
    timeout: float = 5.0
    """For one call."""
    longest_pause: float = 10.0
    """Between attempts while the service is away."""

    def __post_init__(self) -> None:
        _checks.count("batch_size", self.batch_size, 1, 500)
        _checks.duration("linger", self.linger)
        _checks.count("max_events", self.max_events, self.batch_size, _checks.MAX_ENTRIES)
        _checks.duration("timeout", self.timeout)
        _checks.duration("longest_pause", self.longest_pause)


@dataclass(slots=True)
class Batch:
    """Events under one request id. Both stay the same however often it is sent, so that nothing counts twice."""

    events: tuple[UsageEvent, ...]
    request_id: str = field(default_factory=lambda: uuid.uuid4().hex)
    error: TenantAuthError | None = None
    failures: int = 0


class UsageBuffer:
    """Safe among threads; one sender at a time."""

    def __init__(self, clock: Clock, options: RecorderOptions, on_rejected: OnRejected | None) -> None:
        self._clock = clock
        self._options = options
        self._on_rejected = on_rejected or log_rejected
        self._lock = threading.Lock()
        self._waiting: deque[tuple[UsageEvent, float]] = deque()
        self._under_way: deque[Batch] = deque()
        self._aside: list[Batch] = []
        self._closed = False
        self.taken = 0
        """How many events were ever taken."""
        self.done = 0
        """How many of them are through: recorded, rejected, or set aside."""

    def add(self, event: UsageEvent) -> bool:
        """Takes an event; tells whether the sender has a reason to look: the first event, or a full batch."""
        check(event)
        with self._lock:
            if self._closed:
                raise _status.closed("usage recorder")
            held = self.taken - self.done + sum(len(batch.events) for batch in self._aside)
            if held >= self._options.max_events:
                raise QueueFullError(f"{held} usage events wait already")
            self.taken += 1
            self._waiting.append((event, self._clock.monotonic()))
            return len(self._waiting) == 1 or len(self._waiting) >= self._options.batch_size

    def next_batch(self, *, hurry: bool = False) -> Batch | None:
        """What is to be sent now."""
        with self._lock:
            if not self._under_way and self._waiting:
                full = len(self._waiting) >= self._options.batch_size
                if full or hurry or self._patience() <= 0:
                    count = min(len(self._waiting), self._options.batch_size)
                    self._under_way.append(Batch(tuple(self._waiting.popleft()[0] for _ in range(count))))
            return self._under_way[0] if self._under_way else None

    def patience(self) -> float | None:
        """How long until the oldest event has waited long enough; `None`: there is none."""
        with self._lock:
            return max(0.0, self._patience()) if self._waiting else None

    def recorded(self, batch: Batch, receipt: UsageReceipt) -> None:
        self._through(batch)
        for rejection in receipt.rejected:
            self._reject(rejection.event, rejection.error)

    def failed(self, batch: Batch, error: TenantAuthError) -> bool:
        """Takes a failure in; tells whether the same batch is worth sending again."""
        batch.error = error
        batch.failures += 1
        if error.is_transient:
            return True
        wrong = wrong_events(error, len(batch.events))
        if not wrong and error.kind is ErrorKind.INVALID:
            if len(batch.events) > 1:
                # Nothing was recorded and nobody says which it is: each half goes under a request id of its own.
                half = len(batch.events) // 2
                with self._lock:
                    self._under_way.popleft()
                    self._under_way.extendleft((Batch(batch.events[half:]), Batch(batch.events[:half])))
                return False
            wrong = {0}
        if wrong:
            # Nothing was recorded, so the others may go under a new request id.
            rest = tuple(event for index, event in enumerate(batch.events) if index not in wrong)
            with self._lock:
                self._under_way.popleft()
                self.done += len(wrong)
                if rest:
                    self._under_way.appendleft(Batch(rest))
            for index in sorted(wrong):
                self._reject(batch.events[index], error)
            return False
        self._through(batch, aside=True)
        if not isinstance(error, ClosedError):
            log.error("%d usage events cannot be recorded: %s", len(batch.events), error)
        return False

    def close(self) -> None:
        """Takes no more events."""
        with self._lock:
            self._closed = True

    def unsent(self) -> list[UnsentUsage]:
        """What was set aside, is under way or waits; nothing of it is held any longer."""
        with self._lock:
            batches = [*self._aside, *self._under_way]
            waiting = tuple(event for event, _ in self._waiting)
            size = self._options.batch_size
            batches += [Batch(waiting[start : start + size]) for start in range(0, len(waiting), size)]
            self._aside.clear()
            self._under_way.clear()
            self._waiting.clear()
            self.done = self.taken
            return [UnsentUsage(batch.request_id, batch.events, batch.error) for batch in batches]

    def _through(self, batch: Batch, *, aside: bool = False) -> None:
        with self._lock:
            self._under_way.popleft()
            self.done += len(batch.events)
            if aside:
                self._aside.append(batch)

    def _reject(self, event: UsageEvent, error: TenantAuthError) -> None:
        try:
            self._on_rejected(event, error)
        except Exception:
            # The user's own code must not stop the recording of everything else.
            log.exception("on_rejected failed")

    def _patience(self) -> float:
        return self._waiting[0][1] + self._options.linger - self._clock.monotonic()


def event_of(tenant_id: str, metric: str, quantity: int, at: datetime | None, clock: Clock) -> UsageEvent:
    """An event; of now, unless `at` says otherwise."""
    try:
        return UsageEvent(tenant_id, metric, quantity, at or datetime.fromtimestamp(clock.time(), UTC))
    except (TypeError, ValueError) as error:
        violation = Violation("occurred_at", str(error))
        raise InvalidRequestError(str(violation), code="INVALID_ARGUMENT", violations=[violation]) from None


def check(event: UsageEvent) -> None:
    """What can never be sent is refused at once: in a batch it would be found out far from its cause."""
    violations = violations_of(event)
    if violations:
        message = "; ".join(str(violation) for violation in violations)
        raise InvalidRequestError(message, code="INVALID_ARGUMENT", violations=violations)


def wrong_events(error: TenantAuthError, count: int) -> set[int]:
    """The events that a refusal names; none if it is about anything else as well."""
    names = [INDEX.match(violation.field) for violation in error.violations]
    wrong = {int(name[1]) for name in names if name}
    return wrong if wrong and None not in names and max(wrong) < count else set()


def log_rejected(event: UsageEvent, error: TenantAuthError) -> None:
    log.warning("usage of %s by tenant %s is not counted: %s", event.metric, event.tenant_id, error)
