"""JSON, with a record of repeated members: parsers differ in which one they take."""

from __future__ import annotations

import json
from typing import Any, NoReturn


class Members(dict[str, Any]):
    """A JSON object."""

    def __init__(self, pairs: list[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.repeated: frozenset[str] = frozenset()
        if len(self) < len(pairs):
            names = [name for name, _ in pairs]
            self.repeated = frozenset(name for name in self if names.count(name) > 1)


def load(text: bytes) -> Any:
    """Parses UTF-8. Raises `ValueError`, also for what only some parsers accept: NaN, and deep nesting."""
    try:
        return json.loads(text.decode(), object_pairs_hook=Members, parse_constant=_refuse)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "surrogatepass")


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no JSON")
