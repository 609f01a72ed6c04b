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


class Shelf:
    """Entries by digest and by subject. Not thread-safe."""

    def __init__(self, capacity: int) -> None:
        # Negative entries have a tenth of the capacity for themselves, so that a flood of unknown keys does not evict
        # answers in use.
        self._most_absent = capacity // 10
        self._most_known = capacity - self._most_absent
        self._known: OrderedDict[Digest, Entry] = OrderedDict()
        self._absent: OrderedDict[Digest, Entry] = OrderedDict()
        self._by_subject: defaultdict[Subject, set[Digest]] = defaultdict(set)

    def __len__(self) -> int:
        return len(self._known) + len(self._absent)

    def get(self, digest: Digest) -> Entry | None:
        for entries in (self._known, self._absent):
            if digest in entries:
                entries.move_to_end(digest)
                return entries[digest]
        return None

    def put(self, digest: Digest, entry: Entry) -> None:
        self.drop(digest)
        absent = entry.answer.verdict is Verdict.UNKNOWN
        entries, most = (self._absent, self._most_absent) if absent else (self._known, self._most_known)
        entries[digest] = entry
        for subject in entry.subjects:
            self._by_subject[subject].add(digest)
        if len(entries) > most:
            self.drop(next(iter(entries)))

    def drop(self, digest: Digest) -> None:
        entry = self._known.pop(digest, None) or self._absent.pop(digest, None)
        for subject in entry.subjects if entry else ():
            digests = self._by_subject[subject]
            digests.discard(digest)
            if not digests:
                del self._by_subject[subject]

    def drop_about(self, subject: Subject, *, below: int | None = None) -> None:
        """Removes the entries about a subject, or only those below a revision."""
        for digest in tuple(self._by_subject.get(subject, ())):
            entry = self._known.get(digest) or self._absent[digest]
            if below is None or entry.answer.provenance.revision < below:
                self.drop(digest)

    def clear_absent(self) -> None:
        for digest in tuple(self._absent):
            self.drop(digest)

    def clear(self) -> None:
        self._known.clear()
        self._absent.clear()
        self._by_subject.clear()
