"""The adapters with costs, and the fake service."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

import grpc
import httpx
import pytest
import pytest_asyncio
from fastapi import Depends, FastAPI, Request, Response, WebSocket
from starlette.requests import HTTPConnection
from starlette.responses import StreamingResponse

from fake import Fake
from guards import Source
from limit_replies import QUOTA_EXCEEDED, RATE_LIMITED, consumed, exceeded, limit
from replies import Failure, answer
from tenant_auth import AsyncClient, LimitDecision, Options, Principal
from tenant_auth.asgi import ErrorResponseMiddleware, TenantAuthMiddleware, limit_headers
from tenant_auth.fastapi import RequireTenant
from tenant_auth.mcp import McpGate

KEY = "ta_canary_0123456789abcdef"
BEARER = {"authorization": f"Bearer {KEY}"}
COSTS = {"requests": 1}
BURST = {"limit": 10, "remaining": 3, "window": 1.0, "reset_after": 0.7}
POLICY = '"requests";q=100;w=3600, "burst";q=10;w=1'
LEFT = '"requests";r=99;t=1800, "burst";r=3;t=1'


@pytest_asyncio.fixture
async def client(fake: Fake) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(fake.endpoint, Options(near_cache=None, retry=None)) as client:
        yield client


def behind_the_middleware(client: AsyncClient, costs: Any = COSTS) -> FastAPI:
    app = FastAPI()
    app.add_middleware(TenantAuthMiddleware, client=client, scopes="orders:read", costs=costs)

    @app.get("/{path}")
    async def root(request: Request) -> list[str]:
        assert request.state.principal.tenant_id == "acme"
        return [one.name for one in request.state.limits]

    return app


def with_the_dependency(client: AsyncClient, costs: Any = COSTS) -> FastAPI:
    app = FastAPI()
    require = RequireTenant(client, "orders:read", costs=costs)

    @app.get("/{path}")
    async def root(request: Request, principal: Annotated[Principal, Depends(require)]) -> list[str]:
        assert principal.tenant_id == "acme"
        return [one.name for one in request.state.limits]

    return app


MAKERS = pytest.mark.parametrize("make", [behind_the_middleware, with_the_dependency])


async def get(app: Any, path: str = "/orders", headers: Any = BEARER) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://api") as http:
        return await http.get(path, headers=headers)


@MAKERS
async def test_admitted_request_has_the_headers_of_its_limits(client: AsyncClient, fake: Fake, make: Any) -> None:
    fake.limits["Consume"] = consumed(1, limit("requests"), limit("burst", **BURST))
    response = await get(make(client))
    assert (response.status_code, response.json()) == (200, ["requests", "burst"])
    assert response.headers["ratelimit-policy"] == POLICY
    assert response.headers["ratelimit"] == LEFT
    assert "retry-after" not in response.headers
    (sent,) = fake.requests
    assert (sent.credential.key.key, list(sent.credential.key.required_scopes)) == (KEY, ["orders:read"])
    assert {one.metric: one.amount for one in sent.costs} == COSTS
    assert not fake.calls["ValidateKey"], "one call"


@MAKERS
@pytest.mark.parametrize(
    ("verdict", "code", "retry_after", "header"),
    [
        (QUOTA_EXCEEDED, "QUOTA_EXCEEDED", 90.5, "91"),
        (RATE_LIMITED, "RATE_LIMITED", 0.02, "1"),
        (QUOTA_EXCEEDED, "QUOTA_EXCEEDED", None, None),
    ],
)
async def test_denied_request_is_429(
    client: AsyncClient, fake: Fake, make: Any, verdict: int, code: str, retry_after: float | None, header: str | None
) -> None:
    fake.limits["Consume"] = consumed(verdict, exceeded("requests", retry_after=retry_after), limit("burst", **BURST))
    response = await get(make(client))
    assert (response.status_code, response.json()["code"]) == (429, code)
    assert response.json()["detail"] == "A limit is exceeded: requests."
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers.get("retry-after") == header
    assert response.headers["ratelimit-policy"] == POLICY
    assert response.headers["ratelimit"] == '"requests";r=0;t=1800, "burst";r=3;t=1'


@MAKERS
async def test_other_denials_and_failures_are_as_without_costs(client: AsyncClient, fake: Fake, make: Any) -> None:
    app = make(client)
    for verdict, status in ((5, 401), (2, 401), (7, 403), (6, 403)):
        fake.limits["Consume"] = consumed(verdict)
        response = await get(app)
        assert (response.status_code, "ratelimit" in response.headers) == (status, False)
    fake.permanent_failure = Failure(grpc.StatusCode.INVALID_ARGUMENT, violations=[("credential.key.key", "is bad")])
    response = await get(app)
    assert (response.status_code, response.json()["code"]) == (401, "MALFORMED")
    fake.permanent_failure = Failure(grpc.StatusCode.UNAVAILABLE, reason="LIMIT_UNDECIDED", retry_after=1.5)
    response = await get(app)
    assert (response.status_code, response.json()["code"], response.headers["retry-after"]) == (503, "UNDECIDED", "2")
    assert response.json()["detail"] == "The limits could not be checked now."
    calls = fake.calls["Consume"]
    for headers in ({}, {"authorization": "Basic eDp5"}):
        assert (await get(app, headers=headers)).status_code == 401
    assert fake.calls["Consume"] == calls


@pytest.mark.parametrize(
    ("make", "costs"),
    [
        (behind_the_middleware, lambda scope: {} if scope["path"] == "/free" else {"reports": 5}),
        (with_the_dependency, lambda connection: {} if connection.url.path == "/free" else {"reports": 5}),
    ],
)
async def test_function_decides_the_costs_of_each_request(
    client: AsyncClient, fake: Fake, make: Any, costs: Any
) -> None:
    fake.keys[KEY] = answer()
    fake.limits["Consume"] = consumed(1, limit("reports"))
    app = make(client, costs)
    assert (await get(app)).json() == ["reports"]
    assert [(one.metric, one.amount) for one in fake.requests[0].costs] == [("reports", 5)]
    response = await get(app, "/free")
    assert (response.json(), "ratelimit" in response.headers) == ([], False)
    assert (fake.calls["Consume"], fake.calls["ValidateKey"]) == (1, 1)


async def test_without_costs_nothing_changes(client: AsyncClient, fake: Fake) -> None:
    fake.keys[KEY] = answer()
    app = FastAPI()
    app.add_middleware(TenantAuthMiddleware, client=client)

    @app.get("/")
    async def root(request: Request) -> bool:
        return hasattr(request.state, "limits")

    response = await get(app, "/")
    assert (response.json(), "ratelimit" in response.headers) == (False, False)
    assert not fake.calls["Consume"]


@MAKERS
@pytest.mark.parametrize(
    ("costs", "message"),
    [
        ("requests", "costs is str"),
        (["requests"], "costs is list"),
        ({}, "costs has 0 metrics: give 1 to 16"),
        ({f"m{number}": 1 for number in range(17)}, "costs has 17 metrics"),
        ({"Requests": 1}, "costs has the metric 'Requests'"),
        ({"requests": 0}, "costs..requests.. is 0: give a whole number from 1"),
        ({"requests": 10**9 + 1}, "costs..requests.. is 1000000001"),
        ({"requests": 1.0}, "costs..requests.. is float"),
    ],
)
def test_invalid_costs_are_rejected_at_once(client: AsyncClient, make: Any, costs: Any, message: str) -> None:
    for create in (
        lambda: TenantAuthMiddleware(FastAPI(), client=client, costs=costs),
        lambda: RequireTenant(client, costs=costs),
        lambda: McpGate(FastAPI(), client=client, costs=costs),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            create()


def test_coroutine_function_is_rejected_as_costs(client: AsyncClient) -> None:
    async def costs(_connection: HTTPConnection) -> dict[str, int]:
        return COSTS

    with pytest.raises(TypeError, match="costs is a coroutine function"):
        RequireTenant(client, costs=costs)  # type: ignore[arg-type]


async def test_events_are_guarded_and_have_the_headers(fake: Fake) -> None:
    fake.keys[KEY] = answer()
    fake.limits["Consume"] = consumed(1, limit("requests"))
    source = Source()
    source.send("data: first\n\n")
    source.send(None)
    async with AsyncClient(fake.endpoint) as client:
        app = FastAPI()
        app.add_middleware(TenantAuthMiddleware, client=client, costs=COSTS)

        @app.get("/events")
        async def events() -> Response:
            return StreamingResponse(source.stream(), media_type="text/event-stream")

        response = await get(app, "/events")
    assert (response.text, response.headers["ratelimit"]) == ("data: first\n\n", '"requests";r=99;t=1800')


@MAKERS
async def test_websocket_is_accepted_with_limits(client: AsyncClient, fake: Fake, make: Any) -> None:
    fake.keys[KEY] = answer()
    fake.limits["Consume"] = consumed(1, limit("requests"))
    app = FastAPI()
    if make is behind_the_middleware:
        app.add_middleware(TenantAuthMiddleware, client=client, costs=COSTS)
    needed = [Depends(RequireTenant(client, costs=COSTS))] if make is with_the_dependency else []

    @app.websocket("/socket", dependencies=needed)
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(websocket.state.limits[0].name)

    sent: list[Any] = []
    headers = [(name.encode(), value.encode()) for name, value in BEARER.items()]
    scope = {"type": "websocket", "path": "/socket", "query_string": b"", "headers": headers, "subprotocols": []}

    async def receive() -> Any:
        return {"type": "websocket.connect"}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    assert [message["type"] for message in sent[:2]] == ["websocket.accept", "websocket.send"]
    assert sent[1]["text"] == "requests"
    if make is behind_the_middleware:
        assert (b"ratelimit", b'"requests";r=99;t=1800') in sent[0]["headers"]


async def test_denial_that_a_handler_raises_is_converted(client: AsyncClient, fake: Fake) -> None:
    fake.limits["Consume"] = consumed(RATE_LIMITED, exceeded("requests", retry_after=3.0))
    app = FastAPI()
    app.add_middleware(ErrorResponseMiddleware)

    @app.get("/")
    async def root() -> str:
        return (await client.consume(KEY, COSTS)).principal.tenant_id

    response = await get(app, "/")
    assert (response.status_code, response.json()["code"]) == (429, "RATE_LIMITED")
    assert (response.headers["retry-after"], response.headers["ratelimit"]) == ("3", '"requests";r=0;t=1800')


def test_headers_leave_out_what_is_not_known() -> None:
    def one(name: str, **more: Any) -> LimitDecision:
        return LimitDecision(name=name, metric="requests", limit=10, remaining=4, **more)

    assert limit_headers([]) == {}
    assert limit_headers([one("planned", shadow=True)]) == {}
    assert limit_headers([one("a", window=0.1, reset_after=0.0), one("planned", shadow=True), one("credits")]) == {
        "RateLimit-Policy": '"a";q=10;w=1, "credits";q=10',
        "RateLimit": '"a";r=4;t=0, "credits";r=4',
    }
