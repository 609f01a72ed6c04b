"""Every protection in a configuration is needed: without it, something forged arrives."""

import dataclasses

import pytest

from identity import IDENTITY, differences
from proxies import Proxy, require
from smuggling import Run
from upstream import Upstream, normalized

# What is replaced, and by what. Caddy 2.11 drops names with underscores by itself, older versions do not.
PROTECTIONS = {
    ("envoy", "underscores"): ("headers_with_underscores_action: DROP_HEADER", "{}"),
    ("envoy", "prefix"): ("- remove_on_match: {key_matcher: {prefix: x-tenant-}}", ""),
    ("nginx", "underscores"): ("underscores_in_headers off;", "underscores_in_headers on;"),
    ("nginx", "prefix"): ('more_clear_input_headers "X-Tenant-*";', ""),
    ("caddy", "prefix"): ("request_header -X-Tenant-*", ""),
    ("caddy", "connection"): ("request_header @no_websocket -Connection", ""),
    ("traefik", "prefix"): ("(?i)^x[-_]tenant[-_]", "^X-Tenant-(Id|Name|Plan|Key-Id|Scopes|Source|Principal)$"),
    ("haproxy", "underscores"): ("option http-restrict-req-hdr-names delete", ""),
    ("haproxy", "prefix"): ("http-request del-header x-tenant- -m beg", ""),
    ("haproxy", "trailers"): ("filter lua.refuse_trailers", ""),
}


@pytest.fixture
def attempts(bed, tmp_path):
    """Some attempts through a proxy with an edited configuration."""

    def run(name, edit):
        require(name)
        application = Upstream()
        proxy = Proxy(name, tmp_path / name, bed, application.port, edit)
        run = Run(proxy, bed, 1)
        try:
            proxy.start()
            application.record = run.judge
            run.all(3_000, 1_000)
        finally:
            proxy.end()
            application.end()
        return run

    return run


@pytest.mark.parametrize(("name", "protection"), PROTECTIONS)
def test_without_a_protection_something_arrives(name, protection, attempts):
    removed, replacement = PROTECTIONS[name, protection]
    edited = []

    def edit(text):
        edited.append(removed in text)
        return text.replace(removed, replacement)

    run = attempts(name, edit)
    assert any(edited)
    assert run.wrong


def test_nginx_alone_replaces_the_known_headers(attempts, bed):
    """Without the module that removes headers by prefix, only names that mean nothing arrive."""
    lines = ["load_module ", "more_clear_input_headers "]

    def edit(text):
        kept = [line for line in text.splitlines() if not line.strip().startswith(tuple(lines))]
        return "\n".join(kept)

    def known(received):
        named = [(normalized(name), name, value) for name, value in received.headers]
        headers = [(name, value) for key, name, value in named if key in IDENTITY or not key.startswith("x-tenant-")]
        return dataclasses.replace(received, headers=headers)

    run = attempts("nginx", edit)
    assert run.arrived > 100
    assert run.wrong
    for found, received in run.wrong:
        assert "a request that was not sent" not in found
        assert not differences(known(received), bed, "valid" if received.target.lstrip("/").startswith("key") else None)
