"""The policy table: which scopes the operations of an MCP server need, and what they record as usage."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from .. import _checks
from .._conditions import MAX_SCOPES, are_valid_scopes
from ..usage import MAX_QUANTITY, METRIC
from ._json import Members, load


class Kind(StrEnum):
    """The kind of an operation, which is also its section of the policy."""

    TOOL = "tools"
    RESOURCE = "resources"
    PROMPT = "prompts"
    METHOD = "methods"


@dataclass(frozen=True, slots=True)
class Operation:
    """What a message asks for."""

    kind: Kind
    name: str | None
    """`None`: the message has no valid name."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one operation records."""

    metric: str
    quantity: int = 1


@dataclass(frozen=True, slots=True)
class Rule:
    """An entry of the policy."""

    scopes: tuple[str, ...] = ()
    usage: Usage | None = None


FREE = Rule()


class NotInPolicyError(Exception):
    """The policy has no entry for an operation."""


class NoNameError(Exception):
    """An operation that the policy governs has no valid name."""


class Policy:
    """A policy table, with the sections `tools`, `resources`, `prompts` and `methods`.

    `Policy({"tools": {"refund": {"scopes": ["orders:write"], "usage": {"metric": "mcp.tool_calls"}}, "report_*": {}}})`

    A name that ends in `*` is a prefix. An exact name wins, then the longest prefix. Without the section of a kind,
    every valid key may use that kind; with it, names that match no entry are refused. Entries of `methods` apply in
    addition, and a method without an entry needs only a valid key.

    Raises `ValueError` or `TypeError` for an invalid table, with the path of the mistake.
    """

    def __init__(self, table: Mapping[str, Any]) -> None:
        _object("policy", table, {kind.value for kind in Kind})
        self._sections = {Kind(name): Section(f"policy.{name}", entries) for name, entries in table.items()}

    @classmethod
    def from_file(cls, path: str | os.PathLike[str]) -> Policy:
        """Reads a table from a JSON file. Raises `OSError` if it cannot be read."""
        text = Path(path).read_bytes()
        try:
            table = load(text)
        except ValueError as error:
            raise ValueError(f"policy file {os.fspath(path)} is not JSON: {error}") from None
        return cls(table)

    @property
    def scopes(self) -> tuple[str, ...]:
        """All scopes that the policy names, sorted."""
        return tuple(sorted({scope for rule in self._rules() for scope in rule.scopes}))

    @property
    def records_usage(self) -> bool:
        """Whether any entry has a usage metric."""
        return any(rule.usage is not None for rule in self._rules())

    def rules(self, operations: Iterable[Operation]) -> list[Rule]:
        """Returns the entries that apply. Raises `NoNameError` or `NotInPolicyError`."""
        governed = [(self._sections[one.kind], one) for one in operations if one.kind in self._sections]
        if any(one.name is None for _, one in governed):
            raise NoNameError
        rules = [section.rule(str(one.name)) for section, one in governed]
        for rule, (_, one) in zip(rules, governed, strict=True):
            if rule is None and one.kind is not Kind.METHOD:
                raise NotInPolicyError
        return [rule for rule in rules if rule is not None]

    def _rules(self) -> list[Rule]:
        return [rule for section in self._sections.values() for rule in section.all]


class Section:
    """The entries for one kind of operation."""

    def __init__(self, path: str, entries: object) -> None:
        rules = {name: _rule(f"{path}.{name}", entry) for name, entry in _object(path, entries).items()}
        if "" in rules:
            raise ValueError(f"{path} has an empty name: give a name, or * for all")
        self.all = tuple(rules.values())
        self._exact = {name: rule for name, rule in rules.items() if not name.endswith("*")}
        prefixes = [(name[:-1], rule) for name, rule in rules.items() if name.endswith("*")]
        self._longest_first = sorted(prefixes, key=lambda one: -len(one[0]))

    def rule(self, name: str) -> Rule | None:
        exact = self._exact.get(name)
        if exact is not None:
            return exact
        return next((rule for prefix, rule in self._longest_first if name.startswith(prefix)), None)


def _rule(path: str, entry: object) -> Rule:
    members = _object(path, entry, {"scopes", "usage"})
    scopes = members.get("scopes", [])
    if isinstance(scopes, str) or not isinstance(scopes, list | tuple):
        raise TypeError(f"{path}.scopes is {type(scopes).__name__}: give a list of scopes")
    for index, scope in enumerate(scopes):
        if not isinstance(scope, str) or not are_valid_scopes([scope]):
            raise ValueError(
                f"{path}.scopes[{index}] is {scope!r}: give a scope of 1 to 64 characters of a-z 0-9 : . _ - / *"
            )
    if len(scopes) > MAX_SCOPES:
        raise ValueError(f"{path}.scopes has {len(scopes)} scopes: give at most {MAX_SCOPES}")
    usage = None
    if "usage" in members:
        given = _object(f"{path}.usage", members["usage"], {"metric", "quantity"})
        metric = given.get("metric")
        if not isinstance(metric, str) or not METRIC.fullmatch(metric):
            raise ValueError(
                f"{path}.usage.metric is {metric!r}: give a lower-case letter, then up to 63 characters of a-z 0-9 _ ."
            )
        usage = Usage(metric, _checks.count(f"{path}.usage.quantity", given.get("quantity", 1), 0, MAX_QUANTITY))
    return Rule(tuple(scopes), usage)


def _object(path: str, value: object, known: set[str] | None = None) -> Mapping[str, Any]:
    """Checks an object and the names of its members."""
    if not isinstance(value, Mapping):
        shown = json.dumps(value) if value is None or isinstance(value, bool | int | str) else type(value).__name__
        raise TypeError(f"{path} is {shown}: give an object")
    if isinstance(value, Members) and value.repeated:
        raise ValueError(f"{path} has {min(value.repeated)!r} more than once: give each name once")
    for name in value:
        if not isinstance(name, str):
            raise TypeError(f"{path} has the name {name!r}: give text")
        if known is not None and name not in known:
            raise ValueError(f"{path}.{name} is unknown: give only {', '.join(sorted(known))}")
    return value
