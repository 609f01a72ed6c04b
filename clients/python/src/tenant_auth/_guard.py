"""The guard of one live stream."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ._credential import Credential
from ._interruption import Interruption, Reason
from ._marks import Subject
from .errors import ClosedError, UnavailableError
from .results import DeniedError, SessionValidation, Validation
from .verdict import Verdict

if TYPE_CHECKING:
    from ._guards import Guards

log = logging.getLogger("tenant_auth")

MIN_PERIOD, DEFAULT_PERIOD = 1.0, 5.0
"""Time between validations while the watch stream is not live, if the answer gives no other, in seconds."""
FIRST_DELAY, MAX_DELAY = 0.05, 1.0
"""Delays between attempts, in seconds."""
MIN_LIMIT = 0.05
"""The least time for an attempt, in seconds."""
EXPIRY_LIMIT = 1.0
"""How long the validation of an expired key may take, in seconds."""


@dataclass(frozen=True, slots=True)
class Answers:
    """Valid answers about what a stream was admitted for."""

    validations: list[Validation]
    subjects: frozenset[Subject]
    sent_at: float
    """When the oldest of them was requested."""

    @property
    def first_to_expire(self) -> Validation:
        return min(self.validations, key=expiry)

    @property
    def revision(self) -> int:
        return min(one.provenance.revision for one in self.validations)

    @property
    def period(self) -> float:
        fresh = min(one.provenance.cacheable_for for one in self.validations)
        return max(MIN_PERIOD, fresh or DEFAULT_PERIOD)


Outcome = Answers | Validation | Exception
"""Valid answers, a denial, or why there is no decision."""


def expiry(answer: Validation) -> float:
    return math.inf if answer.expires_at is None else answer.expires_at.timestamp()


class Guard:
    """Ends when its key, session or tenant may no longer be used. `reason` says why."""

    def __init__(
        self,
        guards: Guards,
        credential: Credential,
        scopes: tuple[str, ...],
        subjects: frozenset[Subject],
        undecided_for: float,
    ) -> None:
        self._guards = guards
        self._credential = credential
        self._scopes = scopes
        self._first_subjects = subjects
        self._task: asyncio.Task[None] | None = None
        self._checks_again = False
        self._waits = False
        self._released = False
        self._deadline = math.inf
        self._expired: Validation | None = None
        self._since = -math.inf
        self.undecided_for = undecided_for
        self.subjects: frozenset[Subject] = frozenset()
        self.due = math.inf
        """When to validate again while the watch stream is not live."""
        self.expires_at = math.inf
        self.answers: Answers | None = None
        self.reason: Reason | None = None
        self.on_end: Callable[[], None] | None = None
        """Called when the guard ends."""

    def interrupting(self) -> Interruption:
        """Returns a context in which the current task is interrupted when the guard ends."""
        return Interruption(self)

    def start(self) -> None:
        """Starts watching, and validates for the first time."""
        self._guards.add(self, self._first_subjects)
        self.check(self.undecided_for)

    def release(self) -> None:
        """Stops watching. Idempotent."""
        self._released = True
        if self._task is not None:
            self._task.cancel()
        self._guards.release(self)

    def is_covered(self, covered: tuple[float, int] | None) -> bool:
        """Reports whether the watch stream would have reported a change since the last answers."""
        answers = self.answers
        return (
            covered is not None
            and answers is not None
            and answers.sent_at >= covered[0]
            and answers.revision >= covered[1]
        )

    def check(self, limit: float) -> None:
        """Validates again now. If that stays undecided for `limit` seconds, the guard ends."""
        if self._released or self.reason is not None:
            return
        self._deadline = min(self._deadline, self._guards.now() + limit)
        self.due = math.inf
        self._checks_again = True
        if self._task is not None and self._waits:
            # Not only after the delay of an earlier failure.
            self._task.cancel()
            self._task = None
        if self._task is None:
            self._task = asyncio.create_task(self._run())

    def expire(self) -> None:
        """Ends, unless a new validation says that the expiry was extended."""
        if self.answers is not None:
            self._expired = self.answers.first_to_expire
        self._since = self._guards.now()
        self.expires_at = math.inf
        self.check(EXPIRY_LIMIT)

    def end_undecided(self, error: Exception) -> None:
        reason = UnavailableError("the key could not be checked", code="UNAVAILABLE", reason="UNDECIDED")
        reason.__cause__ = error
        self._end(reason)

    async def _run(self) -> None:
        self._waits = False
        try:
            while self._checks_again and self.reason is None:
                self._checks_again = False
                await self._validate()
        except Exception as error:
            # A stream must not go on unchecked, whatever has failed.
            log.exception("guard failed")
            self.end_undecided(error)
        self._task = None

    async def _validate(self) -> None:
        delay = FIRST_DELAY
        while self.reason is None:
            limit = max(MIN_LIMIT, self._deadline - self._guards.now())
            outcome = await self._guards.validate(self._credential, self._scopes, limit, self._since)
            if isinstance(outcome, Answers):
                self._accept(outcome)
                return
            if isinstance(outcome, Validation):
                self._end(DeniedError(outcome))
            else:
                await self._undecided(outcome, delay)
                delay = min(2 * delay, MAX_DELAY)

    async def _undecided(self, error: Exception, delay: float) -> None:
        """Waits until the next attempt, or ends the guard if there is none."""
        remaining = self._deadline - self._guards.now()
        if self._expired is not None:
            self._end_expired(self._expired)
        elif remaining <= 0 or isinstance(error, ClosedError):
            self.end_undecided(error)
        else:
            self._waits = True
            await self._guards.sleep(min(delay, remaining))
            self._waits = False

    def _accept(self, answers: Answers) -> None:
        self.answers = answers
        self._guards.register(self, answers.subjects)
        if not self._checks_again:
            self._deadline = math.inf
        self.due = self._guards.now() + answers.period
        first = answers.first_to_expire
        if expiry(first) > self._guards.time():
            self._expired = None
            self.expires_at = expiry(first)
            self._guards.expect(self.expires_at)
        elif self._expired is not None:
            self._end_expired(first)
        else:
            # A cached answer may be from before an extension.
            self.expire()

    def _end_expired(self, answer: Validation) -> None:
        verdict = Verdict.SESSION_EXPIRED if isinstance(answer, SessionValidation) else Verdict.EXPIRED
        self._end(DeniedError(replace(answer, verdict=verdict)))

    def _end(self, reason: Reason) -> None:
        if self.reason is None and not self._released:
            self.reason = reason
            if self.on_end is not None:
                self.on_end()
