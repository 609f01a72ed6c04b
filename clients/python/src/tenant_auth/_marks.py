"""Change marks: the last known change of each subject, to recognise older answers that arrive later."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from typing import NamedTuple

Subject = Hashable


class ChangeMark(NamedTuple):
    """The last known change of one subject."""

    revision: int
    """The database revision of the change."""
    epoch: int
    """The epoch of the near cache that the change started."""


NO_CHANGE = ChangeMark(0, 0)


class ChangeMarks:
    """The change marks of a limited number of subjects."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._marks: OrderedDict[Subject, ChangeMark] = OrderedDict()

    def record(self, subject: Subject, *, revision: int = 0, epoch: int = 0) -> int:
        """Records a change. Returns the highest revision whose mark was evicted; usually 0."""
        old = self._marks.get(subject, NO_CHANGE)
        self._marks[subject] = ChangeMark(max(old.revision, revision), max(old.epoch, epoch))
        self._marks.move_to_end(subject)
        if len(self._marks) <= self._capacity:
            return 0
        return self._marks.popitem(last=False)[1].revision

    def is_superseded(self, subjects: Iterable[Subject], *, revision: int, epoch: int) -> bool:
        """Reports whether an answer about these subjects, requested in that epoch, is older than a known change."""
        marks = (self._marks.get(subject, NO_CHANGE) for subject in subjects)
        return any(revision < mark.revision or epoch < mark.epoch for mark in marks)

    def clear(self) -> None:
        self._marks.clear()
