# Generated from async_verifier.py by tools/generate_sync.py. Do not edit.
"""The verifier of principal tokens: `AsyncPrincipalVerifier` for asyncio, and `PrincipalVerifier` for threads, which is
generated from it.
"""

from __future__ import annotations

from collections.abc import Iterable

from . import _checks, _jose, _principal_token
from ._core import Core
from ._engine import Engine
from .errors import OutdatedPrincipalError, UnavailableError
from .principal import VerifiedPrincipal
from .results import DeniedError, Provenance, Validation
from .verdict import Verdict


class PrincipalVerifier:
    """Verifies the principal tokens that a proxy passes on in `X-Tenant-Principal`; see the method `principal_verifier`
    of the client.

    A token is honoured until it expires: for at most 60 s. If the client's near cache hears earlier, by its watch
    stream, that the key or its tenant has changed, it is refused as outdated. Without a near cache, or while the stream
    is down, a revocation therefore takes effect after up to 60 s (and 5 s for the difference of the clocks).
    """

    def __init__(self, engine: Engine, core: Core, audience: str) -> None:
        _jose.require_extra()
        _checks.instance("audience", audience, str)
        if not audience:
            raise ValueError("audience is empty: give the audience that the proxy asks for, such as billing")
        self._engine = engine
        self._core = core
        self._audience = audience

    def verify(
        self, token: str, required_scopes: str | Iterable[str] = (), *, timeout: float | None = None
    ) -> VerifiedPrincipal:
        """Returns the principal of a valid token that names all scopes.

        Raises `InvalidPrincipalError` if the token is invalid, `OutdatedPrincipalError` if its key or its tenant has
        changed since (repeat the request through the proxy), `DeniedError` with `missing_scopes` if a scope is missing,
        and another `TenantAuthError` if it cannot be decided: because the service's keys cannot be fetched, or because
        a scope may be one of those that did not fit into the token (`reason`: `SCOPES_OMITTED`).

        `timeout`: seconds to wait for the keys, which are fetched on first use and for an unknown key.
        """
        _checks.instance("token", token, str)
        required = _checks.texts("required_scopes", required_scopes)
        kid = _principal_token.key_id(token)
        keys = self._engine.principal_keys(kid, timeout)
        principal = _principal_token.verify(token, kid, keys, self._audience, self._core.clock.time())
        near = self._core.near_cache
        if near is not None and near.has_changed(principal.key_id, principal.tenant_id, principal.revision):
            raise OutdatedPrincipalError(
                "the key or its tenant has changed since the principal token was issued",
                code="UNAVAILABLE",
                reason="OUTDATED_PRINCIPAL",
                retry_after=1.0,
            )
        missing = tuple(sorted(set(required).difference(principal.scopes)))
        if missing and principal.omitted_scopes:
            raise UnavailableError(
                "the token has not all scopes of its key: require the scopes at the proxy",
                code="UNAVAILABLE",
                reason="SCOPES_OMITTED",
            )
        if missing:
            raise DeniedError(insufficient(principal, missing))
        return principal


def insufficient(principal: VerifiedPrincipal, missing: tuple[str, ...]) -> Validation:
    """Returns the denial of a principal that lacks scopes."""
    return Validation(
        verdict=Verdict.INSUFFICIENT_SCOPE,
        tenant_id=principal.tenant_id,
        plan=principal.plan,
        key_id=principal.key_id,
        scopes=principal.scopes,
        missing_scopes=missing,
        provenance=Provenance(revision=principal.revision),
    )
