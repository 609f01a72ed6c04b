"""How a guarded stream ends for the customer."""

from __future__ import annotations

import json

from ._http import rejection_of
from ._interruption import Reason
from .results import DeniedError

# WebSocket close codes: 1008 policy violation, 1013 try again later.
CLOSE_DENIED = 1008
CLOSE_LATER = 1013
EVENT_ENDS = (b"\n\n", b"\r\r", b"\r\n\r\n")


def code_of(reason: Reason) -> str:
    """Returns the verdict, or `UNDECIDED`."""
    return reason.verdict.name if isinstance(reason, DeniedError) else "UNDECIDED"


def detail_of(reason: Reason) -> str:
    return rejection_of(reason).detail


def close_code_of(reason: Reason) -> int:
    return CLOSE_DENIED if isinstance(reason, DeniedError) else CLOSE_LATER


def end_event(reason: Reason) -> bytes:
    """Returns the last of the Server-Sent Events."""
    data = json.dumps({"code": code_of(reason), "detail": detail_of(reason)})
    return f"event: end\ndata: {data}\n\n".encode()


class EventBoundary:
    """Knows whether a stream of Server-Sent Events is between two events, where another one may follow."""

    def __init__(self) -> None:
        self._tail = b"\n\n"

    def sent(self, data: bytes) -> None:
        self._tail = (self._tail + data)[-4:]

    @property
    def reached(self) -> bool:
        return self._tail.endswith(EVENT_ENDS)
