"""Reconnect delays and logging of the watch stream."""

from __future__ import annotations

import logging
from collections.abc import Callable

import grpc

from ._retry import backoff

log = logging.getLogger("tenant_auth")

NOT_SERVED_DELAY = 60.0
"""Delay if the service does not offer the stream. It may be replaced by a version that does."""
# Not longer than the liveness timeout, after which the near cache no longer relies on the stream.
MAX_DELAY = 3.0


class ReconnectDelays:
    """The delay before the next connection."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._failures = 0

    def succeeded(self) -> None:
        """Records that an event has arrived."""
        self._failures = 0

    def after(self, code: str) -> float:
        """Returns the delay after a connection that ended with this status code."""
        if code in ("UNIMPLEMENTED", "FAILED_PRECONDITION"):
            return NOT_SERVED_DELAY
        self._failures += 1
        return backoff(self._failures - 1, self._jitter(), longest=MAX_DELAY)


def code(error: grpc.RpcError) -> str:
    return error.code().name
