"""What a client claims about itself changes nothing."""

import posixpath
from urllib.parse import unquote, urlsplit

import pytest

from browser import HANDSHAKE, Connection, bearer, request, send
from identity import check_identity

NAMES = ["x-tenant-id", "x-tenant-scopes", "x-tenant-principal", "x-tenant-expires-at"]


@pytest.fixture
def key(bed):
    return bearer(bed.secret("valid"))


@pytest.fixture
def sent(proxy, application, key):
    """Sends lines with a good key; returns the requests that reached the application."""

    def send_lines(*lines, path="/orders", end=b"", method="GET"):
        def act():
            with Connection(proxy.port) as connection:
                connection.exchange(request(path, [key, *lines], method) + end, method)

        return application.recorded(act)

    return send_lines


@pytest.mark.parametrize(
    "listed",
    [
        "x-tenant-id",
        "close, X-Tenant-Id, x-tenant-scopes",
        "x_tenant_id",
        "keep-alive, x-forwarded-for",
        "authorization, x-api-key",
        "upgrade, x-tenant-principal",
    ],
)
def test_connection_cannot_remove_the_identity(sent, bed, listed):
    for received in sent(("Connection", listed), ("X-Tenant-Id", "evil")):
        check_identity(received, bed, "valid")
        # An application that is itself a proxy would remove what is listed.
        listed_further = {word.strip().lower() for value in received.values("connection") for word in value.split(",")}
        assert listed_further <= {"", "close", "keep-alive", "upgrade"}


@pytest.mark.parametrize("declared", [True, False])
def test_trailers_do_not_reach_the_application(sent, bed, declared):
    lines = [("Transfer-Encoding", "chunked")] + ([("Trailer", "X-Tenant-Id, X_Tenant_Scopes")] if declared else [])
    trailers = b"2\r\nhi\r\n0\r\nX-Tenant-Id: evil\r\nX_Tenant_Scopes: evil\r\nX-Tenant-Other: evil\r\n\r\n"
    # A proxy may refuse them.
    for received in sent(*lines, ("TE", "trailers"), end=trailers, method="POST"):
        assert received.body == b"hi"
        assert not received.trailers
        check_identity(received, bed, "valid")


@pytest.mark.parametrize(
    "name", ["X-Forwarded-For", "X_Forwarded_For", "Forwarded", "X-Real-IP", "X-Envoy-External-Address"]
)
def test_an_address_cannot_be_claimed(proxy, bed, name):
    value = "for=203.0.113.7" if name == "Forwarded" else "203.0.113.7"
    for lines in ([(name, value)], [(name, value)] * 2, [(name, value), ("Connection", name)]):
        response = send(proxy.port, "/orders", [bearer(bed.secret("elsewhere")), *lines])
        assert response.status == 400 or response.code() == "ADDRESS_NOT_ALLOWED"


@pytest.mark.parametrize("proxy", ["envoy"], indirect=True)
def test_no_setting_of_envoy_can_be_claimed(sent):
    names = ["x-envoy-upstream-rq-timeout-ms", "x-envoy-max-retries", "x-envoy-retry-on", "x-envoy-internal"]
    (received,) = sent(*((name, "1") for name in names))
    assert not [name for name in names if received.values(name)]


@pytest.mark.parametrize(
    "offered",
    [["h2c"], ["h2c, websocket"], ["websocket, h2c"], ["h2c", "websocket"], ["websocket", "h2c"], ["TLS/1.2"]],
)
def test_only_websocket_may_upgrade(sent, offered):
    """If the client offers WebSocket, too, the application may get that offer."""
    lines = [("Connection", "Upgrade, HTTP2-Settings"), ("HTTP2-Settings", "AAMAAABkAAQAAP__"), *HANDSHAKE[2:]]
    for received in sent(*lines, *(("Upgrade", value) for value in offered)):
        assert received.values("upgrade") in ([], ["websocket"])


@pytest.mark.parametrize(
    "path",
    [
        "/orders/../billing/invoices",
        "//billing/invoices",
        "/./billing/invoices",
        "/%62illing/invoices",
        "/orders/%2e%2e/billing/invoices",
        "/orders/..%2fbilling/invoices",
        "/billing//invoices",
        "http://shop.example/billing/invoices",
        "http://shop.example//billing/invoices",
        "/orders/..;/billing/invoices",
    ],
)
def test_no_spelling_of_a_path_avoids_its_scopes(sent, path):
    for received in sent(path=path):
        assert "billing" not in plainest(received.target), received.target


def plainest(target):
    """The first part of a path as a lenient application reads it."""
    path = unquote(unquote(urlsplit(target).path if "://" in target else target))
    return posixpath.normpath(path).lstrip("/").partition("/")[0]


@pytest.mark.parametrize("name", NAMES)
def test_no_spelling_of_a_name_reaches_the_application(sent, bed, name):
    spellings = [
        name,
        name.upper(),
        name.replace("-", "_"),
        name.replace("-", "_", 1),
        name[::-1].replace("-", "_", 1)[::-1],
    ]
    lines = [(spelling, value) for spelling in spellings for value in ("evil", "", "evil")]
    (received,) = sent(*lines)
    check_identity(received, bed, "valid")
