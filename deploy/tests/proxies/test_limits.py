"""Requests and answers of an unusual size."""

import pytest

from bed import LONG_SCOPES
from browser import bearer, send
from identity import check_identity
from proxies import NAMES, Proxy, require
from upstream import seen

# What the client gets for a request with this many headers; a proxy with a limit of its own refuses it.
MANY_HEADERS = 105
OWN_LIMIT = {"envoy": 431, "haproxy": 400}


@pytest.fixture(params=NAMES)
def strict(request, tmp_path, bed, application):
    """A proxy with a path that requires all of the long scopes."""
    require(request.param)
    scopes = ",".join(LONG_SCOPES)
    proxy = Proxy(
        request.param,
        tmp_path / request.param,
        bed,
        application.port,
        lambda text: text.replace("billing:write", scopes),
    )
    try:
        yield proxy.start()
    finally:
        proxy.end()


def test_a_refusal_names_all_missing_scopes(strict, bed):
    response = send(strict.port, "/billing/", [bearer(bed.secret("valid"))])
    assert (response.status, response.code()) == (403, "INSUFFICIENT_SCOPE")
    assert response.json()["missing_scopes"] == LONG_SCOPES
    (challenge,) = response.headers.get_all("www-authenticate")
    assert challenge.startswith('Bearer error="insufficient_scope"')


def test_many_headers_are_no_reason_to_refuse(proxy, bed):
    # Host is one of them.
    headers = [(f"X-Other-{number}", "1") for number in range(MANY_HEADERS - 2)]
    response = send(proxy.port, "/orders", [bearer(bed.secret("valid")), *headers])
    if proxy.name in OWN_LIMIT:
        assert response.status == OWN_LIMIT[proxy.name]
        return
    received = seen(response)
    check_identity(received, bed, "valid")
    assert len([name for name, _ in received.headers if name.lower().startswith("x-other-")]) == len(headers)
