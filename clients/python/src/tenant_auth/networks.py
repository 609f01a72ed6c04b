"""The networks from which a key may be used, and the text of addresses."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Self

from ._checks import texts

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network
ClientAddress = str | IPv4Address | IPv6Address | None
"""The network address of a customer. A port and a zone are ignored. `None` and empty text: unknown."""

ADDRESS_FORMS = "an IPv4 or IPv6 address, optionally with a port, such as 192.0.2.7, 192.0.2.7:443 or [2001:db8::7]:443"
MAX_ADDRESS_LENGTH = 128
MAX_PORT = 65_535
# The length of the prefix that all IPv4-mapped IPv6 addresses share.
MAPPED_PREFIX_LENGTH = 96
# Visible ASCII, without the characters that would make a list or a network of the address.
ZONE = r"(?:%[!-$&-+\-.0-Z\\^-~]+)?"
ADDRESS = re.compile(
    rf"(?:(?P<ipv4>[0-9.]+)|\[(?P<bracketed>[0-9A-Fa-f:.]+){ZONE}\])(?::(?P<port>[0-9]+))?"
    rf"|(?P<ipv6>[0-9A-Fa-f:.]+){ZONE}"
)
NETWORK = re.compile(r"(?P<address>[0-9A-Fa-f:.]+)(?:/(?P<length>0|[1-9][0-9]{0,2}))?")


def parse_address(text: str) -> IPAddress | None:
    """Returns the address without port and zone, or `None` if the text is not an address."""
    return parse_short_address(text) if len(text) <= MAX_ADDRESS_LENGTH else None


# Customers send many requests from one address, and parsing it would take a third of the time of a cached answer.
@lru_cache(maxsize=4_096)
def parse_short_address(text: str) -> IPAddress | None:
    match = ADDRESS.fullmatch(text)
    if match is None:
        return None
    ipv4, bracketed, port, ipv6 = match.group("ipv4", "bracketed", "port", "ipv6")
    if port is not None and int(port) > MAX_PORT:
        return None
    try:
        return IPv4Address(ipv4) if ipv4 is not None else without_mapping(IPv6Address(bracketed or ipv6))
    except ValueError:
        return None


def without_mapping(address: IPAddress) -> IPAddress:
    """Returns the address without its zone. An IPv4-mapped IPv6 address becomes the IPv4 address."""
    if isinstance(address, IPv4Address):
        return address
    return address.ipv4_mapped or (IPv6Address(int(address)) if address.scope_id else address)


def parse_network(text: str) -> IPNetwork | None:
    """Returns the network, or `None` if the text is not one. An address is a network of one address."""
    match = NETWORK.fullmatch(text)
    if match is None:
        return None
    try:
        address = ip_address(match["address"])
    except ValueError:
        return None
    length = address.max_prefixlen if match["length"] is None else int(match["length"])
    if isinstance(address, IPv6Address) and address.ipv4_mapped and length >= MAPPED_PREFIX_LENGTH:
        address, length = address.ipv4_mapped, length - MAPPED_PREFIX_LENGTH
    if length > address.max_prefixlen:
        return None
    return ip_network((address, length), strict=False)


class Networks(tuple[str, ...]):
    """Networks in CIDR notation, which are parsed once. If there are none, they allow every address.

    A network that this version cannot parse contains no address.
    """

    _parsed: tuple[IPNetwork, ...]

    def __new__(cls, networks: str | Iterable[str] = ()) -> Self:
        made = super().__new__(cls, texts("networks", networks))
        made._parsed = tuple(network for network in map(parse_network, made) if network is not None)
        return made

    def allow(self, address: IPAddress) -> bool:
        """Reports whether an address is in one of the networks, or there are none. An IPv4-mapped IPv6 address must be
        given as the IPv4 address.
        """
        return not self or any(address in network for network in self._parsed)


NO_NETWORKS = Networks()
