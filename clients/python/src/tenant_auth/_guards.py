"""Guards of live streams: each watches the key, the session and the tenant that a stream was admitted for."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any

from . import _methods, _status
from ._core import Core
from ._credential import Credential
from ._guard import Answers, Guard, Outcome
from ._marks import Subject
from ._methods import CacheableCall
from ._near_cache import NearCache, SubjectKind
from .errors import UnavailableError
from .options import NearCache as NearCacheOptions
from .results import Principal, SessionValidation, Validation

if TYPE_CHECKING:
    from ._async_engine import AsyncEngine

CHANGE_LIMIT = 1.0
"""How long a reported change may stay unchecked, in seconds."""
TICK = 1.0
"""Time between looks at all guards, in seconds."""
MAX_CONCURRENT = 64
"""Concurrent validations: a change of everything must not cause as many calls at once as there are streams."""


class Guards:
    """All guards of a client. Belongs to its event loop."""

    def __init__(self, core: Core, engine: AsyncEngine) -> None:
        self._clock = core.clock
        self._engine = engine
        self._timeout = core.options.timeout
        # Without a near cache of the client, one of its own lets the guards of a key share their calls.
        near = core.near_cache
        self._near = NearCache(NearCacheOptions(watch=False), core.clock) if near is None else near
        self._near.listen(self._changed)
        self._guards: set[Guard] = set()
        self._by_subject: defaultdict[Subject, set[Guard]] = defaultdict(set)
        self._free = asyncio.Semaphore(MAX_CONCURRENT)
        self._asking: dict[Hashable, asyncio.Task[Outcome]] = {}
        self._ticker: asyncio.Task[None] | None = None
        self._wakes_at = math.inf

    def __len__(self) -> int:
        return len(self._guards)

    def prepare(self, principal: Principal, scopes: Iterable[str], undecided_for: float) -> Guard:
        """Returns a guard, which must be started, and then released."""
        credential = principal._presented
        if credential is None:
            raise ValueError(
                "principal was made without its key: give one that require_key or require_session has returned"
            )
        required = tuple(sorted({*credential.scopes, *scopes}))
        subjects = self._subjects([principal.key_id], principal.tenant_id, credential.session_id)
        return Guard(self, credential, required, subjects, undecided_for)

    def add(self, guard: Guard, subjects: frozenset[Subject]) -> None:
        """Starts to watch a guard."""
        self._engine.open()
        self._guards.add(guard)
        self.register(guard, subjects)
        if self._ticker is None:
            self._restart_ticker()

    def release(self, guard: Guard) -> None:
        self._guards.discard(guard)
        self.register(guard, frozenset())
        if not self._guards:
            self._stop_ticker()

    def close(self) -> None:
        """Ends all streams, because nothing can be validated any more."""
        for guard in tuple(self._guards):
            guard.end_undecided(_status.closed_error())
        self._stop_ticker()

    def register(self, guard: Guard, subjects: frozenset[Subject]) -> None:
        """Replaces the subjects whose changes a guard follows."""
        for subject in guard.subjects - subjects:
            self._by_subject[subject].discard(guard)
            if not self._by_subject[subject]:
                del self._by_subject[subject]
        for subject in subjects - guard.subjects:
            self._by_subject[subject].add(guard)
        guard.subjects = subjects

    def now(self) -> float:
        return self._clock.monotonic()

    def time(self) -> float:
        return self._clock.time()

    async def sleep(self, seconds: float) -> None:
        await self._clock.sleep(seconds)

    async def validate(self, credential: Credential, scopes: tuple[str, ...], limit: float, since: float) -> Outcome:
        """Returns current answers about the key and the session, or a denial, or why there is none. Guards with the
        same question share it.
        """
        question = (credential.key, credential.session_id, credential.address, scopes, since, self._near.epoch)
        asking = self._asking.get(question)
        if asking is None:
            asking = asyncio.create_task(self._ask(credential, scopes, min(self._timeout, limit), since))
            self._asking[question] = asking
            asking.add_done_callback(lambda _: self._asking.pop(question))
        return await asyncio.shield(asking)

    async def _ask(self, credential: Credential, scopes: tuple[str, ...], timeout: float, since: float) -> Outcome:
        try:
            async with self._free:
                return await self._answers(credential, scopes, timeout, since)
        except Exception as error:
            # Also an error of the user's token function: it must not end the checks without ending the stream.
            return error

    async def _answers(
        self, credential: Credential, scopes: tuple[str, ...], timeout: float, since: float
    ) -> Answers | Validation:
        found: list[Validation] = []
        subjects: frozenset[Subject] = frozenset()
        sent_at = math.inf
        for call in calls_for(credential):
            epoch = self._near.epoch
            # The scopes are those of the key. Without a key, they are those of the session.
            required = scopes if not found else ()
            answer: Validation = await self._engine.decide_cached(self._near, call, required, timeout, since)
            if not answer.is_valid:
                return answer
            about = self._subjects_of(answer, call.session_id)
            if self._near.is_superseded(about, answer.provenance.revision):
                # Of a replica that does not know the change yet.
                raise UnavailableError("the answer is older than a reported change", code="UNAVAILABLE")
            # A change in the meantime may be about this answer, whose subjects the guard did not follow yet.
            known = self._near.epoch == epoch
            sent_at = min(sent_at, self._sent_at(call) if known else -math.inf)
            subjects |= about
            found.append(answer)
        return Answers(found, subjects, sent_at)

    def expect(self, expires_at: float) -> None:
        """Ensures that the ticker runs at this time."""
        if expires_at < self._wakes_at:
            self._restart_ticker()

    def _sent_at(self, call: CacheableCall[Any]) -> float:
        sent_at = self._near.sent_at(self._near.digest(*call.cache_key))
        return -math.inf if sent_at is None else sent_at

    def _subjects_of(self, answer: Validation, session_id: str | None) -> frozenset[Subject]:
        keys = [answer.key_id]
        if isinstance(answer, SessionValidation):
            keys.append(answer.presented_key_id)
        return self._subjects(keys, answer.tenant_id, session_id)

    def _subjects(self, keys: Iterable[str], tenant_id: str, session_id: str | None) -> frozenset[Subject]:
        named = [(SubjectKind.KEY, key) for key in keys]
        named += [(SubjectKind.TENANT, tenant_id), (SubjectKind.SESSION, session_id or "")]
        return frozenset(self._near.subject(kind, name) for kind, name in named if name)

    def _changed(self, subject: Subject | None) -> None:
        for guard in tuple(self._guards if subject is None else self._by_subject.get(subject, ())):
            guard.check(CHANGE_LIMIT)

    def _stop_ticker(self) -> None:
        if self._ticker is not None:
            self._ticker.cancel()
            self._ticker = None

    def _restart_ticker(self) -> None:
        self._stop_ticker()
        self._ticker = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while True:
            next_expiry = min((guard.expires_at for guard in self._guards), default=math.inf)
            delay = min(TICK, max(0.0, next_expiry - self.time()))
            self._wakes_at = self.time() + delay
            await self.sleep(delay)
            self._tick()

    def _tick(self) -> None:
        covered = self._near.covered_since()
        if covered is None:
            self._engine.check_watch()
        now, time = self.now(), self.time()
        for guard in tuple(self._guards):
            if time >= guard.expires_at:
                guard.expire()
            elif now >= guard.due and not guard.is_covered(covered):
                guard.check(guard.undecided_for)


def calls_for(credential: Credential) -> list[CacheableCall[Any]]:
    """Returns the validations of a key, and of a session that is used with it."""
    key, session_id, address = credential.key, credential.session_id, credential.address
    calls: list[CacheableCall[Any]] = [] if key is None else [_methods.validate_key(key, address)]
    if session_id is not None:
        calls.append(_methods.validate_session(session_id, key, address))
    return calls
