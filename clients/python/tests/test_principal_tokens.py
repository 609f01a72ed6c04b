"""Which principal tokens are valid."""

from __future__ import annotations

import copy
import pickle
import subprocess
import sys
from datetime import UTC, datetime
from typing import Any

import jwt
import pytest

from conftest import Connect
from fake import Fake
from principal_tokens import ISSUER, NOW, TYPE, Signer, Verifier, jwks
from tenant_auth import (
    AsyncClient,
    Client,
    DeniedError,
    InvalidPrincipalError,
    UnavailableError,
    Verdict,
    VerifiedPrincipal,
)
from tenant_auth._principal_keys import key_set
from tenant_auth._principal_token import key_id, verify
from tenant_auth.testing import ManualClock

ED, EC = Signer("ed"), Signer("ec", "ES256")
KEYS = key_set(jwks(ED, EC), ISSUER, 0.0)


def verified(token: str, now: float = NOW, audience: str = "billing") -> VerifiedPrincipal:
    return verify(token, key_id(token), KEYS, audience, now)


def reason(token: str, **options: Any) -> str:
    """What is wrong with the token. No part of it may be in the error, nor in the context of the error."""
    with pytest.raises(InvalidPrincipalError) as caught:
        verified(token, **options)
    error = caught.value
    assert (error.__context__, error.__cause__) == (None, None)
    assert not any(len(part) > 8 and part in f"{error} {error!r}" for part in token.split("."))
    return error.reason


@pytest.mark.parametrize("algorithm", ["EdDSA", "ES256"])
async def test_token_is_verified(connect: Connect, fake: Fake, clock: ManualClock, algorithm: str) -> None:
    signer = Signer("k", algorithm)
    fake.jwks, fake.issuer = jwks(signer), ISSUER
    verifier = Verifier(connect(clock=clock))
    assert await verifier.verify(signer.sign(), "orders:read") == VerifiedPrincipal(
        tenant_id="acme",
        key_id="key_1",
        plan="pro",
        scopes=("orders:read", "orders:write"),
        omitted_scopes=0,
        revision=10,
        issued_at=datetime.fromtimestamp(NOW, UTC),
        expires_at=datetime.fromtimestamp(NOW + 60, UTC),
    )
    with pytest.raises(InvalidPrincipalError):
        await verifier.verify(signer.sign(aud="shipping"))
    clock.advance(65)
    with pytest.raises(InvalidPrincipalError):
        await verifier.verify(signer.sign())


async def test_missing_scopes_are_named(connect: Connect, fake: Fake, clock: ManualClock) -> None:
    fake.jwks, fake.issuer = jwks(ED), ISSUER
    verifier = Verifier(connect(clock=clock))
    with pytest.raises(DeniedError) as caught:
        await verifier.verify(ED.sign(), ["z", "orders:read", "a"])
    assert (caught.value.verdict, caught.value.missing_scopes) == (Verdict.INSUFFICIENT_SCOPE, ("a", "z"))
    assert (await verifier.verify(ED.sign(scope=""))).scopes == ()
    with pytest.raises(DeniedError):
        await verifier.verify(ED.sign(scope=""), "orders:read")


async def test_scope_that_may_be_omitted_is_undecided(connect: Connect, fake: Fake, clock: ManualClock) -> None:
    fake.jwks, fake.issuer = jwks(ED), ISSUER
    verifier = Verifier(connect(clock=clock))
    token = ED.sign(scope_omitted=1)
    assert await verifier.verify(token, "orders:read")
    with pytest.raises(UnavailableError) as caught:
        await verifier.verify(token, ["orders:read", "a"])
    assert caught.value.reason == "SCOPES_OMITTED"


def test_claims_that_do_not_fit_are_refused() -> None:
    assert reason(ED.sign(aud="shipping")) == "it is for another audience"
    assert reason(ED.sign(aud=["billing"])) == "it is for another audience"
    assert reason(ED.sign(aud="billing2")) == "it is for another audience"
    assert reason(ED.sign(iss="https://other.example.com")) == "it is from another issuer"
    assert reason(ED.sign(iss=f"{ISSUER}/")) == "it is from another issuer"


@pytest.mark.parametrize(
    ("issued_at", "lifetime", "expected"),
    [
        (-64, 60, None),
        (-65, 60, "it has expired"),
        (5, 60, None),
        (6, 60, "it was issued in the future"),
        (0, 61, "it lives for more than 60 s"),
    ],
)
def test_times_have_a_leeway_of_five_seconds(issued_at: int, lifetime: int, expected: str | None) -> None:
    token = ED.sign(iat=NOW + issued_at, exp=NOW + issued_at + lifetime)
    if expected is None:
        assert verified(token)
        assert verified(ED.sign(iat=issued_at, exp=issued_at + lifetime), now=0), "the clock of the client counts"
    else:
        assert reason(token) == expected


