"""Lists of tools, resources and prompts with only what the key may use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ._json import Members
from ._messages import message_id, method_of
from ._policy import Kind, NotInPolicyError, Operation, Policy

LISTS = {
    "tools/list": ("tools", Kind.TOOL, "name", "tools/call"),
    "prompts/list": ("prompts", Kind.PROMPT, "name", "prompts/get"),
    "resources/list": ("resources", Kind.RESOURCE, "uri", "resources/read"),
    "resources/templates/list": ("resourceTemplates", Kind.RESOURCE, "uriTemplate", "resources/read"),
}
"""The member of the result, the kind and the name of its items, and the method that uses them."""


class ListFilter:
    """Removes items from the lists of one response.

    `requests`: the lists that the response may contain, by request id. `None`: any, because the response may repeat
    those to earlier requests.
    """

    def __init__(self, policy: Policy, scopes: Iterable[str], requests: dict[str, str] | None) -> None:
        self._policy = policy
        self._scopes = frozenset(scopes)
        self._requests = requests

    def apply(self, content: Any) -> bool:
        """Filters the lists in a message or a batch, in place. Returns whether anything may have changed."""
        messages = content if isinstance(content, list) else [content]
        changed = [self._apply_to_message(message) for message in messages]
        return any(changed)

    def _apply_to_message(self, message: Any) -> bool:
        result = message.get("result") if isinstance(message, dict) else None
        if not isinstance(result, dict):
            return False
        methods = LISTS if self._requests is None else (self._requests.get(str(message.get("id"))),)
        lists = [LISTS[method] for method in methods if method is not None and LISTS[method][0] in result]
        for field, kind, name, method in lists:
            items = result[field] if isinstance(result[field], list) else []
            result[field] = [item for item in items if self._may_use(kind, item, name, method)]
            if "cacheScope" in result:
                # The list depends on the key now.
                result["cacheScope"] = "private"
        return bool(lists)

    def _may_use(self, kind: Kind, item: Any, field: str, method: str) -> bool:
        name = item.get(field) if isinstance(item, dict) else None
        if not isinstance(name, str):
            return False
        try:
            rules = self._policy.rules([Operation(kind, name), Operation(Kind.METHOD, method)])
        except NotInPolicyError:
            return False
        return all(self._scopes.issuperset(rule.scopes) for rule in rules)


def lists_requested(messages: Iterable[Members]) -> dict[str, str]:
    """Returns the list methods that these messages call, by request id."""
    methods = [(message_id(message), method_of(message)) for message in messages]
    return {str(given): method for given, method in methods if method in LISTS and given is not None}
