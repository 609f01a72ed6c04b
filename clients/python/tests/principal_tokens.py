"""Signs principal tokens, and verifies them with either client."""

from __future__ import annotations

import json
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from conftest import Threaded
from tenant_auth import VerifiedPrincipal

ISSUER = "https://auth.example.com"
NOW = 1_800_000_000
"""The start of a `ManualClock`, in seconds since 1970."""
TYPE = "principal+jwt"


class Signer:
    """A key of the service."""

    def __init__(self, kid: str = "k1", algorithm: str = "EdDSA") -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.private: Any = (
            ed25519.Ed25519PrivateKey.generate() if algorithm == "EdDSA" else ec.generate_private_key(ec.SECP256R1())
        )

    @property
    def jwk(self) -> dict[str, Any]:
        made = jwt.get_algorithm_by_name(self.algorithm).to_jwk(self.private.public_key(), as_dict=True)
        return {**made, "kid": self.kid, "alg": self.algorithm, "use": "sig"}

    def sign(self, header: dict[str, Any] | None = None, **changed: Any) -> str:
        """A token with these claims changed. `None` leaves a claim out."""
        claims = {
            "iss": ISSUER,
            "aud": "billing",
            "sub": "acme",
            "key_id": "key_1",
            "scope": "orders:read orders:write",
            "plan": "pro",
            "rev": 10,
            "iat": NOW,
            "exp": NOW + 60,
        }
        kept = {name: value for name, value in (claims | changed).items() if value is not None}
        # Not `jwt.encode`, which rejects an issuer that is not text.
        payload = json.dumps(kept).encode()
        headers = {"typ": TYPE, "kid": self.kid} | (header or {})
        return jwt.PyJWS().encode(payload, self.private, self.algorithm, headers)


def jwks(*signers: Signer) -> str:
    return json.dumps({"keys": [signer.jwk for signer in signers]})


class Verifier:
    """The verifier of either client, with one interface."""

    def __init__(self, client: Any, audience: str = "billing") -> None:
        self._client = client
        self.verifier = getattr(client, "client", client).principal_verifier(audience=audience)

    async def verify(self, *args: Any, **options: Any) -> VerifiedPrincipal:
        def call() -> Any:
            return self.verifier.verify(*args, **options)

        result = await (self._client.run(call) if isinstance(self._client, Threaded) else call())
        assert isinstance(result, VerifiedPrincipal)
        return result
