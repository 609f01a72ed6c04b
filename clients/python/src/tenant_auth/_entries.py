"""Bounded storage of answers with LRU eviction and an index by subject."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from dataclasses import dataclass

from ._marks import Subject
from .results import Validation
from .verdict import Verdict

Digest = bytes


@dataclass(frozen=True, slots=True)
class Entry:
    """A cached answer, with the time at which its request was sent."""

    answer: Validation
    sent_at: float
    subjects: tuple[Subject, ...]


class EntryStore:
    """Entries by digest and by subject. Not thread-safe."""

    def __init__(self, capacity: int) -> None:
        # Negative entries have a tenth of the capacity for themselves, so that a flood of unknown keys does not evict
        # answers in use.
        self._max_negative = capacity // 10
        self._max_positive = capacity - self._max_negative
        self._positive: OrderedDict[Digest, Entry] = OrderedDict()
        self._negative: OrderedDict[Digest, Entry] = OrderedDict()
        self._by_subject: defaultdict[Subject, set[Digest]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._positive) + len(self._negative)

    def get(self, digest: Digest) -> Entry | None:
        for entries in (self._positive, self._negative):
            if digest in entries:
                entries.move_to_end(digest)
                return entries[digest]
        return None

    def put(self, digest: Digest, entry: Entry) -> None:
        self.remove(digest)
        negative = entry.answer.verdict is Verdict.UNKNOWN
        entries, limit = (self._negative, self._max_negative) if negative else (self._positive, self._max_positive)
        entries[digest] = entry
        for subject in entry.subjects:
            self._by_subject[subject].add(digest)
        if len(entries) > limit:
            self.remove(next(iter(entries)))

    def remove(self, digest: Digest) -> None:
        entry = self._positive.pop(digest, None) or self._negative.pop(digest, None)
        for subject in entry.subjects if entry else ():
            digests = self._by_subject[subject]
            digests.discard(digest)
            if not digests:
                del self._by_subject[subject]

    def remove_subject(self, subject: Subject, *, below: int | None = None) -> None:
        """Removes the entries about a subject, or only those below a revision."""
        for digest in tuple(self._by_subject.get(subject, ())):
            entry = self._positive.get(digest) or self._negative[digest]
            if below is None or entry.answer.provenance.revision < below:
                self.remove(digest)

    def clear_negative(self) -> None:
        for digest in tuple(self._negative):
            self.remove(digest)

    def clear(self) -> None:
        self._positive.clear()
        self._negative.clear()
        self._by_subject.clear()
