"""When the keys of principal tokens are fetched, and which answers are used."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import pytest
import pytest_asyncio

from conftest import Connect, until
from fake import Fake
from principal_tokens import ISSUER, Signer, Verifier, jwks
from replies import Failure
from tenant_auth import (
    ClosedError,
    DeadlineExceededError,
    InvalidPrincipalError,
    TenantAuthError,
    UnauthenticatedError,
    UnavailableError,
)
from tenant_auth._principal_keys import PrincipalKeys, key_set
from tenant_auth.proto import info_pb2
from tenant_auth.testing import ManualClock

OLD, NEXT, STRANGE = Signer("old"), Signer("next", "ES256"), Signer("strange")
DOWN = Failure(grpc.StatusCode.UNAVAILABLE)


@pytest_asyncio.fixture
async def client(connect: Connect, fake: Fake, clock: ManualClock) -> Any:
    fake.jwks, fake.issuer = jwks(OLD), ISSUER
    return connect(clock=clock, near_cache=None, retry=None)


@pytest.fixture
def verifier(client: Any) -> Verifier:
    return Verifier(client)


def fetches(fake: Fake) -> int:
    return fake.calls["GetPrincipalKeys"]


def valid(signer: Signer, clock: ManualClock, **changed: Any) -> str:
    now = int(clock.time())
    return signer.sign(iat=now, exp=now + 60, **changed)


async def test_keys_are_fetched_once(client: Any, verifier: Verifier, fake: Fake) -> None:
    assert not fetches(fake)
    for one in (verifier, verifier, Verifier(client)):
        await one.verify(OLD.sign())
    assert fetches(fake) == 1


async def test_fetch_is_shared_and_outlives_a_caller(verifier: Verifier, fake: Fake, clock: ManualClock) -> None:
    fake.responding.clear()
    tasks = [asyncio.create_task(verifier.verify(OLD.sign(), timeout=20.0)) for _ in range(4)]
    await asyncio.to_thread(fake.until, lambda: fetches(fake) == 1)
    clock.advance(6)
    with pytest.raises(DeadlineExceededError):
        await verifier.verify(OLD.sign(), timeout=0.01)
    tasks.append(asyncio.create_task(verifier.verify(OLD.sign(), timeout=20.0)))
    fake.responding.set()
    assert len(await asyncio.gather(*tasks)) == 5
    assert fetches(fake) == 1


async def test_unknown_key_is_fetched_once_in_five_seconds(verifier: Verifier, fake: Fake, clock: ManualClock) -> None:
    await verifier.verify(OLD.sign())
    for expected in (2, 3):
        clock.advance(5)
        for _ in range(3):
            with pytest.raises(InvalidPrincipalError, match="its key is unknown"):
                await verifier.verify(STRANGE.sign())
        assert fetches(fake) == expected
    fake.jwks = jwks(OLD, NEXT)
    clock.advance(4.9)
    with pytest.raises(InvalidPrincipalError):
        await verifier.verify(NEXT.sign())
    clock.advance(0.1)
    assert await verifier.verify(NEXT.sign()), "an unknown key is fetched at once"


async def test_next_key_that_was_published_needs_no_fetch(verifier: Verifier, fake: Fake, clock: ManualClock) -> None:
    fake.jwks = jwks(OLD, NEXT)
    await verifier.verify(OLD.sign())
    clock.advance(10)
    await verifier.verify(NEXT.sign())
    assert fetches(fake) == 1


async def test_old_keys_are_fetched_again_in_the_background(verifier: Verifier, fake: Fake, clock: ManualClock) -> None:
    await verifier.verify(OLD.sign())
    clock.advance(300)
    await verifier.verify(valid(OLD, clock))
    assert fetches(fake) == 1
    clock.advance(0.1)
    fake.jwks = jwks(NEXT)
    fake.responding.clear()
    await verifier.verify(valid(OLD, clock))
    await asyncio.to_thread(fake.until, lambda: fetches(fake) == 2)
    fake.responding.set()
    await verifier.verify(valid(NEXT, clock))
    with pytest.raises(InvalidPrincipalError, match="its key is unknown"):
        await verifier.verify(valid(OLD, clock))
    assert fetches(fake) == 2


async def test_failed_fetch_keeps_the_keys(
    verifier: Verifier, fake: Fake, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    await verifier.verify(OLD.sign())
    fake.permanent_failure = DOWN
    clock.advance(400)
    assert await verifier.verify(valid(OLD, clock))
    await until(lambda: "those in use stay" in caplog.text)
    assert await verifier.verify(valid(OLD, clock))
    assert fetches(fake) == 2, "a failed fetch is not repeated at once"
    for _ in range(2):
        with pytest.raises(UnavailableError):
            await verifier.verify(valid(NEXT, clock))
    fake.permanent_failure = None
    fake.jwks = jwks(NEXT)
    clock.advance(5)
    assert await verifier.verify(valid(NEXT, clock))
    with pytest.raises(InvalidPrincipalError):
        await verifier.verify(valid(OLD, clock))
    assert fetches(fake) == 3


UNUSABLE = [
    ('{"keys":[]}', ISSUER),
    ("{}", ISSUER),
    ("[]", ISSUER),
    ("", ISSUER),
    ('{"keys":5}', ISSUER),
    ('{"keys":' + "[" * 100_000, ISSUER),
    ('{"keys":[{"kty":"oct","kid":"old","k":"eA"}, 5]}', ISSUER),
    (jwks(STRANGE), ""),
]


@pytest.mark.parametrize(("document", "issuer"), UNUSABLE)
async def test_unusable_answer_never_replaces_keys(
    verifier: Verifier, fake: Fake, clock: ManualClock, document: str, issuer: str
) -> None:
    await verifier.verify(OLD.sign())
    fake.jwks, fake.issuer = document, issuer
    clock.advance(5)
    with pytest.raises(UnavailableError, match="no usable principal keys"):
        await verifier.verify(STRANGE.sign())
    assert fetches(fake) == 2
    assert await verifier.verify(OLD.sign())


@pytest.mark.parametrize(("document", "issuer"), UNUSABLE)
async def test_without_usable_keys_nothing_is_decided(
    verifier: Verifier, fake: Fake, clock: ManualClock, document: str, issuer: str
) -> None:
    fake.jwks, fake.issuer = document, issuer
    for _ in range(2):
        with pytest.raises(UnavailableError) as caught:
            await verifier.verify(STRANGE.sign())
        assert caught.value.reason == "NO_PRINCIPAL_KEYS"
    assert fetches(fake) == 1
    fake.jwks, fake.issuer = jwks(OLD), ISSUER
    clock.advance(1)
    assert await verifier.verify(OLD.sign())


async def test_first_fetch_that_fails_is_undecided(verifier: Verifier, fake: Fake, clock: ManualClock) -> None:
    fake.permanent_failure = Failure(grpc.StatusCode.UNAUTHENTICATED)
    errors: list[TenantAuthError] = []
    for _ in range(2):
        with pytest.raises(UnauthenticatedError) as caught:
            await verifier.verify(OLD.sign())
        errors.append(caught.value)
    assert errors[0] is not errors[1], "each caller gets its own error"
    fake.permanent_failure = None
    clock.advance(1)
    assert await verifier.verify(OLD.sign())


async def test_cancelled_fetch_is_undecided(clock: ManualClock) -> None:
    async def fetch(_timeout: float) -> Any:
        if clock.monotonic() > started:
            raise asyncio.CancelledError
        return info_pb2.GetPrincipalKeysResponse(jwks=jwks(OLD), issuer=ISSUER)

    started = clock.monotonic()
    keys = PrincipalKeys(clock, fetch)
    await keys.get("old", 1.0)
    clock.advance(5)
    with pytest.raises(ClosedError):
        await keys.get("next", 1.0)


async def test_issuer_is_replaced_with_its_keys(verifier: Verifier, fake: Fake, clock: ManualClock) -> None:
    await verifier.verify(OLD.sign())
    other = "https://other.example.com"
    with pytest.raises(InvalidPrincipalError, match="another issuer"):
        await verifier.verify(OLD.sign(iss=other))
    fake.jwks, fake.issuer = jwks(NEXT), other
    clock.advance(5)
    assert await verifier.verify(NEXT.sign(iss=other))
    with pytest.raises(InvalidPrincipalError, match="another issuer"):
        await verifier.verify(NEXT.sign())


@pytest.mark.parametrize(
    "change", [{"use": "enc"}, {"alg": "ES256"}, {"crv": "Ed448"}, {"kid": ""}, {"kid": 5}, {"x": 5}, {"kty": []}]
)
def test_unusable_key_is_skipped(change: dict[str, Any]) -> None:
    keys = key_set(json.dumps({"keys": [{**STRANGE.jwk, **change}, NEXT.jwk]}), ISSUER, 0.0)
    assert list(keys.by_id) == ["next"]


async def test_closed_client_verifies_nothing(client: Any, verifier: Verifier) -> None:
    await verifier.verify(OLD.sign())
    await client.close()
    with pytest.raises(ClosedError):
        await verifier.verify(OLD.sign())
