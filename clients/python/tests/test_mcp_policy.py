"""The policy table."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from fake import Fake
from tenant_auth import AsyncClient
from tenant_auth.mcp import McpGate, Policy
from tenant_auth.mcp._policy import Kind, NoNameError, NotInPolicyError, Operation

TABLE = {
    "tools": {
        "report_*": {"scopes": ["orders:read"], "usage": {"metric": "mcp.reports", "quantity": 5}},
        "report_all": {"scopes": ["admin", "orders:read"]},
        "report_all_*": {},
    },
    "methods": {"logging/setLevel": {"scopes": ["admin"]}},
}


def rules(*operations: tuple[Kind, str | None]) -> list[tuple[str, ...]]:
    return [rule.scopes for rule in Policy(TABLE).rules([Operation(kind, name) for kind, name in operations])]


@pytest.mark.parametrize(
    ("name", "scopes"),
    [
        ("report_may", ("orders:read",)),
        ("report_", ("orders:read",)),
        ("report_all", ("admin", "orders:read")),
        ("report_all_", ()),
        ("report_all_may", ()),
        ("report_allx", ("orders:read",)),
    ],
)
def test_exact_name_wins_then_the_longest_prefix(name: str, scopes: tuple[str, ...]) -> None:
    assert rules((Kind.TOOL, name)) == [scopes]


@pytest.mark.parametrize("name", ["", "report", "Report_may", "xreport_may", "*"])
def test_name_that_matches_nothing_is_refused(name: str) -> None:
    with pytest.raises(NotInPolicyError):
        rules((Kind.TOOL, name))


def test_kind_without_a_section_and_method_without_an_entry_are_free() -> None:
    assert rules((Kind.PROMPT, "any"), (Kind.RESOURCE, None), (Kind.METHOD, "tools/list")) == []
    assert rules((Kind.METHOD, "logging/setLevel")) == [("admin",)]
    with pytest.raises(NoNameError):
        rules((Kind.TOOL, None))


def test_policy_knows_its_scopes_and_usage() -> None:
    policy = Policy(TABLE)
    assert policy.scopes == ("admin", "orders:read")
    assert policy.records_usage
    assert not Policy({"tools": {"*": {}}}).records_usage


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ([], "policy is list: give an object"),
        ({"tool": {}}, "policy.tool is unknown: give only methods, prompts, resources, tools"),
        ({"tools": []}, "policy.tools is list: give an object"),
        ({"tools": None}, "policy.tools is null: give an object"),
        ({"tools": {"": {}}}, "policy.tools has an empty name"),
        ({"tools": {"a": "orders:read"}}, 'policy.tools.a is "orders:read": give an object'),
        ({"tools": {"a": {"scope": []}}}, "policy.tools.a.scope is unknown: give only scopes, usage"),
        ({"tools": {"a": {"scopes": "orders:read"}}}, "policy.tools.a.scopes is str: give a list of scopes"),
        ({"tools": {"a": {"scopes": ["ok", "Not OK"]}}}, r"policy.tools.a.scopes\[1\] is 'Not OK': give a scope"),
        ({"tools": {"a": {"scopes": [5]}}}, r"policy.tools.a.scopes\[0\] is 5: give a scope"),
        ({"tools": {"a": {"scopes": ["s"] * 33}}}, "policy.tools.a.scopes has 33 scopes: give at most 32"),
        ({"prompts": {"a": {"usage": {}}}}, "policy.prompts.a.usage.metric is None: give a lower-case letter"),
        ({"prompts": {"a": {"usage": {"metric": "A"}}}}, "policy.prompts.a.usage.metric is 'A'"),
        ({"prompts": {"a": {"usage": {"metric": "a", "quantity": -1}}}}, "policy.prompts.a.usage.quantity is -1"),
        ({"prompts": {"a": {"usage": {"metric": "a", "quantity": 1.5}}}}, "policy.prompts.a.usage.quantity is float"),
        ({"prompts": {"a": {"usage": {"metric": "a", "quantity": True}}}}, "policy.prompts.a.usage.quantity is bool"),
        ({"prompts": {"a": {"usage": {"metric": "a", "unit": "x"}}}}, "policy.prompts.a.usage.unit is unknown"),
    ],
)
def test_mistake_in_a_policy_is_named_with_its_path(table: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        Policy(table)
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(table))
    with pytest.raises((ValueError, TypeError), match=f"^{message}"):
        Policy.from_file(file)


def test_policy_is_read_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(TABLE))
    assert Policy.from_file(file).scopes == Policy(TABLE).scopes
    file.write_text('{"tools": {"a": {}, "a": {"scopes": ["admin"]}}}')
    with pytest.raises(ValueError, match=r"^policy\.tools has 'a' more than once"):
        Policy.from_file(file)
    for text in ("{", "NaN", "[" * 100_000):
        file.write_text(text)
        with pytest.raises(ValueError, match=r"policy\.json is not JSON"):
            Policy.from_file(str(file))
    with pytest.raises(FileNotFoundError):
        Policy.from_file(tmp_path / "missing.json")


async def test_policy_with_usage_needs_a_recorder(fake: Fake) -> None:
    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        raise AssertionError

    async with AsyncClient(fake.endpoint) as client:
        with pytest.raises(ValueError, match=r"give recorder=client\.usage_recorder\(\)"):
            McpGate(app, client=client, policy=Policy(TABLE))
        with pytest.raises(TypeError, match="policy is dict: give Policy or None"):
            McpGate(app, client=client, policy=TABLE)  # type: ignore[arg-type]
