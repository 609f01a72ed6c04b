"""Refused requests: problem details, and JSON-RPC errors where the MCP specification asks for them."""

from __future__ import annotations

from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from .._http import CHALLENGE, Rejection, Reply
from ._json import dump

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
INVALID_PARAMS = -32602
HEADER_MISMATCH = -32020
STREAM_ENDED = -32001
"""The stream ends because the key may no longer be used."""

MessageId = str | int | float | None

NOT_IN_POLICY = Rejection(HTTPStatus.FORBIDDEN, "NOT_IN_POLICY", "The server's policy does not offer this operation.")
TOO_LARGE = Rejection(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "BODY_TOO_LARGE", "The body of the request is too large.")
NOT_FOUND = Rejection(HTTPStatus.NOT_FOUND, "NOT_FOUND", "There is nothing at this address.")
USAGE_NOT_RECORDED = Rejection(
    HTTPStatus.SERVICE_UNAVAILABLE, "UNDECIDED", "The usage could not be recorded now.", {"Retry-After": "1"}
)
UNFILTERED = Rejection(HTTPStatus.BAD_GATEWAY, "BAD_LIST", "The server's list cannot be filtered.")


class RefusedError(Exception):
    """The request is refused with this reply."""

    def __init__(self, reply: Reply) -> None:
        super().__init__(f"refused with {reply.status}")
        self.reply = reply


@dataclass(frozen=True, slots=True)
class RpcError:
    """A JSON-RPC error response."""

    code: int
    message: str
    message_id: MessageId = None
    data: dict[str, Any] | None = None
    status: HTTPStatus = HTTPStatus.BAD_REQUEST

    @property
    def body(self) -> bytes:
        error = {"code": self.code, "message": self.message} | ({} if self.data is None else {"data": self.data})
        return dump({"jsonrpc": "2.0", "id": self.message_id, "error": error})

    @property
    def headers(self) -> dict[str, str]:
        return {"Content-Type": "application/json", "Cache-Control": "no-store"}


def rpc_error(code: int, message: str, message_id: MessageId = None) -> RefusedError:
    return RefusedError(RpcError(code, message, message_id))


def insufficient_scope(required: set[str], held: set[str]) -> Rejection:
    """Returns the rejection of a key that lacks scopes. Its challenge has all scopes that the request needs."""
    scopes = " ".join(sorted(required))
    challenge = {CHALLENGE: f'Bearer error="insufficient_scope", scope="{scopes}"'}
    missing = tuple(sorted(required - held))
    return Rejection(HTTPStatus.FORBIDDEN, "INSUFFICIENT_SCOPE", "The key lacks a required scope.", challenge, missing)
