"""Responses of an HTTP API for each verdict and each failure."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import grpc
import httpx
import pytest
import pytest_asyncio
from fastapi import Depends, FastAPI, Request, WebSocket
from starlette.testclient import TestClient, WebSocketDenialResponse
from starlette.websockets import WebSocketDisconnect

from fake import Fake
from replies import Failure, answer
from tenant_auth import AsyncClient, Client, Options, Principal, UnavailableError
from tenant_auth._http import KeySource, UndecidedLog
from tenant_auth.asgi import ErrorResponseMiddleware, TenantAuthMiddleware
from tenant_auth.fastapi import RequireTenant
from tenant_auth.mcp import Handles, McpGate

KEY = "ta_canary_0123456789abcdef"
Call = Any


@pytest_asyncio.fixture
async def client(fake: Fake) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(fake.endpoint, Options(near_cache=None, retry=None)) as client:
        yield client


def behind_the_middleware(client: AsyncClient, header: Any = "Authorization") -> FastAPI:
    app = FastAPI()
    app.add_middleware(TenantAuthMiddleware, client=client, scopes="orders:read", exempt="/healthz", header=header)

    @app.get("/")
    async def root(request: Request) -> Principal:
        principal: Principal = request.state.principal
        return principal

    @app.get("/healthz")
    async def healthz() -> str:
        return "ok"

    return app


def with_the_dependency(client: AsyncClient, header: Any = "Authorization") -> FastAPI:
    app = FastAPI()
    require = RequireTenant(client, "orders:read", header=header)

    @app.get("/")
    async def root(principal: Annotated[Principal, Depends(require)]) -> Principal:
        return principal

    return app


@pytest.fixture(params=[behind_the_middleware, with_the_dependency])
def call(request: pytest.FixtureRequest, client: AsyncClient) -> Call:
    """Makes a request to either app. The result has the code of a rejection."""
    app = request.param(client)

    async def call(authorization: str | None = f"Bearer {KEY}") -> tuple[httpx.Response, str | None]:
        headers = {} if authorization is None else {"authorization": authorization}
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as http:
            response = await http.get("/", headers=headers)
        body = response.json()
        if response.status_code >= 400:
            assert response.headers["content-type"] == "application/problem+json"
            assert response.headers["cache-control"] == "no-store"
            assert (body["type"], body["status"]) == ("about:blank", response.status_code)
            assert body["title"]
            assert body["detail"]
        return response, body.get("code")

    return call


async def test_handler_gets_the_principal(call: Call, fake: Fake) -> None:
    fake.keys[KEY] = answer()
    response, _ = await call()
    assert response.status_code == 200
    assert response.json() == {
        "tenant_id": "acme",
        "tenant_name": "Acme",
        "plan": "pro",
        "key_id": "key_1",
        "scopes": ["orders:read"],
    }
    assert list(fake.requests[0].required_scopes) == ["orders:read"]
    assert (await call(f"bearer  {KEY}"))[0].status_code == 200


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", f"Basic {KEY}", KEY])
async def test_missing_key_is_rejected_without_a_call(call: Call, fake: Fake, authorization: str | None) -> None:
    response, code = await call(authorization)
    assert (response.status_code, code) == (401, "NO_CREDENTIALS")
    assert response.headers["www-authenticate"] == "Bearer"
    assert not fake.calls["ValidateKey"]


@pytest.mark.parametrize(
    ("verdict", "status", "code", "challenge"),
    [
        (2, 401, "UNKNOWN", 'Bearer error="invalid_token"'),
        (3, 401, "MALFORMED", 'Bearer error="invalid_token"'),
        (4, 401, "EXPIRED", 'Bearer error="invalid_token"'),
        (5, 401, "REVOKED", 'Bearer error="invalid_token"'),
        (6, 403, "TENANT_SUSPENDED", None),
        (7, 403, "INSUFFICIENT_SCOPE", 'Bearer error="insufficient_scope", scope="orders:read"'),
        (8, 429, "QUOTA_EXCEEDED", None),
        (9, 429, "RATE_LIMITED", None),
        (13, 403, "DISABLED", None),
        (14, 403, "ADDRESS_REQUIRED", None),
        (15, 403, "ADDRESS_NOT_ALLOWED", None),
        (99, 403, "UNRECOGNIZED(99)", None),
    ],
)
async def test_each_denial_has_its_status(
    call: Call, fake: Fake, verdict: int, status: int, code: str, challenge: str | None
) -> None:
    fake.keys[KEY] = answer(verdict, missing_scopes=["orders:read"] if verdict == 7 else [])
    response, given = await call()
    assert (response.status_code, given) == (status, code)
    assert response.headers.get("www-authenticate") == challenge
    assert response.json().get("missing_scopes") == (["orders:read"] if verdict == 7 else None)
    assert response.headers.get("retry-after") == ("1" if status == 429 else None)


@pytest.mark.parametrize(
    ("failure", "retry_after"),
    [
        (Failure(grpc.StatusCode.UNAVAILABLE), "1"),
        (Failure(grpc.StatusCode.UNAVAILABLE, retry_after=2.1), "3"),
        (Failure(grpc.StatusCode.RESOURCE_EXHAUSTED, retry_after=0.2), "1"),
        (Failure(grpc.StatusCode.DEADLINE_EXCEEDED), "1"),
        # A problem between this API and the service is not an error of the API's client.
        (Failure(grpc.StatusCode.UNAUTHENTICATED), "1"),
        (Failure(grpc.StatusCode.PERMISSION_DENIED), "1"),
        (Failure(grpc.StatusCode.INTERNAL), "1"),
        (Failure(grpc.StatusCode.INVALID_ARGUMENT, violations=[("required_scopes[0]", "is wrong")]), "1"),
    ],
)
async def test_service_failure_is_503(call: Call, fake: Fake, failure: Failure, retry_after: str) -> None:
    fake.permanent_failure = failure
    response, code = await call()
    assert (response.status_code, code) == (503, "UNDECIDED")
    assert response.headers["retry-after"] == retry_after
    assert KEY not in response.text


async def test_unsendable_key_is_malformed(call: Call, fake: Fake) -> None:
    fake.permanent_failure = Failure(grpc.StatusCode.INVALID_ARGUMENT, violations=[("key", "is invalid")])
    response, code = await call()
    assert (response.status_code, code) == (401, "MALFORMED")


async def test_errors_raised_by_handlers_are_converted(client: AsyncClient, fake: Fake) -> None:
    app = FastAPI()
    app.add_middleware(ErrorResponseMiddleware)

    @app.get("/")
    async def root() -> None:
        await client.server_info()

    fake.permanent_failure = Failure(grpc.StatusCode.UNAVAILABLE)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as http:
        response = await http.get("/")
    assert (response.status_code, response.headers["content-type"]) == (503, "application/problem+json")


@pytest.mark.parametrize(("verdict", "code"), [(5, 1008), (None, 1013)])
def test_websocket_is_closed_before_it_opens(fake: Fake, verdict: int | None, code: int) -> None:
    if verdict is None:
        fake.permanent_failure = Failure(grpc.StatusCode.UNAVAILABLE)
    else:
        fake.keys[KEY] = answer(verdict)
    app = FastAPI()
    client = AsyncClient(fake.endpoint, Options(near_cache=None, retry=None))
    app.add_middleware(TenantAuthMiddleware, client=client)

    @app.websocket("/")
    async def root(socket: WebSocket) -> None:
        await socket.accept()

    http = TestClient(app, headers={"authorization": f"Bearer {KEY}"})
    with (
        pytest.raises((WebSocketDisconnect, WebSocketDenialResponse)) as caught,
        http.websocket_connect("/"),
    ):
        pass
    assert getattr(caught.value, "code", None) == code


@pytest.mark.parametrize(
    ("headers", "key"),
    [
        ([("authorization", "Bearer a")], "a"),
        ([("X-Api-Key", "a")], "a"),
        ([("x-api-key", " ")], None),
        ([("authorization", "Bearer a"), ("Authorization", "Bearer b")], 400),
        ([("authorization", "Bearer a"), ("Authorization", "Bearer a")], 400),
        ([("authorization", "Basic a"), ("authorization", "Bearer a")], 400),
        ([("authorization", "Bearer a, Bearer b")], 400),
        ([("authorization", "Basic a,bearer b")], 400),
        ([("authorization", "Bearer a,b")], "a,b"),
        ([("authorization", "Bearer a"), ("x-api-key", "a")], "a"),
        ([("authorization", "Bearer a"), ("x-api-key", "b")], 400),
        ([("authorization", "Basic a"), ("x-api-key", "a")], 400),
        ([("authorization", "Bearer a"), ("x-api-key", " ")], "a"),
        ([("x-api-key", "a"), ("X-API-Key", "a")], 400),
    ],
)
def test_key_is_one_credential_in_one_or_several_headers(headers: list[tuple[str, str]], key: Any) -> None:
    found = KeySource(["Authorization", "X-API-Key"]).key([(n.encode(), v.encode()) for n, v in headers])
    assert getattr(found, "status", found) == key


@pytest.mark.parametrize("name", ["Authorization", "Mcp-Session-Id"])
def test_repeated_credential_headers_are_rejected(name: str) -> None:
    headers = [(b"x-api-key", b"a"), (name.encode(), b"Bearer a")]
    assert KeySource("X-API-Key").key(headers) == "a"
    found = KeySource("X-API-Key").key([*headers, headers[-1]])
    assert getattr(found, "code", None) == "AMBIGUOUS_REQUEST"


@pytest.mark.parametrize("header", ["", "a b", "a:", (), 5])
def test_invalid_header_name_is_rejected(header: Any, client: AsyncClient) -> None:
    for make in (KeySource, lambda header: RequireTenant(client, header=header)):
        with pytest.raises((ValueError, TypeError), match=r"^header "):
            make(header)


@pytest.mark.parametrize("exempt", ["healthz", ["/a", "b"], "/a?b", 5])
def test_invalid_exempt_path_is_rejected(exempt: Any, client: AsyncClient) -> None:
    with pytest.raises((ValueError, TypeError), match="exempt"):
        TenantAuthMiddleware(FastAPI(), client=client, exempt=exempt)


@pytest.mark.parametrize("client", [Client("127.0.0.1:1"), None])
def test_adapters_require_an_async_client(client: Any) -> None:
    for make in (
        lambda: TenantAuthMiddleware(FastAPI(), client=client),
        lambda: RequireTenant(client),
        lambda: Handles(client),
        lambda: McpGate(FastAPI(), client=client),
    ):
        with pytest.raises(TypeError, match="give AsyncClient"):
            make()


@pytest.mark.parametrize("make", [behind_the_middleware, with_the_dependency])
async def test_same_key_in_two_headers_is_admitted_and_two_keys_are_not(
    client: AsyncClient, fake: Fake, make: Any
) -> None:
    fake.keys[KEY] = answer()
    app = make(client, ["Authorization", "X-API-Key"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as http:
        for second, status in ((KEY, 200), ("another", 400)):
            headers = {"authorization": f"Bearer {KEY}", "x-api-key": second}
            assert (await http.get("/", headers=headers)).status_code == status


async def test_exempt_text_is_one_path(client: AsyncClient) -> None:
    transport = httpx.ASGITransport(behind_the_middleware(client))
    async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
        assert (await http.get("/healthz")).status_code == 200
        assert (await http.get("/")).status_code == 401


async def test_preflight_is_admitted_by_default(client: AsyncClient) -> None:
    states: list[Any] = []

    async def app(scope: Any, _receive: Any, send: Any) -> None:
        states.append(scope.get("state"))
        await send({"type": "http.response.start", "status": 204, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    preflight = {"origin": "https://app", "access-control-request-method": "GET"}
    for admitted in (True, False):
        transport = httpx.ASGITransport(TenantAuthMiddleware(app, client=client, preflight=admitted))
        async with httpx.AsyncClient(transport=transport, base_url="http://api") as http:
            assert (await http.options("/", headers=preflight)).status_code == (204 if admitted else 401)
            for partial in ({}, {"origin": "https://app"}, {"access-control-request-method": "GET"}):
                assert (await http.options("/", headers=partial)).status_code == 401, "this is not a preflight request"
            repeated = [*preflight.items(), ("authorization", "Bearer a"), ("authorization", "Bearer b")]
            assert (await http.options("/", headers=repeated)).status_code == 400
    assert states == [None]


def test_undecided_requests_are_logged_once_per_second(caplog: pytest.LogCaptureFixture) -> None:
    now = [0.0]
    log = UndecidedLog(lambda: now[0])
    for now[0] in (0.0, 0.5, 0.9, 1.0, 1.5):
        log.record(UnavailableError("no", code="UNAVAILABLE", reason="DATABASE_TIMED_OUT", request_id="r1"))
    assert [record.args[0] for record in caplog.records if isinstance(record.args, tuple)] == [1, 3]
    assert "DATABASE_TIMED_OUT, request r1" in caplog.text
