"""What was heard about each thing, so that an older answer that comes later is recognized."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import NamedTuple

Subject = Hashable


class Mark(NamedTuple):
    """The news about one thing."""

    revision: int
    """It changed at this revision of the database."""
    epoch: int
    """It changed while this epoch of the near-cache began."""


NO_MARK = Mark(0, 0)


class Marks:
    """The latest news about things, a bounded number of them."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._marks: OrderedDict[Subject, Mark] = OrderedDict()

    def note(self, subject: Subject, *, revision: int = 0, epoch: int = 0) -> int:
        """Takes news in. Returns the revision up to which news was forgotten to make room, mostly 0."""
        old = self._marks.get(subject, NO_MARK)
        self._marks[subject] = Mark(max(old.revision, revision), max(old.epoch, epoch))
        self._marks.move_to_end(subject)
        if len(self._marks) <= self._capacity:
            return 0
        return self._marks.popitem(last=False)[1].revision

    def overtake(self, subjects: Iterable[Subject], *, revision: int, epoch: int) -> bool:
        """Whether an answer about these things, asked for in that epoch, is older than what was heard."""
        marks = (self._marks.get(subject, NO_MARK) for subject in subjects)
        return any(revision < mark.revision or epoch < mark.epoch for mark in marks)

    def clear(self) -> None:
        self._marks.clear()
