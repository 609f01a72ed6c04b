"""Server-Sent Events, WebSockets and gRPC streams end with their key, with the fake service."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated, Any

import grpc
import grpc.aio
import httpx2
import pytest
import pytest_asyncio
from fastapi import Depends, FastAPI, Request, WebSocket
from starlette.responses import StreamingResponse

from conftest import until
from fake import Fake
from guards import KEY, Source, guards_of, next_of, settle, watch
from mcp_servers import listening
from replies import answer
from tenant_auth import AsyncClient, DeniedError, Options, Principal
from tenant_auth.asgi import TenantAuthMiddleware
from tenant_auth.fastapi import RequireTenant
from tenant_auth.streams import guard_events, guard_websocket

HEADERS = {"authorization": f"Bearer {KEY}"}
END = 'event: end\ndata: {"code": "REVOKED", "detail": "The key was revoked."}\n\n'


@pytest_asyncio.fixture
async def client(fake: Fake) -> AsyncIterator[AsyncClient]:
    fake.keys[KEY] = answer()
    async with AsyncClient(fake.endpoint, Options(retry=None)) as client:
        await watch(fake, client)
        yield client


class Socket:
    """The customer's side of a WebSocket."""

    def __init__(self, app: Any) -> None:
        self._sent: asyncio.Queue[Any] = asyncio.Queue()
        self._received: asyncio.Queue[Any] = asyncio.Queue()
        headers = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
        scope = {"type": "websocket", "path": "/socket", "query_string": b"", "headers": headers, "subprotocols": []}
        self._sent.put_nowait({"type": "websocket.connect"})
        self.task = asyncio.create_task(app(scope, self._sent.get, self._received.put))

    async def receive(self) -> Any:
        return await self._received.get()

    def leave(self) -> None:
        self._sent.put_nowait({"type": "websocket.disconnect", "code": 1001})


def revoke(fake: Fake) -> None:
    fake.keys[KEY] = answer(5, revision=11)
    fake.invalidate("KEY", "key_1", 11)


def behind_the_middleware(client: AsyncClient, source: Source, **options: Any) -> FastAPI:
    app = FastAPI()
    app.add_middleware(TenantAuthMiddleware, client=client, **options)

    @app.get("/events")
    async def events() -> StreamingResponse:
        return StreamingResponse(source.stream(), media_type="text/event-stream")

    @app.get("/plain")
    async def plain() -> StreamingResponse:
        return StreamingResponse(source.stream(), media_type="text/plain")

    @app.websocket("/socket")
    async def socket(websocket: WebSocket) -> None:
        await websocket.accept()
        await talk(websocket, source)

    return app


async def talk(websocket: WebSocket, source: Source) -> None:
    """Sends the items until the customer leaves."""
    async with asyncio.TaskGroup() as tasks:
        leaving = tasks.create_task(websocket.receive())
        async for item in source.stream():
            if leaving.done():
                return
            await websocket.send_text(item)


def with_the_dependency(client: AsyncClient, source: Source) -> FastAPI:
    app = FastAPI()
    tenant = Annotated[Principal, Depends(RequireTenant(client))]

    @app.get("/events")
    async def events(principal: tenant) -> StreamingResponse:
        stream = guard_events(client, principal, source.stream())
        return StreamingResponse(stream, media_type="text/event-stream")

    @app.websocket("/socket")
    async def socket(websocket: WebSocket, principal: tenant) -> None:
        await websocket.accept()
        async with guard_websocket(client, principal, websocket):
            await talk(websocket, source)

    return app


@pytest.mark.parametrize("make", [behind_the_middleware, with_the_dependency])
async def test_events_end_with_the_verdict(client: AsyncClient, fake: Fake, make: Any) -> None:
    source = Source()
    async with (
        listening(make(client, source)) as url,
        httpx2.AsyncClient(headers=HEADERS) as http,
        http.stream("GET", f"{url}/events") as response,
    ):
        chunks = response.aiter_text()
        source.send("data: first\n\n")
        assert await anext(chunks) == "data: first\n\n"
        assert len(guards_of(client)) == 1
        revoke(fake)
        assert "".join([chunk async for chunk in chunks]) == END
        await until(lambda: source.closed and len(guards_of(client)) == 0)


@pytest.mark.parametrize("make", [behind_the_middleware, with_the_dependency])
async def test_no_event_follows_half_an_event(client: AsyncClient, fake: Fake, make: Any) -> None:
    source = Source()
    async with (
        listening(make(client, source)) as url,
        httpx2.AsyncClient(headers=HEADERS) as http,
        http.stream("GET", f"{url}/events") as response,
    ):
        chunks = response.aiter_text()
        source.send("data: half")
        assert await anext(chunks) == "data: half"
        revoke(fake)
        assert "".join([chunk async for chunk in chunks]) == ""


