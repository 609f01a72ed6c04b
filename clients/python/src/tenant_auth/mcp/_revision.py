"""The revision of the protocol that a request uses, and the headers in which stateless revisions name an operation."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from dataclasses import dataclass

from ._json import Members
from ._messages import NAMED, is_request, member, message_id, method_of, params_of
from ._policy import Kind, Operation
from ._refusals import HEADER_MISMATCH, INVALID_REQUEST, RefusedError, rpc_error

VERSION_HEADER = b"mcp-protocol-version"
METHOD_HEADER = b"mcp-method"
NAME_HEADER = b"mcp-name"
SESSION_HEADER = b"mcp-session-id"
LAST_EVENT_HEADER = b"last-event-id"
HANDSHAKE_REVISIONS = frozenset({"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"})
"""The revisions with sessions. Every other value means a stateless revision, because later ones have none."""
VERSION_MEMBER = "io.modelcontextprotocol/protocolVersion"
ENCODED = re.compile(r"=\?base64\?(.*)\?=", re.DOTALL)
PLAIN = re.compile(r"[\t\x20-\x7e]*")

Headers = Iterable[tuple[bytes, bytes]]


def single(headers: Headers, name: bytes) -> str | None:
    """Returns the value of a header, or `None` if it is missing. Refuses a repeated one."""
    found = [value.decode("latin-1") for given, value in headers if given.lower() == name]
    if len(found) > 1:
        raise rpc_error(HEADER_MISMATCH, f"the header {name.decode()} is repeated")
    return found[0] if found else None


def without(headers: Headers, *names: bytes) -> list[tuple[bytes, bytes]]:
    return [(name, value) for name, value in headers if name.lower() not in names]


def decoded(value: str) -> str | None:
    """Returns the text of `Mcp-Name`, or `None` if it is malformed."""
    match = ENCODED.fullmatch(value)
    if match is None:
        return value if PLAIN.fullmatch(value) else None
    try:
        data = base64.b64decode(match[1], validate=True)
        # Only one encoding of a text is accepted.
        return data.decode() if base64.b64encode(data).decode() == match[1] else None
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class RoutingHeaders:
    """What the headers of a request of a stateless revision say about its body."""

    version: str
    method: str | None
    name: str | None
    """The decoded `Mcp-Name`, if the method needs one."""

    @classmethod
    def of(cls, version: str, headers: Headers) -> RoutingHeaders:
        method, raw = single(headers, METHOD_HEADER), single(headers, NAME_HEADER)
        name = decoded(raw) if raw is not None and method in NAMED else None
        if raw is not None and name is None and method in NAMED:
            raise rpc_error(HEADER_MISMATCH, "the header mcp-name is malformed")
        return cls(version, method, name)

    @property
    def operations(self) -> list[Operation]:
        """The operations that the headers name."""
        if self.method is None:
            return []
        found = [Operation(Kind.METHOD, self.method)]
        if self.name is not None:
            found.append(Operation(NAMED[self.method][0], self.name))
        return found

    def check(self, content: object) -> Members:
        """Returns the message if it is what the headers say. A notification may lack the headers."""
        if not isinstance(content, Members):
            raise rpc_error(INVALID_REQUEST, "the body must be one message")
        method = method_of(content)
        if method is None and self.method is None:
            raise rpc_error(INVALID_REQUEST, "the body must be a request or a notification", message_id(content))
        if self.method is None and is_request(content):
            raise mismatch(content, "the header mcp-method is missing")
        if self.method is not None and self.method != method:
            raise mismatch(content, "the header mcp-method is not the method of the body")
        params = params_of(content)
        if method in NAMED:
            self._check_name(content, params, NAMED[method][1])
        meta = member(params, "_meta", content)
        version = member(meta, VERSION_MEMBER, content)
        if isinstance(meta, Members) and VERSION_MEMBER in meta and version != self.version:
            raise mismatch(content, "the header mcp-protocol-version is not the revision of the body")
        return content

    def _check_name(self, message: Members, params: object, field: str) -> None:
        if self.name is not None:
            if member(params, field, message) != self.name:
                raise mismatch(message, f"the header mcp-name is not params.{field} of the body")
        elif is_request(message):
            raise mismatch(message, "the header mcp-name is missing")


def mismatch(message: Members, reason: str) -> RefusedError:
    return rpc_error(HEADER_MISMATCH, f"Header mismatch: {reason}", message_id(message))
