"""The operations that JSON-RPC messages ask for."""

from __future__ import annotations

from typing import Any

from ._json import Members, load
from ._policy import Kind, Operation
from ._refusals import INVALID_REQUEST, PARSE_ERROR, MessageId, rpc_error

NAMED = {
    "tools/call": (Kind.TOOL, "name"),
    "prompts/get": (Kind.PROMPT, "name"),
    "resources/read": (Kind.RESOURCE, "uri"),
}
"""The methods whose name is also in the header `Mcp-Name`."""
SUBSCRIPTIONS = frozenset({"resources/subscribe", "resources/unsubscribe"})
"""Methods of the handshake revisions."""
REFERENCES = {"ref/prompt": (Kind.PROMPT, "name"), "ref/resource": (Kind.RESOURCE, "uri")}


def parse(body: bytes) -> Any:
    try:
        return load(body)
    except ValueError:
        raise rpc_error(PARSE_ERROR, "the body is not JSON") from None


def messages_in(content: Any) -> list[Members]:
    """Returns the messages of a body: one object, or a batch."""
    messages = content if isinstance(content, list) else [content]
    for message in messages:
        if not isinstance(message, Members):
            raise rpc_error(INVALID_REQUEST, "a message must be an object")
    return messages


def member(part: Any, name: str, message: Members) -> Any:
    """Returns the value of a member, or `None`. Refuses a repeated one: another parser might take the other value."""
    if not isinstance(part, Members):
        return None
    if name in part.repeated:
        raise rpc_error(INVALID_REQUEST, f"the member {name} is repeated", message_id(message))
    return part.get(name)


def message_id(message: Members) -> MessageId:
    """Returns the id of a message, as far as it can be returned to the client."""
    given = message.get("id")
    valid = isinstance(given, str | int | float) and not isinstance(given, bool) and "id" not in message.repeated
    return given if valid else None


def is_request(message: Members) -> bool:
    """Reports whether the client waits for a response. Notifications have no id, and responses have no method."""
    return "method" in message and "id" in message


def method_of(message: Members) -> str | None:
    """Returns the method, or `None` for a response."""
    if "method" not in message:
        return None
    method = member(message, "method", message)
    if not isinstance(method, str):
        raise rpc_error(INVALID_REQUEST, "the method must be text", message_id(message))
    return method


def params_of(message: Members) -> Any:
    return member(message, "params", message)


def operations(message: Members, *, is_handshake: bool) -> list[Operation]:
    """Returns what a message asks for: first its method, then what it names. A response asks for nothing."""
    method = method_of(message)
    if method is None:
        return []
    params = params_of(message)

    def named(kind: Kind, part: Any, field: str) -> Operation:
        name = member(part, field, message)
        return Operation(kind, name if isinstance(name, str) else None)

    found = [Operation(Kind.METHOD, method)]
    if method in NAMED:
        kind, field = NAMED[method]
        found.append(named(kind, params, field))
    elif method in SUBSCRIPTIONS:
        resource = named(Kind.RESOURCE, params, "uri")
        # In a stateless revision, the method does not exist, which the server says.
        found += [resource] if is_handshake or resource.name is not None else []
    elif method == "completion/complete":
        reference = member(params, "ref", message)
        kind_of_reference = member(reference, "type", message)
        known = REFERENCES.get(kind_of_reference) if isinstance(kind_of_reference, str) else None
        # Of an unknown reference it is unclear which section governs it.
        unknown = [Operation(Kind.PROMPT, None), Operation(Kind.RESOURCE, None)]
        found += unknown if known is None else [named(known[0], reference, known[1])]
    elif method == "subscriptions/listen":
        wanted = member(params, "notifications", message)
        resources = member(wanted, "resourceSubscriptions", message)
        if isinstance(resources, list):
            found += [Operation(Kind.RESOURCE, uri if isinstance(uri, str) else None) for uri in resources]
        elif resources is not None:
            found.append(Operation(Kind.RESOURCE, None))
    return found
