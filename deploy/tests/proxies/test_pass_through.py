"""What an admitted request, and its response, must not lose on their way."""

import hashlib
import http.client
import random
from pathlib import Path
from urllib.parse import unquote

import pytest

from bed import LONG_SCOPES
from browser import HANDSHAKE, PREFLIGHT, Connection, bearer, request, send
from identity import IDENTITY, check_identity
from upstream import seen


@pytest.fixture
def key(bed):
    return bearer(bed.secret("valid"))


def read_until(connection, end):
    data = b""
    while end not in data:
        received = connection.socket.recv(65536)
        assert received, data
        data += received
    return data


def test_websocket_passes(proxy, bed, key):
    with Connection(proxy.port) as connection:
        connection.socket.sendall(request("/chat", [key, *HANDSHAKE]))
        assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 101 ")
        for message in (b"\x81\x05hello", b"\x82\x01\x00", random.Random(1).randbytes(100_000)):
            connection.socket.sendall(message)
            assert read_until(connection, message[-4:]) == message


def test_websocket_carries_the_identity(proxy, bed, key, application):
    received = application.recorded(lambda: test_websocket_passes(proxy, bed, key))
    check_identity(received[0], bed, "valid")


def test_websocket_without_a_key_is_denied(proxy):
    assert send(proxy.port, "/chat", HANDSHAKE).code() == "NO_CREDENTIALS"


def test_events_arrive_one_by_one(proxy, key, application):
    with Connection(proxy.port) as connection:
        connection.socket.sendall(request("/events", [key]))
        response = http.client.HTTPResponse(connection.socket)
        response.begin()
        assert response.status == 200
        assert response.headers.get_content_type() == "text/event-stream"
        assert response.readline() == b"data: first\n"
        application.next_event.set()
        assert response.read() == b"\ndata: second\n\n"


@pytest.mark.parametrize("size", [1, 20_000, 900_000])
def test_a_body_arrives_complete(proxy, bed, key, size, application):
    body = random.Random(size).randbytes(size)
    received = application.recorded(lambda: send(proxy.port, "/orders", [key], "POST", body))
    assert [hashlib.sha256(one.body).digest() for one in received] == [hashlib.sha256(body).digest()]
    check_identity(received[0], bed, "valid")


def test_a_chunked_body_arrives_complete(proxy, key):
    chunks = b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n"
    with Connection(proxy.port) as connection:
        response = connection.exchange(
            request("/orders", [key, ("Transfer-Encoding", "chunked")], "POST") + chunks, "POST"
        )
    assert seen(response).body == b"hello world"


def test_a_denied_body_is_not_waited_for(proxy):
    assert send(proxy.port, "/orders", (), "POST", bytes(900_000)).code() == "NO_CREDENTIALS"


def test_the_response_to_head_has_no_body(proxy, key):
    with Connection(proxy.port) as connection:
        for headers, status in (([], 401), ([key], 200), ([], 401)):
            assert connection.exchange(request("/orders", headers, "HEAD"), "HEAD").status == status


def test_a_repeated_request_gets_the_same_answer(proxy, bed, key):
    with Connection(proxy.port) as connection:
        for _ in range(3):
            check_identity(seen(connection.exchange(request("/orders", [key]))), bed, "valid")
            assert connection.exchange(request("/orders", [bearer(bed.secret("revoked"))])).code() == "REVOKED"


def test_a_preflight_passes_without_a_key(proxy, application):
    received = application.recorded(lambda: send(proxy.port, "/orders", PREFLIGHT, "OPTIONS"))
    assert [one.method for one in received] == ["OPTIONS"]
    assert not [pair for pair in received[0].identity() if pair[1]]


def test_other_options_need_a_key(proxy):
    assert send(proxy.port, "/orders", PREFLIGHT[:1], "OPTIONS").code() == "NO_CREDENTIALS"


def test_only_a_preflight_passes_without_a_key(proxy):
    claims = [
        ("X-Forwarded-Method", "OPTIONS"),
        ("X_Forwarded_Method", "OPTIONS"),
        ("X-HTTP-Method-Override", "OPTIONS"),
    ]
    assert send(proxy.port, "/orders", [*PREFLIGHT, *claims]).code() == "NO_CREDENTIALS"


def test_the_question_shares_connections(proxy, bed, key):
    """A connection that was closed is seen for a minute: as many as there were questions, if none were shared."""
    before = connections_to(bed)
    with Connection(proxy.port) as connection:
        for _ in range(100):
            assert connection.exchange(request("/orders", [key])).status == 200
    assert len(connections_to(bed) - before) < 10


def connections_to(bed):
    """The client's ends of all connections to the service, from the kernel's table."""
    host = "".join(f"{int(part):02X}" for part in reversed(bed.host.split(".")))
    ports = [f"{host}:{port:04X}" for port in (50051, 50053)]
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return {row[1] if row[2] in ports else row[2] for row in rows if row[1] in ports or row[2] in ports}


def test_the_largest_identity_arrives_below_two_kib(proxy, bed):
    assert {len(scope) for scope in LONG_SCOPES} == {64}
    tenant = f"ten_{proxy.name}_".ljust(64, "x")
    bed.tenantctl("tenant", "create", "--id", tenant, "--name", "\u6f22" * 64, "--plan", "p" * 32)
    options = [part for scope in LONG_SCOPES for part in ("--scope", scope)]
    issued = bed.tenantctl("key", "issue", "--tenant", tenant, "--name", "shop", "--expires-in", "1d", *options)
    identity = dict(seen(send(proxy.port, "/", [bearer(issued["plaintext"])])).identity())
    assert set(identity) == set(IDENTITY)
    # Each line has a colon, a space and an end of two bytes.
    assert 1_500 < sum(len(name) + len(value) + 4 for name, value in identity.items()) < 2_048
    arrived = identity["x-tenant-scopes"].split()
    assert len(arrived) + int(identity["x-tenant-scopes-omitted"]) == len(LONG_SCOPES)
    assert set(arrived) < set(LONG_SCOPES)
    assert identity["x-tenant-principal"]
    assert set(unquote(identity["x-tenant-name"])) == {"\u6f22"}
