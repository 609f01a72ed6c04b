"""Checking required scopes here, as the service would."""

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
    """Whether the contract allows these scopes. Others go to the service, which says what is wrong with them."""
    return len(required) <= MOST_SCOPES and all(
        0 < len(scope) <= LONGEST_SCOPE and CHARACTERS.issuperset(scope) for scope in required
    )


def checked(answer: V, required: Sequence[str]) -> V:
    """The answer to a question without scopes, turned into the answer to one with them."""
    if answer.verdict is not Verdict.VALID:
        return answer
    missing = tuple(sorted(set(required).difference(answer.scopes)))
    if not missing:
        return answer
    return replace(answer, verdict=Verdict.INSUFFICIENT_SCOPE, missing_scopes=missing)
