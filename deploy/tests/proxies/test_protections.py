"""Every protection in a configuration is needed: without it, something forged arrives."""

import pytest
from proxies import Proxy
from smuggling import Run
from upstream import Upstream

# What is removed, or replaced by what. Caddy 2.11 drops names with underscores by itself, older versions do not.
PROTECTIONS = {
    ("envoy", "underscores"): ("headers_with_underscores_action: DROP_HEADER", "{}"),
    ("envoy", "prefix"): ("- remove_on_match: {key_matcher: {prefix: x-tenant-}}", ""),
    ("nginx", "underscores"): ("underscores_in_headers off;", "underscores_in_headers on;"),
    ("nginx", "prefix"): ('more_clear_input_headers "X-Tenant-*";', ""),
    ("caddy", "prefix"): ("request_header -X-Tenant-*", ""),
    ("caddy", "connection"): ("request_header @no_websocket -Connection", ""),
    ("haproxy", "underscores"): ("option http-restrict-req-hdr-names delete", ""),
    ("haproxy", "prefix"): ("http-request del-header x-tenant- -m beg", ""),
    ("haproxy", "trailers"): ("filter lua.refuse_trailers", ""),
}


@pytest.mark.parametrize(("name", "protection"), PROTECTIONS)
def test_without_a_protection_something_arrives(name, protection, bed, tmp_path, install):
    install(name)
    removed, replacement = PROTECTIONS[name, protection]

    def edit(text):
        return text.replace(removed, replacement)

    application = Upstream()
    proxy = Proxy(name, tmp_path / name, bed, application.port, edit)
    assert any(replacement in path.read_text() and removed not in path.read_text() for path in proxy.folder.iterdir())
    run = Run(proxy, bed, 1)
    application.record = run.judge
    try:
        proxy.start()
        run.all(3_000, 1_000)
    finally:
        proxy.end()
        application.end()
    assert run.wrong
