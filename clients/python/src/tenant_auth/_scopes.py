"""Evaluates required scopes in the client, like the service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from .results import Validation
from .verdict import Verdict

V = TypeVar("V", bound=Validation)

MAX_SCOPES = 32
MAX_SCOPE_LENGTH = 64
CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789:._-/*")


def are_valid_scopes(required: Sequence[str]) -> bool:
    """Reports whether the contract allows these scopes. Invalid scopes are left to the service, which returns a precise
    error.
    """
    return len(required) <= MAX_SCOPES and all(
        0 < len(scope) <= MAX_SCOPE_LENGTH and CHARACTERS.issuperset(scope) for scope in required
    )


def apply_required_scopes(answer: V, required: Sequence[str]) -> V:
    """Applies required scopes to an answer to a request without scopes."""
    if answer.verdict is not Verdict.VALID:
        return answer
    missing = tuple(sorted(set(required).difference(answer.scopes)))
    if not missing:
        return answer
    return replace(answer, verdict=Verdict.INSUFFICIENT_SCOPE, missing_scopes=missing)
