"""Evaluates the conditions of a request in the client, like the service: its address, then its required scopes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from .networks import NO_NETWORKS, IPAddress, Networks
from .results import SessionValidation, Validation
from .verdict import Verdict

V = TypeVar("V", bound=Validation)

MAX_SCOPES = 32
MAX_SCOPE_LENGTH = 64
CHARACTERS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789:._-/*")
# Every cached answer is evaluated here, and an attribute of an enum is slow.
VALID, INSUFFICIENT_SCOPE = Verdict.VALID, Verdict.INSUFFICIENT_SCOPE
# The verdicts that depend on address and scopes. A tuple, because its search compares identities first.
CONDITIONAL = (VALID, INSUFFICIENT_SCOPE, Verdict.ADDRESS_REQUIRED, Verdict.ADDRESS_NOT_ALLOWED)


def are_valid_scopes(required: Sequence[str]) -> bool:
    """Reports whether the contract allows these scopes. Invalid scopes are left to the service, which returns a precise
    error.
    """
    return len(required) <= MAX_SCOPES and all(
        0 < len(scope) <= MAX_SCOPE_LENGTH and CHARACTERS.issuperset(scope) for scope in required
    )


def apply_conditions(answer: V, address: IPAddress | None, required: Sequence[str]) -> V:
    """Applies address and required scopes to an answer to a request with another address and without scopes."""
    verdict = answer.verdict
    if verdict not in CONDITIONAL:
        return answer
    presented = answer.presented_key_allowed_networks if isinstance(answer, SessionValidation) else None
    if answer.allowed_networks or presented:
        verdict = address_verdict(address, answer.allowed_networks, presented or NO_NETWORKS)
    elif verdict is INSUFFICIENT_SCOPE:
        verdict = VALID
    # Otherwise a denial of the address stands: without its networks, it must not become an admission.
    missing: tuple[str, ...] = ()
    if required and verdict is VALID:
        missing = tuple(sorted(set(required).difference(answer.scopes)))
        if missing:
            verdict = INSUFFICIENT_SCOPE
    if verdict is answer.verdict and missing == answer.missing_scopes:
        return answer
    return replace(answer, verdict=verdict, missing_scopes=missing)


def address_verdict(address: IPAddress | None, *networks: Networks) -> Verdict:
    """Returns `VALID` if the networks of the key, and of the key presented with a session, allow the address."""
    if address is None:
        return Verdict.ADDRESS_REQUIRED
    return VALID if all(one.allow(address) for one in networks) else Verdict.ADDRESS_NOT_ALLOWED
