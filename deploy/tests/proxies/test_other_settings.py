"""A service without principal tokens, and with another header for keys, needs the changes that README.md names."""

import re

import pytest

from bed import Bed
from browser import bearer, send
from identity import differences
from proxies import NAMES, Proxy, require
from upstream import seen

OTHER_HEADER = "X-Shop-Key"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    """A service that signs nothing."""
    bed = Bed(
        tmp_path_factory.mktemp("plain") / "bed",
        TENANT_AUTH_PRINCIPAL_KEYS_FILE="",
        TENANT_AUTH_PRINCIPAL_ISSUER="",
        TENANT_AUTH_KEY_HEADERS=f"authorization,{OTHER_HEADER.lower()}",
    )
    try:
        yield bed.start()
    finally:
        bed.end()


@pytest.fixture(params=NAMES)
def through(request, tmp_path, plain, application):
    """Starts a proxy with an edited configuration; returns its port."""
    started = []

    def start(edit):
        require(request.param)
        started.append(Proxy(request.param, tmp_path / request.param, plain, application.port, edit))
        return started[0].start().port

    yield start
    for proxy in started:
        proxy.end()


def without_audience(text):
    return re.sub(r"audience=\w+&|&?audience=\w+|audience: \w+, ", "", text)


def with_other_header(text):
    return re.sub(r"(?i)x-api-key(?!-stays)", OTHER_HEADER.lower(), without_audience(text))


def test_an_audience_needs_principal_tokens(through, plain):
    response = send(through(lambda text: text), "/orders", [bearer(plain.secret("valid"))])
    assert (response.status, response.code()) == (503, "PROXY_MISCONFIGURED")


def test_without_an_audience_there_is_no_token(through, plain):
    received = seen(send(through(without_audience), "/orders", [bearer(plain.secret("valid"))]))
    assert differences(received, plain, "valid") == ["x-tenant-principal is missing"]


def test_another_header_for_keys_needs_changes(through, plain):
    port, key = through(with_other_header), plain.secret("valid")
    received = seen(send(port, "/orders", [(OTHER_HEADER, key)]))
    assert differences(received, plain, "valid") == ["x-tenant-principal is missing"]
    assert not received.values(OTHER_HEADER.lower())
    response = send(port, "/orders", [(OTHER_HEADER, key), bearer(plain.secret("second"))])
    assert (response.status, response.code()) == (400, "AMBIGUOUS_REQUEST")
