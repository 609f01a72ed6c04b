"""A mistake in a proxy's configuration is never the customer's fault."""

import copy
import re

import pytest

from browser import bearer, send
from proxies import NAMES, Proxy, require


@pytest.fixture(params=NAMES)
def response(request, tmp_path, bed, application):
    """The response to a good key, after an edit of the configuration or with another token."""

    def through(edit=lambda text: text, token=bed.proxy_token):
        require(request.param)
        mistaken = copy.copy(bed)
        mistaken.proxy_token = token
        proxy = Proxy(request.param, tmp_path / request.param, mistaken, application.port, edit)
        try:
            return send(proxy.start().port, "/billing/invoices", [bearer(bed.secret("valid"))])
        finally:
            proxy.end()

    return through


def test_an_unknown_setting_is_not_ignored(response):
    """A misspelt one would otherwise admit keys without the scope."""

    def misspell(text):
        return text.replace("scopes=billing", "scope=billing").replace('scopes: "billing', 'scope: "billing')

    refused = response(misspell)
    assert (refused.status, refused.code()) == (503, "PROXY_MISCONFIGURED")
    assert int(refused.headers["retry-after"]) > 0


def test_an_empty_setting_is_not_ignored(response):
    refused = response(lambda text: text.replace("scopes=billing:write", "scopes=").replace('"billing:write"', '""'))
    assert (refused.status, refused.code()) == (503, "PROXY_MISCONFIGURED")


@pytest.mark.parametrize("response", NAMES[1:], indirect=True)
def test_a_repeated_setting_is_not_ignored(response):
    """Envoy's are a map."""
    refused = response(lambda text: text.replace("scopes=billing:write", "scopes=billing:write&scopes=orders:read"))
    assert (refused.status, refused.code()) == (503, "PROXY_MISCONFIGURED")


@pytest.mark.parametrize(
    ("response", "code"),
    [
        ("nginx", "UNDECIDED"),
        ("caddy", "PROXY_MISCONFIGURED"),
        ("traefik", "PROXY_MISCONFIGURED"),
        ("haproxy", "PROXY_MISCONFIGURED"),
    ],
    indirect=["response"],
)
def test_an_unknown_path_is_not_the_customer_s_fault(response, code):
    refused = response(lambda text: re.sub(r"/forward-auth(/nginx)?\?", "/forward-auth/unknown?", text))
    assert (refused.status, refused.code()) == (503, code)


def test_an_unknown_token_is_not_a_denial(response):
    refused = response(token="tac_wrong")
    assert (refused.status, refused.code()) == (503, "UNKNOWN_CALLER")
    assert "www-authenticate" not in refused.headers