@pytest.mark.parametrize("make", [behind_the_middleware, with_the_dependency])
async def test_events_end_normally(client: AsyncClient, make: Any) -> None:
    source = Source()
    async with listening(make(client, source)) as url, httpx2.AsyncClient(headers=HEADERS) as http:
        source.send("data: first\n\n")
        source.send(None)
        assert (await http.get(f"{url}/events")).text == "data: first\n\n"
        await until(lambda: len(guards_of(client)) == 0)


async def test_only_live_responses_are_guarded(client: AsyncClient, fake: Fake) -> None:
    source = Source()
    for path, options in (("plain", {}), ("events", {"guard": False})):
        async with (
            listening(behind_the_middleware(client, source, **options)) as url,
            httpx2.AsyncClient(headers=HEADERS) as http,
            http.stream("GET", f"{url}/{path}") as response,
        ):
            source.send("data: first\n\n")
            assert await anext(response.aiter_text()) == "data: first\n\n"
            assert len(guards_of(client)) == 0
            source.send(None)


@pytest.mark.parametrize("make", [behind_the_middleware, with_the_dependency])
async def test_leaving_client_releases_the_guard(client: AsyncClient, make: Any) -> None:
    source = Source()
    async with listening(make(client, source)) as url, httpx2.AsyncClient(headers=HEADERS) as http:
        async with http.stream("GET", f"{url}/events") as response:
            source.send("data: first\n\n")
            await anext(response.aiter_text())
        await until(lambda: len(guards_of(client)) == 0)
    socket = Socket(make(client, source))
    await until(lambda: len(guards_of(client)) == 1)
    socket.leave()
    await asyncio.sleep(0)
    source.send("to nobody")
    await socket.task
    assert len(guards_of(client)) == 0


@pytest.mark.parametrize("make", [behind_the_middleware, with_the_dependency])
@pytest.mark.parametrize(("outcome", "code"), [("REVOKED", 1008), ("UNDECIDED", 1013)])
async def test_websocket_is_closed_with_the_verdict(
    client: AsyncClient, fake: Fake, make: Any, outcome: str, code: int
) -> None:
    source = Source()
    socket = Socket(make(client, source))
    source.send("first")
    assert (await socket.receive())["type"] == "websocket.accept"
    assert (await socket.receive())["text"] == "first"
    await settle(client)
    if outcome == "REVOKED":
        revoke(fake)
    else:
        guards_of(client).close()
    assert await socket.receive() == {"type": "websocket.close", "code": code, "reason": outcome}
    await socket.task
    assert len(guards_of(client)) == 0


async def test_errors_of_a_handler_are_not_taken_for_the_end(client: AsyncClient) -> None:
    app = FastAPI()
    app.add_middleware(TenantAuthMiddleware, client=client)
    caught: list[Any] = []

    @app.get("/")
    async def fail(request: Request) -> None:
        try:
            await client.require_key("unknown")
        except DeniedError as denial:
            caught.append(denial)
            raise

    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://api", headers=HEADERS) as http:
        with pytest.raises(DeniedError):
            await http.get("/")
    assert len(caught) == 1


async def test_grpc_stream_ends_with_the_verdict(client: AsyncClient, fake: Fake) -> None:
    source = Source()

    async def watch_orders(_request: bytes, context: Any) -> AsyncIterator[bytes]:
        principal = await client.require_key(KEY)
        try:
            async for reply in client.guard(principal, source.stream()):
                yield reply
        except DeniedError as denial:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, denial.verdict.name)

    server = grpc.aio.server()
    handler: Any = grpc.unary_stream_rpc_method_handler(watch_orders)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Orders", {"Watch": handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        watching: Any = channel.unary_stream("/Orders/Watch")
        call = watching(b"")
        source.send(b"first")
        assert await call.read() == b"first"
        await settle(client)
        revoke(fake)
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await call.read()
    assert (failed.value.code(), failed.value.details()) == (grpc.StatusCode.UNAUTHENTICATED, "REVOKED")
    assert source.closed
    await server.stop(None)


async def test_undecided_end_says_so(client: AsyncClient) -> None:
    principal = await client.require_key(KEY)
    source = Source()
    events = guard_events(client, principal, source.stream())
    waiting = next_of(events)
    await until(lambda: len(guards_of(client)) == 1)
    await settle(client)
    guards_of(client).close()
    last = (await waiting).decode()
    assert json.loads(last.partition("data: ")[2])["code"] == "UNDECIDED"
    with pytest.raises(StopAsyncIteration):
        await anext(events)
