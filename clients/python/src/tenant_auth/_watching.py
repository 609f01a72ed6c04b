"""What following the stream of invalidations takes in a task as in a thread."""

from __future__ import annotations

import logging
from collections.abc import Callable

import grpc

from ._retry import backoff

log = logging.getLogger("tenant_auth")

NOT_SERVED_PAUSE = 60.0
"""A service without the stream, or one that does not follow the change log, may be replaced by one that does."""
# Not longer than the silence after which the near-cache stops trusting the stream.
LONGEST_PAUSE = 3.0


class Pauses:
    """How long to wait before the next connection."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._failures = 0

    def succeeded(self) -> None:
        """Something arrived."""
        self._failures = 0

    def after(self, code: str) -> float:
        """A connection ended with this status code."""
        if code in ("UNIMPLEMENTED", "FAILED_PRECONDITION"):
            return NOT_SERVED_PAUSE
        self._failures += 1
        return backoff(self._failures - 1, self._jitter(), longest=LONGEST_PAUSE)


def code(error: grpc.RpcError) -> str:
    return error.code().name
