"""Requests and answers of an unusual size."""

import pytest

from bed import LONG_SCOPES
from browser import bearer, send
from identity import check_identity
from proxies import NAMES, Proxy, require
from upstream import seen

# How many headers pass at least. More may be too many for the proxy, or for the service.
PASSING = {"envoy": 80, "nginx": 240, "caddy": 240, "traefik": 1_000, "haproxy": 100}


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


def test_a_refusal_for_many_scopes_is_complete(strict, bed):
    """Behind nginx it comes in a header, which has no room for a list of this length."""
    response = send(strict.port, "/billing/", [bearer(bed.secret("valid"))])
    assert (response.status, response.code()) == (403, "INSUFFICIENT_SCOPE")
    assert response.json()["detail"]
    if strict.name != "nginx":
        assert response.json()["missing_scopes"] == LONG_SCOPES
    (challenge,) = response.headers.get_all("www-authenticate")
    assert challenge.startswith('Bearer error="insufficient_scope"')


@pytest.mark.parametrize("count", [80, 84, 88, 92, 96, 100, 105, 240, 260, 1_000])
def test_many_headers_are_no_error_of_the_proxy(proxy, bed, count):
    # Host is one of them, and the key.
    headers = [(f"X-Other-{number}", "1") for number in range(count - 2)]
    response = send(proxy.port, "/orders", [bearer(bed.secret("valid")), *headers])
    if count > PASSING[proxy.name] and response.status != 200:
        assert response.status == (400 if proxy.name == "haproxy" else 431)
        assert "retry-after" not in response.headers
        return
    received = seen(response)
    check_identity(received, bed, "valid")
    assert len([name for name, _ in received.headers if name.lower().startswith("x-other-")]) == len(headers)
