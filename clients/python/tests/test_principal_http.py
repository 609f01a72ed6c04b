"""Responses of an HTTP API behind a proxy, for each kind of principal token."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import httpx
import pytest
import pytest_asyncio
from fastapi import Depends, FastAPI, Request

from fake import Fake
from principal_tokens import ISSUER, Signer, jwks
from tenant_auth import AsyncClient, AsyncPrincipalVerifier, Client, Options, VerifiedPrincipal
from tenant_auth._near_cache import SubjectKind
from tenant_auth.asgi import PrincipalMiddleware
from tenant_auth.fastapi import RequirePrincipal
from tenant_auth.testing import ManualClock

SIGNER = Signer()
INVALID = 'Bearer error="invalid_token"'
Call = Any


def behind_the_middleware(verifier: AsyncPrincipalVerifier) -> FastAPI:
    app = FastAPI()
    app.add_middleware(PrincipalMiddleware, verifier=verifier, scopes="orders:read", exempt="/healthz")

    @app.get("/")
    async def root(request: Request) -> str:
        return str(request.state.principal.tenant_id)

    @app.get("/healthz")
    async def healthz() -> str:
        return "ok"

    return app


def with_the_dependency(verifier: AsyncPrincipalVerifier) -> FastAPI:
    app = FastAPI()
    require = RequirePrincipal(verifier, "orders:read")

    @app.get("/")
    async def root(principal: Annotated[VerifiedPrincipal, Depends(require)]) -> str:
        return principal.tenant_id

    return app


@pytest_asyncio.fixture
async def client(fake: Fake, clock: ManualClock) -> AsyncIterator[AsyncClient]:
    fake.jwks, fake.issuer = jwks(SIGNER), ISSUER
    async with AsyncClient(fake.endpoint, Options(clock=clock, retry=None)) as client:
        yield client


@pytest.fixture(params=[behind_the_middleware, with_the_dependency])
def call(request: pytest.FixtureRequest, client: AsyncClient) -> Call:
    """Makes a request with these tokens. Returns status, code or tenant, and the headers."""
    app = request.param(client.principal_verifier("billing"))

    async def call(*tokens: str) -> tuple[int, str, httpx.Headers]:
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as http:
            response = await http.get("/", headers=[("x-tenant-principal", token) for token in tokens])
        body = response.json()
        if response.status_code == 200:
            return 200, body, response.headers
        assert response.headers["content-type"] == "application/problem+json"
        assert response.headers["cache-control"] == "no-store"
        assert not any(token and token in response.text for token in tokens)
        return response.status_code, body["code"], response.headers

    return call


async def test_each_kind_of_token_has_its_status(call: Call) -> None:
    token = SIGNER.sign()
    for tokens, expected, challenge in (
        ([token], (200, "acme"), None),
        ([], (401, "NO_CREDENTIALS"), "Bearer"),
        ([""], (401, "NO_CREDENTIALS"), "Bearer"),
        ([token, token], (400, "AMBIGUOUS_REQUEST"), None),
        ([SIGNER.sign(aud="other")], (401, "INVALID_PRINCIPAL"), INVALID),
        (["x"], (401, "INVALID_PRINCIPAL"), INVALID),
        (
            [SIGNER.sign(scope="")],
            (403, "INSUFFICIENT_SCOPE"),
            'Bearer error="insufficient_scope", scope="orders:read"',
        ),
    ):
        status, code, headers = await call(*tokens)
        assert ((status, code), headers.get("www-authenticate")) == (expected, challenge)
        assert "retry-after" not in headers


async def test_outdated_token_is_503(call: Call, client: AsyncClient, caplog: pytest.LogCaptureFixture) -> None:
    near = client._core.near_cache
    assert near is not None
    near.invalidate(SubjectKind.KEY, "key_1", 11)
    status, code, headers = await call(SIGNER.sign())
    assert (status, code, headers["retry-after"]) == (503, "OUTDATED_PRINCIPAL", "1")
    assert not caplog.records, "it is no outage"


async def test_token_that_cannot_be_decided_is_503(call: Call, fake: Fake) -> None:
    fake.jwks = '{"keys":[]}'
    status, code, headers = await call(SIGNER.sign())
    assert (status, code, headers["retry-after"]) == (503, "UNDECIDED", "1")


async def test_scope_that_may_be_omitted_is_503(call: Call) -> None:
    status, code, headers = await call(SIGNER.sign(scope="", scope_omitted=1))
    assert (status, code, headers["retry-after"]) == (503, "UNDECIDED", "1")


async def test_exempt_paths_and_preflights_need_no_token(client: AsyncClient) -> None:
    app = behind_the_middleware(client.principal_verifier("billing"))
    preflight = {"origin": "https://app", "access-control-request-method": "GET"}
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as http:
        assert (await http.get("/healthz")).status_code == 200
        assert (await http.options("/", headers=preflight)).status_code == 405, "the app has no such method"
        assert (await http.options("/")).status_code == 401


def test_adapters_require_a_verifier_for_asyncio() -> None:
    verifier: Any = Client("127.0.0.1:1").principal_verifier("billing")
    for make in (lambda: PrincipalMiddleware(FastAPI(), verifier=verifier), lambda: RequirePrincipal(verifier)):
        with pytest.raises(TypeError, match="give AsyncPrincipalVerifier"):
            make()
