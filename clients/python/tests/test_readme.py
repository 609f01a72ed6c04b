"""The snippets of the README."""

from __future__ import annotations

import ast
import importlib
import json
import re
from pathlib import Path

from tenant_auth.mcp import Policy

TEXT = (Path(__file__).resolve().parent.parent / "README.md").read_text()


def snippets(language: str) -> list[str]:
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    assert found
    return found


def test_snippets_import_what_exists() -> None:
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    for snippet in snippets("python"):
        tree = compile(snippet, "README.md", "exec", flags=flags)
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module:
                module = importlib.import_module(node.module)
                assert all(hasattr(module, one.name) for one in node.names), snippet


def test_policy_of_the_readme_is_valid() -> None:
    (table,) = snippets("json")
    assert Policy(json.loads(table)).scopes == ("admin", "orders:read", "orders:write", "reports")
