"""The state of the watch stream, on which the longer cache lifetime depends."""

from __future__ import annotations

LIVENESS_TIMEOUT = 3.0
"""A stream without an event for longer than this, in seconds, counts as dead."""


class StreamState:
    """The state of the watch stream, across connections."""

    def __init__(self) -> None:
        self.revision = 0
        """The last revision that was handled; 0 for none: the stream then starts with the changes made from now on."""
        self.continuous_since: float | None = None
        """Time since when no change can have been missed."""
        self.min_revision = 0
        """Answers with a lower revision may be older than the start of the stream."""
        self._last_event_at: float | None = None
        self._opened_at: float | None = None
        self._starts_new_period = True

    def connection_opening(self, now: float) -> int:
        """Records that a connection is being opened. Returns the revision to resume from."""
        self._opened_at = now
        self._starts_new_period = self.revision == 0
        return self.revision

    def connection_closed(self) -> None:
        """Records that the connection has ended. That is no gap yet: the next connection may resume in time."""
        self._opened_at = None

    def record_event(self, revision: int, now: float) -> None:
        """Records an event other than START_OVER."""
        if self._starts_new_period:
            # From now on no change is missed. Answers below this revision may have missed one already.
            self.continuous_since = now
            self.min_revision = max(self.min_revision, revision)
            self._starts_new_period = False
        elif not self.is_live(now):
            self.continuous_since = now
        self._last_event_at = now
        self.revision = max(self.revision, revision)

    def start_over(self, revision: int, now: float) -> None:
        """Records a START_OVER event: the revision is replaced, even by a lower one, because the change log is not
        continuous.
        """
        self.continuous_since = now
        self.min_revision = revision
        self.revision = revision
        self._last_event_at = now
        self._starts_new_period = False

    def is_live(self, now: float) -> bool:
        """Reports whether an event arrived within the liveness timeout."""
        return self._last_event_at is not None and now - self._last_event_at <= LIVENESS_TIMEOUT

    def covers(self, sent_at: float, revision: int, now: float) -> bool:
        """Reports whether a change since `sent_at` would have invalidated an answer to a request sent then."""
        return (
            self.is_live(now)
            and self.continuous_since is not None
            and self.continuous_since <= sent_at
            and revision >= self.min_revision
        )

    def is_stalled(self, now: float) -> bool:
        """Reports whether the current connection has been without an event for too long and must be replaced."""
        if self._opened_at is None:
            return False
        last = self._opened_at if self._last_event_at is None else max(self._opened_at, self._last_event_at)
        return now - last > LIVENESS_TIMEOUT
