"""Principal tokens that are older than a change that the watch stream has reported."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import pytest_asyncio

from conftest import Connect, call_stub, until
from fake import Fake
from principal_tokens import ISSUER, Signer, Verifier, jwks
from tenant_auth import ErrorKind, OutdatedPrincipalError
from tenant_auth._near_cache import NearCache, SubjectKind
from tenant_auth.proto import admin_pb2
from tenant_auth.testing import ManualClock

SIGNER = Signer()


@pytest_asyncio.fixture
async def client(connect: Connect, fake: Fake, clock: ManualClock) -> Any:
    fake.jwks, fake.issuer = jwks(SIGNER), ISSUER
    return connect(clock=clock)


async def tell(client: Any, fake: Fake, scope: str, name: str, revision: int) -> None:
    """Waits until the client has received the change, and of a later revision."""
    await asyncio.to_thread(fake.until, lambda: bool(fake.streams))
    fake.invalidate(scope, name, revision)
    fake.heartbeat(100)
    await until(lambda: client.watch_state.revision == 100)


@pytest.mark.parametrize(
    ("scope", "name", "revision", "outdated"),
    [
        ("KEY", "key_1", 11, True),
        ("TENANT", "acme", 11, True),
        ("KEY", "key_1", 10, False),
        ("TENANT", "acme", 9, False),
        ("KEY", "key_2", 11, False),
        ("TENANT", "key_1", 11, False),
        ("KEY", "acme", 11, False),
        ("SESSION", "key_1", 11, False),
    ],
)
async def test_later_change_makes_a_token_outdated(
    client: Any, fake: Fake, scope: str, name: str, revision: int, outdated: bool
) -> None:
    verifier = Verifier(client)
    assert await verifier.verify(SIGNER.sign())
    await tell(client, fake, scope, name, revision)
    if not outdated:
        assert await verifier.verify(SIGNER.sign())
        return
    with pytest.raises(OutdatedPrincipalError) as caught:
        await verifier.verify(SIGNER.sign(), "no:such:scope")
    error = caught.value
    assert (error.kind, error.reason, error.retry_after) == (ErrorKind.OUTDATED, "OUTDATED_PRINCIPAL", 1.0)
    assert not error.is_transient, "the same token stays outdated"
    assert isinstance(error.copy(), OutdatedPrincipalError)
    assert await verifier.verify(SIGNER.sign(rev=11)), "a new token reflects the change"


async def test_start_over_forgets_the_changes(client: Any, fake: Fake) -> None:
    verifier = Verifier(client)
    await tell(client, fake, "KEY", "key_1", 11)
    with pytest.raises(OutdatedPrincipalError):
        await verifier.verify(SIGNER.sign())
    fake.start_over(3)
    await until(lambda: client.watch_state.revision == 3)
    assert await verifier.verify(SIGNER.sign())


async def test_own_change_counts_when_the_stream_tells(client: Any, fake: Fake) -> None:
    verifier = Verifier(client)
    await call_stub(client.raw.admin.RevokeKey, admin_pb2.RevokeKeyRequest(key_id="key_1"))
    assert await verifier.verify(SIGNER.sign(rev=11)), "the token may be newer than the change"
    await tell(client, fake, "KEY", "key_1", 12)
    with pytest.raises(OutdatedPrincipalError):
        await verifier.verify(SIGNER.sign(rev=11))


async def test_without_near_cache_a_token_is_honoured(connect: Connect, fake: Fake, clock: ManualClock) -> None:
    fake.jwks, fake.issuer = jwks(SIGNER), ISSUER
    verifier = Verifier(connect(clock=clock, near_cache=None))
    clock.advance(64)
    assert await verifier.verify(SIGNER.sign())
    assert not fake.calls["Watch"]


async def test_verification_closes_a_stream_that_hangs(client: Any, fake: Fake, clock: ManualClock) -> None:
    verifier = Verifier(client)
    assert await verifier.verify(SIGNER.sign())
    await tell(client, fake, "KEY", "other", 11)
    clock.advance(3.1)
    assert await verifier.verify(SIGNER.sign())
    await asyncio.to_thread(fake.until, lambda: not fake.streams)


def test_change_is_compared_by_revision(near: NearCache) -> None:
    near.invalidate(SubjectKind.KEY, "key_1", 11)
    assert near.has_changed("key_1", "acme", 10)
    assert not near.has_changed("key_1", "acme", 11)
    near.invalidate_local([(SubjectKind.KEY, "key_1"), (SubjectKind.TENANT, "acme")])
    assert not near.has_changed("key_1", "acme", 11)
