"""The near cache: which answers may be reused, and for how long. Does no I/O; thread-safe."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum

from ._entries import Digest, Entry, EntryStore
from ._marks import ChangeMarks, Subject
from ._stream import StreamState
from .clock import Clock
from .options import NearCache as NearCacheOptions
from .results import Provenance, SessionValidation, Validation, WatchState
from .verdict import Source


class SubjectKind(Enum):
    """The kind of subject of an invalidation."""

    KEY = "key"
    TENANT = "tenant"
    SESSION = "session"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """State of the near cache just before a request is sent."""

    sent_at: float
    epoch: int


class NearCache:
    """Cached answers about keys and sessions, with the invalidations of the watch stream."""

    def __init__(self, options: NearCacheOptions, clock: Clock) -> None:
        self._options = options
        self._clock = clock
        # Keys are stored as digests under a random secret of the process, so a memory dump cannot be used to test
        # candidates.
        self._secret = secrets.token_bytes(32)
        self._lock = threading.Lock()
        self._entries = EntryStore(options.max_entries)
        self._marks = ChangeMarks(capacity=max(1_000, options.max_entries))
        self._stream = StreamState()
        self._listener: Callable[[Subject | None], None] | None = None
        self._epoch = 0
        self._oldest_epoch = 0
        self._negative_epoch = 0

    def __len__(self) -> int:
        with self._lock:
            return len(self._entries)

    def digest(self, *texts: str) -> Digest:
        """Returns the digest of a key, or of a session id and a key."""
        mac = hmac.new(self._secret, digestmod=hashlib.sha256)
        for text in texts:
            data = text.encode("utf-8", "surrogatepass")
            mac.update(len(data).to_bytes(8, "big"))
            mac.update(data)
        return mac.digest()

    @property
    def epoch(self) -> int:
        """Changes with every invalidation. A request after a change must not share an answer from before it."""
        return self._epoch

    def snapshot(self) -> Snapshot:
        with self._lock:
            return Snapshot(self._clock.monotonic(), self._epoch)

    def get(self, digest: Digest) -> Validation | None:
        """Returns an answer that may be used now."""
        now = self._clock.monotonic()
        with self._lock:
            entry = self._entries.get(digest)
            if entry is None:
                return None
            if self._remaining(entry, now) <= 0:
                self._entries.remove(digest)
                return None
        provenance = entry.answer.provenance
        passed = now - entry.sent_at
        # The caller does not see invalidations, so only the remaining `cacheable_for` is passed on.
        rest = max(0.0, provenance.cacheable_for - passed)
        near = Provenance(
            source=Source.NEAR, age=provenance.age + passed, revision=provenance.revision, cacheable_for=rest
        )
        return replace(entry.answer, provenance=near)

    def put(self, digest: Digest, snapshot: Snapshot, answer: Validation, session_id: str | None = None) -> None:
        """Stores an answer, unless it is not cacheable or a newer change is known."""
        provenance = answer.provenance
        if provenance.cacheable_for <= 0 and provenance.cacheable_while_watched <= 0:
            return
        subjects = self._subjects(answer, session_id)
        entry = Entry(answer, snapshot.sent_at, subjects)
        now = self._clock.monotonic()
        with self._lock:
            if snapshot.epoch < self._oldest_epoch:
                return
            if not answer.key_id and not answer.tenant_id and snapshot.epoch < self._negative_epoch:
                return
            if self._marks.is_superseded(subjects, revision=provenance.revision, epoch=snapshot.epoch):
                return
            old = self._entries.get(digest)
            newer = old is not None and old.answer.provenance.revision > provenance.revision
            if old is not None and newer and self._remaining(old, now) > 0:
                return
            self._entries.put(digest, entry)

    def heartbeat(self, revision: int) -> None:
        with self._lock:
            self._stream.record_event(revision, self._clock.monotonic())

    def invalidate(self, kind: SubjectKind, name: str, revision: int) -> None:
        """Applies an invalidation."""
        subject = self.subject(kind, name)
        with self._lock:
            self._stream.record_event(revision, self._clock.monotonic())
            self._epoch += 1
            self._entries.remove_subject(subject, below=revision)
            evicted = self._marks.record(subject, revision=revision)
            # Without its mark, an old answer about this subject would look current. Answers this old get no watched
            # lifetime.
            self._stream.min_revision = max(self._stream.min_revision, evicted)
        self._notify(subject)

    def start_over(self, revision: int) -> None:
        """Clears the cache, including requests in flight, because it is unknown what has changed."""
        with self._lock:
            self._stream.start_over(revision, self._clock.monotonic())
            self._epoch += 1
            self._oldest_epoch = self._epoch
            self._entries.clear()
            self._marks.clear()
        self._notify(None)

    def invalidate_local(self, changed: Iterable[tuple[SubjectKind, str]]) -> None:
        """Applies a change made by this process, whose revision is unknown. An empty list means that anything may have
        changed.
        """
        named = [self.subject(kind, name) for kind, name in changed]
        with self._lock:
            self._epoch += 1
            if not named:
                self._oldest_epoch = self._epoch
                self._entries.clear()
            for subject in named:
                self._entries.remove_subject(subject)
                evicted = self._marks.record(subject, epoch=self._epoch)
                self._stream.min_revision = max(self._stream.min_revision, evicted)
            # Negative entries have no ids, and what they describe may exist now.
            self._entries.clear_negative()
            self._negative_epoch = self._epoch
        for one in named or [None]:
            self._notify(one)

    def listen(self, listener: Callable[[Subject | None], None]) -> None:
        """Calls this function after each invalidation, with its subject. `None`: anything may have changed."""
        self._listener = listener

    def sent_at(self, digest: Digest) -> float | None:
        """Returns when the request for a cached answer was sent."""
        with self._lock:
            entry = self._entries.get(digest)
            return None if entry is None else entry.sent_at

    def covered_since(self) -> tuple[float, int] | None:
        """Returns the time and the revision from which on answers are current until an invalidation, or `None` while
        the stream is not live.
        """
        with self._lock:
            since = self._stream.continuous_since
            live = self._stream.is_live(self._clock.monotonic())
            return (since, self._stream.min_revision) if live and since is not None else None

    def has_changed(self, key_id: str, tenant_id: str, revision: int) -> bool:
        """Reports whether the stream has reported a change of the key or of its tenant after this revision."""
        return self.is_superseded(
            (self.subject(SubjectKind.KEY, key_id), self.subject(SubjectKind.TENANT, tenant_id)), revision
        )

    def is_superseded(self, subjects: Iterable[Subject], revision: int) -> bool:
        """Reports whether the stream has reported a change of one of the subjects after this revision."""
        with self._lock:
            # Only revisions are compared: of a change made by this process it is unknown whether it was made before.
            return self._marks.is_superseded(subjects, revision=revision, epoch=self._epoch)

    def is_outdated(self, answer: Validation, session_id: str | None) -> bool:
        """Reports whether the stream has reported a change of what an answer is about, after its revision."""
        return self.is_superseded(self._subjects(answer, session_id), answer.provenance.revision)

    def _notify(self, subject: Subject | None) -> None:
        # Without the lock, because the listener may call this cache.
        if self._listener is not None:
            self._listener(subject)

    def watch_opening(self) -> int:
        """Records that a stream is being opened. Returns the revision to resume from."""
        with self._lock:
            return self._stream.connection_opening(self._clock.monotonic())

    def watch_closed(self) -> None:
        with self._lock:
            self._stream.connection_closed()

    def watch_stalled(self) -> bool:
        """Reports whether the stream is open and has been without an event for too long."""
        with self._lock:
            return self._stream.is_stalled(self._clock.monotonic())

    def watch_state(self) -> WatchState:
        with self._lock:
            return WatchState(live=self._stream.is_live(self._clock.monotonic()), revision=self._stream.revision)

    def _remaining(self, entry: Entry, now: float) -> float:
        """Returns the remaining lifetime of an entry in seconds."""
        provenance = entry.answer.provenance
        remaining = provenance.cacheable_for
        if self._stream.covers(entry.sent_at, provenance.revision, now):
            limit = self._options.watched_for
            watched = provenance.cacheable_while_watched
            remaining = max(remaining, watched if limit is None else min(watched, limit))
        return entry.sent_at + remaining - now

    def _subjects(self, answer: Validation, session_id: str | None) -> tuple[Subject, ...]:
        named = [
            (SubjectKind.KEY, answer.key_id),
            (SubjectKind.TENANT, answer.tenant_id),
            (SubjectKind.SESSION, session_id),
        ]
        if isinstance(answer, SessionValidation):
            named.append((SubjectKind.KEY, answer.presented_key_id))
        return tuple(self.subject(kind, name) for kind, name in named if name)

    def subject(self, kind: SubjectKind, name: str) -> Subject:
        # A session id is stored as a digest, like a key, because it grants access together with a key.
        return (kind, self.digest(name) if kind is SubjectKind.SESSION else name)
