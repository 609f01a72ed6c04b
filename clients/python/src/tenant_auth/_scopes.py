"""Evaluates required scopes in the client, like the service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from .results import Validation
from .verdict import Verdict

V = TypeVar("V", bound=Validation)

MOST_SCOPES = 32
LONGEST_SCOPE = 64
CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789:._-/*")


def checkable(required: Sequence[str]) -> bool:
    """Reports whether the contract allows these scopes. Invalid scopes are left to the service, which returns a precise
    error.
    """
    return len(required) <= MOST_SCOPES and all(
        0 < len(scope) <= LONGEST_SCOPE and CHARACTERS.issuperset(scope) for scope in required
    )


def checked(answer: V, required: Sequence[str]) -> V:
    """Applies required scopes to an answer to a request without scopes."""
    if answer.verdict is not Verdict.VALID:
        return answer
    missing = tuple(sorted(set(required).difference(answer.scopes)))
    if not missing:
        return answer
    return replace(answer, verdict=Verdict.INSUFFICIENT_SCOPE, missing_scopes=missing)
