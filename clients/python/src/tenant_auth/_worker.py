"""A background thread, and its synchronisation with other threads.

Not generated from `_async_worker`: a thread cannot be cancelled. It ends when it checks `stopped`, so `stop` sets its
signals and waits until its call in flight has ended.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from .clock import Clock


class Signal:
    """Wakes the worker."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        self._event.clear()

    def wait(self, seconds: float | None) -> None:
        """Waits until the signal is set, for at most `seconds`."""
        if seconds is None:
            self._event.wait()
        else:
            self._clock.wait(self._event, seconds)


class Progress:
    """Wakes those who wait for the worker."""

    def __init__(self) -> None:
        self._condition = threading.Condition()

    def notify(self) -> None:
        with self._condition:
            self._condition.notify_all()

    def wait_for(self, reached: Callable[[], bool], timeout: float | None) -> bool:
        """Waits until the condition is met. Returns whether it was met within the timeout."""
        with self._condition:
            return self._condition.wait_for(reached, timeout)


class Worker:
    """Runs a background thread, which ends when `stopped` is set."""

    def __init__(self, clock: Clock) -> None:
        self.stopped = False
        self._clock = clock
        self._signals: list[Signal] = []
        self._thread: threading.Thread | None = None

    def signal(self) -> Signal:
        """Returns a new signal to the thread."""
        signal = Signal(self._clock)
        self._signals.append(signal)
        return signal

    def start(self, run: Callable[[], None]) -> None:
        self._thread = threading.Thread(target=run, name="tenant-auth-usage", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Waits until the thread has ended."""
        self._stop(None)

    def stop_at_exit(self, timeout: float) -> None:
        """Waits until the thread has ended, for at most `timeout` seconds."""
        self._stop(timeout)

    def _stop(self, timeout: float | None) -> None:
        self.stopped = True
        for signal in self._signals:
            signal.set()
        # After a fork, the thread does not exist in the child.
        if self._thread is not None and self._thread.is_alive():
            self._thread.join(timeout)
