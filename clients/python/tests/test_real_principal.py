"""Principal tokens of the real service, verified by both clients."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import pytest_asyncio
from cryptography.hazmat.primitives import serialization

from conftest import Connect, call_stub, until
from fake import EVENT_TIMEOUT
from principal_tokens import ISSUER, Signer, Verifier
from service import fleet_in
from tenant_auth import DeniedError, InvalidPrincipalError, OutdatedPrincipalError
from tenant_auth.proto import admin_pb2


class Door:
    """The service, asked like a proxy asks it."""

    def __init__(self, endpoint: str, tenant: str, http: httpx.AsyncClient) -> None:
        self.endpoint = endpoint
        self.tenant = tenant
        self._http = http

    async def token(self, key: str) -> str:
        """Returns the principal token of an admitted request."""
        authorization = {"authorization": f"Bearer {key}"}
        response = await self._http.get("/forward-auth", params={"audience": "billing"}, headers=authorization)
        assert response.status_code == 200, response.text
        return response.headers["x-tenant-principal"]


def private_keys(folder: Path, *signers: Signer) -> str:
    """The path of a file with the keys of these signers."""
    pem = [
        signer.private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        for signer in signers
    ]
    path = folder / "principal-keys.pem"
    path.write_bytes(b"".join(pem))
    return str(path)


def free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


@pytest.fixture(params=["EdDSA", "ES256"], scope="module")
def addresses(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """Endpoint, forward address and tenant of a service that signs with this algorithm and publishes another key."""
    folder = tmp_path_factory.mktemp("principal")
    signers = (Signer(algorithm=request.param), Signer(algorithm="ES256"))
    with fleet_in(folder) as fleet:
        forward = free_address()
        replica = fleet.start(
            TENANT_AUTH_FORWARD_LISTEN=forward,
            TENANT_AUTH_PRINCIPAL_KEYS_FILE=private_keys(folder, *signers),
            TENANT_AUTH_PRINCIPAL_ISSUER=ISSUER,
        )
        yield replica.endpoint, forward, fleet.tenant


@pytest_asyncio.fixture
async def door(addresses: tuple[str, ...]) -> AsyncIterator[Door]:
    endpoint, forward, tenant = addresses
    async with httpx.AsyncClient(base_url=f"http://{forward}", timeout=EVENT_TIMEOUT, trust_env=False) as http:
        yield Door(endpoint, tenant, http)


async def issue(client: Any, door: Door) -> Any:
    request = admin_pb2.IssueKeyRequest(tenant_id=door.tenant, name="test", scopes=["demo:read"])
    return await call_stub(client.raw.admin.IssueKey, request, timeout=10.0)


async def test_token_of_the_service_is_valid(door: Door, connect: Connect) -> None:
    client = connect(door.endpoint)
    issued = await issue(client, door)
    token = await door.token(issued.plaintext)
    verifier = Verifier(client)
    principal = await verifier.verify(token, "demo:read", timeout=10.0)
    assert (principal.tenant_id, principal.key_id) == (door.tenant, issued.key.key_id)
    assert principal.scopes == ("demo:read",)
    assert principal.revision > 0
    assert 0 < (principal.expires_at - principal.issued_at).total_seconds() <= 60
    with pytest.raises(DeniedError) as caught:
        await verifier.verify(token, "demo:write")
    assert caught.value.missing_scopes == ("demo:write",)
    with pytest.raises(InvalidPrincipalError, match="another audience"):
        await Verifier(client, "shipping").verify(token)


async def test_token_is_outdated_after_a_revocation(door: Door, connect: Connect) -> None:
    client, admin = connect(door.endpoint), connect(door.endpoint, near_cache=None)
    verifier = Verifier(client)
    await until(lambda: client.watch_state.live)
    issued = await issue(admin, door)
    token = await door.token(issued.plaintext)
    assert await verifier.verify(token, timeout=10.0)
    revocation = admin_pb2.RevokeKeyRequest(key_id=issued.key.key_id, reason="test")
    await call_stub(admin.raw.admin.RevokeKey, revocation, timeout=10.0)

    async def verify_until_refused() -> None:
        async with asyncio.timeout(EVENT_TIMEOUT):
            while await verifier.verify(token):
                await asyncio.sleep(0.002)

    with pytest.raises(OutdatedPrincipalError):
        await verify_until_refused()
