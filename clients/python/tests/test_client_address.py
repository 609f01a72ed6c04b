"""Where adapters find the address of a customer."""

from __future__ import annotations

from typing import Any

import pytest

from tenant_auth._client_address import AddressSource

PROXIES = ["10.0.0.0/8", "2001:db8:aaaa::/48", "192.0.2.1"]


def found(peer: Any, *lines: str, trusted: Any = PROXIES, header: str = "X-Forwarded-For") -> str | None:
    headers = [(b"host", b"api"), *((header.lower().encode(), line.encode("latin-1")) for line in lines)]
    scope = {"type": "http", "headers": headers} | ({} if peer == "absent" else {"client": peer})
    address = AddressSource(trusted, header).address(scope)
    return None if address is None else str(address)


@pytest.mark.parametrize("trusted", [(), PROXIES])
def test_header_of_untrusted_peer_is_ignored(trusted: Any) -> None:
    for lines in ([], ["192.0.2.9"], ["10.0.0.1"], ["invalid"]):
        assert found(("203.0.113.5", 4711), *lines, trusted=trusted) == "203.0.113.5"
    assert found(("2001:db8::5", 4711), "192.0.2.9", trusted=trusted) == "2001:db8::5"


def test_header_is_ignored_without_trusted_proxies() -> None:
    assert found(("10.0.0.1", 1), "203.0.113.5", trusted=()) == "10.0.0.1"


@pytest.mark.parametrize(
    ("lines", "address"),
    [
        (["203.0.113.5"], "203.0.113.5"),
        (["198.51.100.1, 203.0.113.5"], "203.0.113.5"),
        (["10.9.9.9, 203.0.113.5"], "203.0.113.5"),
        (["invalid, ,203.0.113.5"], "203.0.113.5"),
        (["203.0.113.5, 10.0.0.3,\t192.0.2.1 , 10.0.0.2"], "203.0.113.5"),
        (["198.51.100.1, 203.0.113.5, 2001:db8:aaaa::1, 10.0.0.2"], "203.0.113.5"),
        (["10.0.0.4, 10.0.0.3, 10.0.0.2"], "10.0.0.4"),
        (["203.0.113.5", "10.0.0.2"], "203.0.113.5"),
        (["198.51.100.1", "203.0.113.5, 10.0.0.3", "10.0.0.2"], "203.0.113.5"),
        (["203.0.113.5:4711, 10.0.0.2:443"], "203.0.113.5"),
        (["2001:db8::5, 10.0.0.2"], "2001:db8::5"),
        (["[2001:db8::5]:4711, [2001:db8:aaaa::1]"], "2001:db8::5"),
        (["fe80::1%eth0"], "fe80::1"),
        (["::ffff:203.0.113.5, ::ffff:10.0.0.2"], "203.0.113.5"),
    ],
)
@pytest.mark.parametrize("peer", ["10.0.0.1", "192.0.2.1", "::ffff:10.0.0.1", "2001:db8:aaaa::9"])
def test_last_address_that_is_no_proxy_counts(peer: str, lines: list[str], address: str) -> None:
    assert found((peer, 4711), *lines) == address


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [""],
        ["203.0.113.5,"],
        ["203.0.113.5, , 10.0.0.2"],
        ["203.0.113.5", ""],
        ["203.0.113.5, unknown, 10.0.0.2"],
        ["203.0.113.5, _hidden"],
        ["203.0.113.256"],
        ["for=203.0.113.5"],
        ["203.0.113.5 10.0.0.2"],
        ["\xa0203.0.113.5"],
        ["1" * 100_000],
        ["invalid, 10.0.0.3, 10.0.0.2"],
    ],
)
def test_missing_or_invalid_entry_gives_no_address(lines: list[str]) -> None:
    assert found(("10.0.0.1", 4711), *lines) is None


@pytest.mark.parametrize("peer", ["absent", None, ("", 0), (None, 0), ("/run/api.sock", None), ("testclient", 50_000)])
def test_peer_without_an_ip_address_has_no_address(peer: Any) -> None:
    assert found(peer, "203.0.113.5") is None


def test_only_the_chosen_header_is_read() -> None:
    peer = ("10.0.0.1", 4711)
    assert found(peer, "203.0.113.5", header="CF-Connecting-IP") == "203.0.113.5"
    scope = {"client": peer, "headers": [(b"x-forwarded-for", b"192.0.2.9"), (b"CF-Connecting-IP", b"203.0.113.5")]}
    assert str(AddressSource(PROXIES, "cf-connecting-ip").address(scope)) == "203.0.113.5"
    assert str(AddressSource(PROXIES, "X-Forwarded-For").address(scope)) == "192.0.2.9"
    assert AddressSource(PROXIES, "True-Client-IP").address(scope) is None


@pytest.mark.parametrize(
    "trusted", ["", "proxy.internal", ["10.0.0.0/33"], ["10.0.0.1", "10.0.0.1:80"], [7], b"::1", 5]
)
def test_invalid_trusted_proxy_is_rejected(trusted: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"^trusted_proxies "):
        AddressSource(trusted, "X-Forwarded-For")


@pytest.mark.parametrize("header", ["", "a b", "X-Forwarded-For:", None, ["X-Forwarded-For"]])
def test_invalid_client_address_header_is_rejected(header: Any) -> None:
    with pytest.raises((ValueError, TypeError), match=r"^client_address_header "):
        AddressSource((), header)


def test_single_trusted_proxy_may_be_text() -> None:
    assert found(("10.0.0.1", 1), "203.0.113.5", trusted="10.0.0.1") == "203.0.113.5"