@pytest.mark.parametrize("name", ["iss", "aud", "sub", "key_id", "scope", "plan", "rev", "iat", "exp"])
@pytest.mark.parametrize("value", [None, True, 1.5, {}, "number or text"])
def test_claim_of_wrong_type_is_refused(name: str, value: Any) -> None:
    if value == "number or text":
        value = str(NOW) if name in ("rev", "iat", "exp") else NOW
    assert reason(ED.sign(**{name: value}))


@pytest.mark.parametrize("omitted", [0, -1, "1", True])
def test_number_of_omitted_scopes_is_positive(omitted: Any) -> None:
    assert verified(ED.sign(scope_omitted=1)).omitted_scopes == 1
    assert "scope_omitted" in reason(ED.sign(scope_omitted=omitted))


@pytest.mark.parametrize("kind", ["JWT", "principal+JWT", "at+jwt", ""])
def test_other_type_of_token_is_refused(kind: str) -> None:
    assert reason(ED.sign({"typ": kind})) == "its type is not principal+jwt"


def test_other_algorithm_is_refused() -> None:
    headers = {"typ": TYPE, "kid": "ed"}
    payload = jwt.PyJWS().decode(ED.sign(), ED.private.public_key(), ["EdDSA"])
    unsigned = jwt.PyJWS().encode(payload, "", "none", headers)
    assert reason(unsigned) == "its algorithm is not allowed"
    # The library itself rejects a public key as a secret in most encodings, but not in this one.
    public = ED.private.public_key().public_bytes_raw()
    assert reason(jwt.PyJWS().encode(payload, public, "HS256", headers)) == "its algorithm is not allowed"
    other = Signer("ed", "ES256")
    other.private = EC.private
    assert reason(other.sign()) == "its algorithm does not fit its key"
    confused = Signer("ec")
    assert reason(confused.sign()) == "its algorithm does not fit its key"


def test_signature_of_another_key_is_refused() -> None:
    assert reason(Signer("ed").sign()) == "its signature is invalid"
    assert reason(Signer("ec", "ES256").sign()) == "its signature is invalid"
    header, payload, _ = ED.sign().split(".")
    assert reason(f"{header}.{payload}.") == "its signature is invalid"
    assert reason(ED.sign({"kid": "other"})) == "its key is unknown"


def test_text_that_is_no_token_is_refused() -> None:
    for text in ("", "x", "a.b.c", "ä.b.c", f"{ED.sign()}.x", ED.sign({"crit": ["b64"], "b64": False})):
        assert reason(text)
    assert reason(jwt.PyJWS().encode(b"{}", ED.private, "EdDSA", {"typ": TYPE})) == "it names no key"
    assert reason(jwt.PyJWS().encode(b"[]", ED.private, "EdDSA", {"typ": TYPE, "kid": "ed"}))


def test_long_token_is_refused_without_parsing(monkeypatch: pytest.MonkeyPatch) -> None:
    fits = next(token for size in range(2_000, 3_000) if len(token := ED.sign(plan="x" * size)) >= 4_094)
    assert len(fits) <= 4_096
    assert verified(fits)
    too_long = ED.sign(plan="x" * 3_000)
    monkeypatch.setattr("tenant_auth._jose.unverified_header", None)
    assert "4096" in reason(too_long)


def test_error_can_be_copied() -> None:
    error = InvalidPrincipalError("it has expired")
    for copied in (copy.copy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301
        assert (str(copied), copied.reason) == ("invalid principal token: it has expired", "it has expired")
        assert copied.verdict is Verdict.MALFORMED


@pytest.mark.parametrize("make", [AsyncClient, Client])
def test_missing_extra_is_named(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    client = make("127.0.0.1:1")
    with monkeypatch.context() as patch:
        patch.setattr("jwt.algorithms.has_crypto", False)
        with pytest.raises(ImportError, match=r"tenant-auth\[principal\]"):
            client.principal_verifier("billing")
    monkeypatch.setitem(sys.modules, "jwt.algorithms", None)
    with pytest.raises(ImportError, match=r"tenant-auth\[principal\]"):
        client.principal_verifier("billing")


def test_extra_is_not_needed_without_a_verifier() -> None:
    code = "import sys, tenant_auth, tenant_auth.asgi; sys.exit('jwt' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_invalid_arguments_are_rejected() -> None:
    client = Client("127.0.0.1:1")
    for audience in ("", None, ["billing"]):
        with pytest.raises((ValueError, TypeError), match="audience"):
            client.principal_verifier(audience)  # type: ignore[arg-type]
    verifier = client.principal_verifier("billing")
    with pytest.raises(TypeError, match="token"):
        verifier.verify(b"x")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="required_scopes"):
        verifier.verify("x", 5)  # type: ignore[arg-type]
