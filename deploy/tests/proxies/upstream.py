"""The application behind the proxies: a server that reads requests leniently, as some applications do, and records what
it was sent."""

import asyncio
import base64
import contextlib
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field

# RFC 6455, for the answer to a handshake.
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
# Where a lenient reader may see the end of a line.
LINE_ENDS = re.compile(rb"\r\n|\n|\r")


@dataclass
class Received:
    """One request as the application saw it."""

    method: str
    target: str
    headers: list[tuple[str, str]]
    trailers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""

    def values(self, name):
        """The values of all headers and trailers whose name is this one for some application."""
        return [value for key, value in self.headers + self.trailers if normalized(key) == name]

    def identity(self):
        """All headers and trailers that an application may take for a statement about the tenant."""
        named = [(normalized(key), value) for key, value in self.headers + self.trailers]
        return [(key, value) for key, value in named if key.startswith("x-tenant-")]


def normalized(name):
    """A header's name as lenient applications see it: of any case, `_` for `-`, without blanks and control bytes."""
    return re.sub(r"[\x00-\x20\x7f-\xff]", "", name).lower().replace("_", "-")


def headers_of(lines):
    """The headers in these lines. A folded line counts as one of its own: an application may take it for one."""
    pairs = [line.partition(b":") for line in lines if b":" in line]
    return [(name.decode("latin-1"), value.strip().decode("latin-1")) for name, _, value in pairs]


def seen(response):
    """The request that the application answers with."""
    assert response.status == 200, response
    shown = response.json()
    headers, trailers = ([tuple(pair) for pair in shown[part]] for part in ("headers", "trailers"))
    return Received(shown["method"], shown["target"], headers, trailers, shown["body"].encode("latin-1"))


async def read_request(reader):
    """The next request of a connection; None at its end."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = LINE_ENDS.split(head[:-4])
    words = first.decode("latin-1").split(" ")
    received = Received(words[0], words[1] if len(words) > 1 else "", headers_of(lines))
    framing = {name.strip().lower(): value for name, value in received.headers}
    if "chunked" in framing.get("transfer-encoding", "").lower():
        received.body, received.trailers = await read_chunks(reader)
    elif length := framing.get("content-length"):
        received.body = await reader.readexactly(int(length))
    return received


async def read_chunks(reader):
    body = b""
    while True:
        size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
        if size:
            body += (await reader.readexactly(size + 2))[:-2]
            continue
        lines = []
        while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
            lines += LINE_ENDS.split(line)
        return body, headers_of(lines)


def response(status, body, content_type="application/json", headers=""):
    head = (
        f"HTTP/1.1 {status} Said by the application\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n"
    )
    return (head + headers + "\r\n").encode() + body


class Upstream:
    """Listens on a free port, in a thread of its own, until the tests end."""

    def __init__(self, record=None):
        # Called with each request.
        self.record = record or (lambda received: None)
        self.next_event = threading.Event()
        self.loop, self.started = asyncio.new_event_loop(), threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        self.started.wait()

    def recorded(self, act):
        """The requests that arrive during an action, apart from others' callback."""
        received, before = [], self.record
        self.record = received.append
        try:
            act()
        finally:
            self.record = before
        return received

    def run(self):
        self.loop.run_until_complete(self.listen())
        self.started.set()
        self.loop.run_forever()

    async def listen(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, limit=1 << 20)
        self.port = self.server.sockets[0].getsockname()[1]

    def end(self):
        asyncio.run_coroutine_threadsafe(self.close(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()

    async def close(self):
        self.server.close()
        serving = asyncio.all_tasks() - {asyncio.current_task()}
        for task in serving:
            task.cancel()
        await asyncio.gather(*serving, return_exceptions=True)

    async def serve(self, reader, writer):
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ValueError):
            while received := await read_request(reader):
                self.record(received)
                if received.values("upgrade"):
                    await self.tunnel(received, reader, writer)
                    break
                await self.answer(received, writer)
                await writer.drain()
        writer.close()

    async def answer(self, received, writer):
        path = received.target.partition("?")[0]
        if path.endswith("/events"):
            await self.send_events(writer)
        elif status := re.search(r"/status/(\d+)$", path):
            writer.write(response(status[1], b"the application's own", "text/plain"))
        elif received.method == "OPTIONS":
            writer.write(response(204, b"", headers="access-control-allow-origin: https://shop.example\r\n"))
        else:
            seen = {"method": received.method, "target": received.target, "headers": received.headers}
            seen |= {"body": received.body.decode("latin-1"), "trailers": received.trailers}
            writer.write(response(200, json.dumps(seen).encode()))

    async def tunnel(self, received, reader, writer):
        """A WebSocket, as far as a proxy can tell: after the handshake, bytes come back as they were."""
        accept = base64.b64encode(hashlib.sha1("".join(received.values("sec-websocket-key")).encode() + GUID).digest())
        writer.write(
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
            b"sec-websocket-accept: " + accept + b"\r\n\r\n"
        )
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()

    async def send_events(self, writer):
        """A stream of events: the second follows when the test has received the first."""
        self.next_event.clear()
        writer.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
            b"d\r\ndata: first\n\n\r\n"
        )
        await writer.drain()
        await asyncio.to_thread(self.next_event.wait, 10)
        writer.write(b"e\r\ndata: second\n\n\r\n0\r\n\r\n")
