"""The last events of a stream of a request whose key may no longer be used."""

from __future__ import annotations

from .._guarded_response import LastEvents
from .._interruption import Reason
from .._stream_end import code_of, detail_of
from ._body import BodyTap
from ._messages import is_request, message_id, messages_in, parse
from ._refusals import STREAM_ENDED, RefusedError, RpcError


def rpc_errors(tap: BodyTap) -> LastEvents:
    """Answers the requests of a body with JSON-RPC errors."""

    def events(reason: Reason) -> bytes:
        try:
            messages = messages_in(parse(tap.body))
        except RefusedError:
            return b""
        ids = [message_id(message) for message in messages if is_request(message)]
        errors = [RpcError(STREAM_ENDED, detail_of(reason), one, {"code": code_of(reason)}) for one in ids]
        return b"".join(b"event: message\ndata: " + error.body + b"\n\n" for error in errors)

    return events


def no_events(_reason: Reason) -> bytes:
    """Ends a stream that answers no request. The next request of the client is rejected."""
    return b""
