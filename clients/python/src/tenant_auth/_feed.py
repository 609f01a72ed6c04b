"""Whether invalidations arrive without a break: what the near-cache's longer times rest on."""

from __future__ import annotations

SILENCE = 3.0
"""A stream that says nothing for longer than this is dead."""


class Feed:
    """The state of the stream of invalidations, whichever connection carries it."""

    def __init__(self) -> None:
        self.revision = 0
        """The last one handled; 0: none, so that a stream starts with what happens from then on."""
        self.unbroken_since: float | None = None
        """Since when nothing can have been missed."""
        self.floor = 0
        """What was read at a lower revision may be older than the stream's beginning."""
        self._last_heard: float | None = None
        self._opened_at: float | None = None
        self._starts_anew = True

    def opening(self, now: float) -> int:
        """A connection is being made; the revision to go on from."""
        self._opened_at = now
        self._starts_anew = self.revision == 0
        return self.revision

    def closed(self) -> None:
        """The connection is gone. That is no break yet: the next one may go on in time."""
        self._opened_at = None

    def heard(self, revision: int, now: float) -> None:
        """Anything but a start over arrived."""
        if self._starts_anew:
            # From now on nothing is missed. What was read before this revision may have missed something already.
            self.unbroken_since = now
            self.floor = max(self.floor, revision)
            self._starts_anew = False
        elif not self.alive(now):
            self.unbroken_since = now
        self._last_heard = now
        self.revision = max(self.revision, revision)

    def started_over(self, revision: int, now: float) -> None:
        """The log does not go on: whatever the revision was, it is this one now, even if it is lower."""
        self.unbroken_since = now
        self.floor = revision
        self.revision = revision
        self._last_heard = now
        self._starts_anew = False

    def alive(self, now: float) -> bool:
        """Whether the stream said something lately."""
        return self._last_heard is not None and now - self._last_heard <= SILENCE

    def covers(self, sent_at: float, revision: int, now: float) -> bool:
        """Whether an answer to a question sent then would have been invalidated had it changed since."""
        return (
            self.alive(now)
            and self.unbroken_since is not None
            and self.unbroken_since <= sent_at
            and revision >= self.floor
        )

    def hangs(self, now: float) -> bool:
        """Whether there is a connection that should have said something: it must be made anew."""
        if self._opened_at is None:
            return False
        heard = self._opened_at if self._last_heard is None else max(self._opened_at, self._last_heard)
        return now - heard > SILENCE
