"""Follows the stream of invalidations in a thread."""

from __future__ import annotations

import threading

import grpc

from . import _watching
from ._core import Core, take_in
from ._near_cache import NearCache
from ._watching import Pauses
from .proto import watch_pb2
from .raw import Raw


class Watch:
    """Keeps a near-cache informed until it is closed."""

    def __init__(self, core: Core, near: NearCache, raw: Raw) -> None:
        self._core = core
        self._near = near
        self._raw = raw
        self._pauses = Pauses(core.options.jitter)
        self._lock = threading.Lock()
        self._call: grpc.Call | None = None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="tenant-auth-watch", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Ends a connection that hangs, so that another one is made. Whoever relies on the stream asks for this."""
        if self._near.watch_hangs():
            self._cancel()

    def close(self) -> None:
        self._stop.set()
        self._cancel()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            failure = self._follow()
            self._near.watch_closed()
            if self._core.clock.wait(self._stop, self._pauses.after(failure)):
                return

    def _follow(self) -> str:
        """One connection, from its opening to its end; why it ended."""
        request = watch_pb2.WatchRequest(resume_after_revision=self._near.watch_opening())
        try:
            call = self._raw.watch.Watch(request, metadata=self._core.metadata())
            with self._lock:
                self._call = call
            if self._stop.is_set():
                # It was closed just before there was a call to cancel.
                call.cancel()
            for event in call:
                self._pauses.succeeded()
                take_in(self._near, event)
            return "OK"
        except grpc.RpcError as error:
            return _watching.code(error)
        except Exception:
            _watching.log.exception("the stream of invalidations cannot be followed")
            return "UNKNOWN"
        finally:
            self._cancel()
            with self._lock:
                self._call = None

    def _cancel(self) -> None:
        with self._lock:
            if self._call is not None:
                self._call.cancel()
