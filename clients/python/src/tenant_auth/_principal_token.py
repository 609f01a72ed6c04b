"""Verifies principal tokens. Does no I/O."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from . import _jose
from ._principal_keys import KeySet
from .principal import InvalidPrincipalError, VerifiedPrincipal

MAX_LENGTH = 4096
LEEWAY = 5.0
"""Tolerated difference between the clocks of the service and of this process, in seconds."""
MAX_LIFETIME = 60
"""A token of the service does not live longer, in seconds. A longer one would outlive a revocation."""


def key_id(token: str) -> str:
    """Returns the id of the key that has signed the token, according to its header, which is not verified yet."""
    # Other texts cannot be tokens. Longer ones are not parsed, because anyone can send them.
    if len(token) > MAX_LENGTH or not token.isascii():
        raise InvalidPrincipalError(f"it is not ASCII text of at most {MAX_LENGTH} characters")
    header = _jose.unverified_header(token)
    if header is None:
        raise InvalidPrincipalError("it is not a signed token")
    if header.get("typ") != _jose.TYPE:
        raise InvalidPrincipalError(f"its type is not {_jose.TYPE}")
    if header.get("alg") not in _jose.ALGORITHMS.values():
        raise InvalidPrincipalError("its algorithm is not allowed")
    kid = header.get("kid")
    if not isinstance(kid, str):
        raise InvalidPrincipalError("it names no key")
    return kid


def verify(token: str, kid: str, keys: KeySet, audience: str, now: float) -> VerifiedPrincipal:
    """Returns the principal of a token with a valid signature and valid claims. `now`: seconds since 1970."""
    key = keys.by_id.get(kid)
    if key is None:
        raise InvalidPrincipalError("its key is unknown")
    claims = _jose.verified_claims(token, key, keys.issuer, audience)
    if isinstance(claims, str):
        raise InvalidPrincipalError(claims)
    issued_at, expires_at = integer(claims, "iat"), integer(claims, "exp")
    if now >= expires_at + LEEWAY:
        raise InvalidPrincipalError("it has expired")
    if now < issued_at - LEEWAY:
        raise InvalidPrincipalError("it was issued in the future")
    if expires_at - issued_at > MAX_LIFETIME:
        raise InvalidPrincipalError(f"it lives for more than {MAX_LIFETIME} s")
    omitted = integer(claims, "scope_omitted") if "scope_omitted" in claims else None
    if omitted is not None and omitted <= 0:
        raise InvalidPrincipalError("its claim scope_omitted is not positive")
    return VerifiedPrincipal(
        tenant_id=text(claims, "sub"),
        key_id=text(claims, "key_id"),
        plan=text(claims, "plan"),
        scopes=tuple(text(claims, "scope").split()),
        omitted_scopes=omitted or 0,
        revision=integer(claims, "rev"),
        issued_at=datetime.fromtimestamp(issued_at, UTC),
        expires_at=datetime.fromtimestamp(expires_at, UTC),
    )


def text(claims: dict[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str):
        raise InvalidPrincipalError(f"its claim {name} is not text")
    return value


def integer(claims: dict[str, Any], name: str) -> int:
    value = claims.get(name)
    # `True` is an int in Python, but not in JSON.
    if isinstance(value, bool) or not isinstance(value, int):
        raise InvalidPrincipalError(f"its claim {name} is not an integer")
    return value
