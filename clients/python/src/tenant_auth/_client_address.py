"""Finds the address of the customer who sent an HTTP request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from . import _checks
from ._http import TOKEN_CHARACTERS
from .networks import IPAddress, IPNetwork, parse_address, parse_network

DEFAULT_HEADER = "X-Forwarded-For"


class AddressSource:
    """Takes the address from the connection, or, if its peer is a trusted proxy, from a header.

    Each proxy appends the address of its peer to the header, and a customer can send it too. So the last entries are
    those of the trusted proxies, and the entry before these proxies is the first one that is not made up.
    """

    def __init__(self, trusted_proxies: str | Iterable[str], header: str) -> None:
        self._trusted = tuple(trusted_network(text) for text in _checks.texts("trusted_proxies", trusted_proxies))
        _checks.instance("client_address_header", header, str)
        if not header or not TOKEN_CHARACTERS.issuperset(header):
            raise ValueError(f"client_address_header is {header!r}: give a header name, such as {DEFAULT_HEADER}")
        self._header = header.lower().encode()

    def address(self, scope: Mapping[str, Any]) -> IPAddress | None:
        """Returns the address, or `None` if it is unknown."""
        peer = scope.get("client")
        # The peer of a Unix socket has no address.
        address = parse_address(peer[0] or "") if peer else None
        if address is None or not self._is_trusted(address):
            return address
        lines = [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == self._header]
        if not lines:
            # The address of the proxy is not the customer's.
            return None
        for entry in reversed(",".join(lines).split(",")):
            address = parse_address(entry.strip(" \t"))
            if address is None or not self._is_trusted(address):
                break
        return address

    def _is_trusted(self, address: IPAddress) -> bool:
        return any(address in network for network in self._trusted)


def trusted_network(text: str) -> IPNetwork:
    network = parse_network(text)
    if network is None:
        raise ValueError(
            f"trusted_proxies contains {text!r}: give addresses, or networks in CIDR notation, such as 10.0.0.0/8"
        )
    return network
