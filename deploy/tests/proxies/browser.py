"""A client that sends exactly the bytes it is given."""

import http.client
import json
import socket
from dataclasses import dataclass

TIMEOUT = 10
# The headers of a request for a WebSocket.
HANDSHAKE = [
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
]
# What a browser asks before it sends a request to another origin (CORS).
PREFLIGHT = [("Origin", "https://shop.example"), ("Access-Control-Request-Method", "POST")]


@dataclass
class Response:
    """What the client got."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def json(self):
        return json.loads(self.body)

    def code(self):
        """The code of a problem; empty if the body is none."""
        if self.headers.get("content-type", "").partition(";")[0] != "application/problem+json":
            return ""
        return self.json()["code"]


class Connection:
    """A connection that may be used again."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def exchange(self, request, method="GET"):
        self.socket.sendall(request)
        parsed = http.client.HTTPResponse(self.socket, method=method)
        parsed.begin()
        return Response(parsed.status, parsed.headers, parsed.read())


def request(path="/", headers=(), method="GET", body=b""):
    """A request; its headers are pairs, or lines."""
    lines = [f"{method} {path} HTTP/1.1", "Host: shop.example"]
    lines += [line if isinstance(line, str) else f"{line[0]}: {line[1]}" for line in headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


def send(port, path="/", headers=(), method="GET", body=b""):
    with Connection(port) as connection:
        return connection.exchange(request(path, headers, method, body), method)


def bearer(key):
    return ("Authorization", f"Bearer {key}")
