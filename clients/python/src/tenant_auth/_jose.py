"""The only module that uses PyJWT, which is optional and therefore imported when it is needed.

Its exceptions may carry parts of a token, so none of them leaves this module, not even as the context of another one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import jwt

TYPE = "principal+jwt"
ALGORITHMS = {("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA"}
"""The algorithm of each kind of key. Only the key determines it, not the token."""


def require_extra() -> None:
    """Raises `ImportError` if PyJWT or cryptography is not installed."""
    available = False
    try:
        from jwt.algorithms import has_crypto as available
    except ImportError:
        pass
    if not available:
        message = "principal tokens need PyJWT and cryptography: pip install 'tenant-auth[principal]'"
        raise ImportError(message, name="jwt")


def public_key(jwk: Any) -> jwt.PyJWK | None:
    """Returns the key of a JSON Web Key, or `None` if it does not verify principal tokens."""
    import jwt

    if not isinstance(jwk, dict):
        return None
    kind, kid = (jwk.get("kty"), jwk.get("crv")), jwk.get("kid")
    algorithm = next((algorithm for known, algorithm in ALGORITHMS.items() if known == kind), None)
    fits = jwk.get("alg", algorithm) == algorithm and jwk.get("use", "sig") == "sig"
    if algorithm is None or not fits or not isinstance(kid, str) or not kid:
        return None
    try:
        return jwt.PyJWK(jwk, algorithm)
    except jwt.PyJWTError:
        return None


def unverified_header(token: str) -> dict[str, Any] | None:
    """Returns the header of a token, or `None` if the text is no token."""
    import jwt

    try:
        return jwt.get_unverified_header(token)
    except jwt.PyJWTError:
        return None


def verified_claims(token: str, key: jwt.PyJWK, issuer: str, audience: str) -> dict[str, Any] | str:
    """Returns the claims of a token with a valid signature, issuer and audience, or what is wrong with it."""
    import jwt

    try:
        decoded = jwt.decode_complete(
            token,
            key,
            algorithms=[key.algorithm_name],
            issuer=issuer,
            audience=audience,
            # The library knows only the system clock. The caller checks the times.
            options={"strict_aud": True, "verify_exp": False, "verify_iat": False, "verify_nbf": False},
        )
    except jwt.InvalidAlgorithmError:
        return "its algorithm does not fit its key"
    except jwt.InvalidSignatureError:
        return "its signature is invalid"
    except jwt.InvalidIssuerError:
        return "it is from another issuer"
    except jwt.InvalidAudienceError:
        return "it is for another audience"
    except jwt.PyJWTError:
        return "its claims are malformed"
    # The header is covered by the signature.
    return dict(decoded["payload"])
