"""Parses the endpoints of the service."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
InvalidEndpoint = Callable[[str], ValueError]

EXAMPLES = "such as 127.0.0.1:50051, tenant-auth:50051, [::1]:50051 or https://tenant-auth.example.com:443"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One host and port to connect to."""

    host: str
    """A host name, or an IP address without brackets."""
    port: int
    version: int | None
    """4 or 6 for an IP address; `None` for a name, which is looked up."""

    @property
    def authority(self) -> str:
        """host:port as in the HTTP authority: an IPv6 address in brackets, without its zone."""
        return f"[{self.host.partition('%')[0]}]:{self.port}" if self.version == 6 else f"{self.host}:{self.port}"


def parse(endpoints: str | Sequence[str]) -> tuple[tuple[Endpoint, ...], str | None]:
    """Returns the endpoints, and `http` or `https` if they have a scheme. Rejects invalid endpoints."""
    if not isinstance(endpoints, str) and not isinstance(endpoints, list | tuple):
        raise TypeError(f"endpoints is {type(endpoints).__name__}: give text or a list of texts, {EXAMPLES}")
    given: list[str] = []
    for one in [endpoints] if isinstance(endpoints, str) else endpoints:
        if not isinstance(one, str):
            raise TypeError(f"endpoints contains {type(one).__name__} {one!r}: give texts, {EXAMPLES}")
        given += one.split(",")
    if not given:
        raise ValueError(f"endpoints is empty: give at least one, {EXAMPLES}")
    parsed = [parse_one(text) for text in given]
    schemes = {scheme for scheme, _ in parsed}
    if "https" in schemes and len(schemes) > 1:
        raise ValueError(f"endpoints {', '.join(map(repr, given))}: give https:// for all of them or for none")
    found = tuple(dict.fromkeys(endpoint for _, endpoint in parsed))
    return found, "https" if "https" in schemes else "http" if "http" in schemes else None


def parse_one(text: str) -> tuple[str | None, Endpoint]:
    """Returns the scheme, if there is one, and the endpoint."""

    def invalid(reason: str) -> ValueError:
        return ValueError(f"endpoint {text!r} {reason}: give host:port, {EXAMPLES}")

    if not text or any(character.isspace() or not character.isprintable() for character in text):
        raise invalid("is empty or contains whitespace")
    scheme, rest = None, text
    if "://" in text:
        scheme, _, rest = text.partition("://")
        if scheme == "dns":
            if not rest.startswith("/"):
                raise invalid("specifies a DNS server; only dns:///host:port is supported")
            scheme, rest = None, rest[1:]
        elif scheme in ("http", "https"):
            rest = rest.removesuffix("/")
        else:
            raise invalid(f"has the unknown scheme {scheme}://")
    if "@" in rest:
        # The text is not shown because it may contain a password.
        raise ValueError("endpoint … has a user: give host:port, and the caller token in the option `token`")
    if any(character in rest for character in "/?#"):
        raise invalid("has a path")
    host, colon, port = rest.rpartition(":")
    if rest.startswith("["):
        inner, bracket, after = rest[1:].partition("]")
        if not bracket or not after.startswith(":"):
            raise invalid("has no port")
        return scheme, Endpoint(inner, port_of(after[1:], invalid), literal(inner, 6, invalid))
    if rest.count(":") > 1:
        raise invalid("is an IPv6 address without brackets")
    if not colon or not port:
        raise invalid("has no port")
    if not host:
        raise invalid("has no host")
    return scheme, Endpoint(host, port_of(port, invalid), version_of(host, invalid))


def port_of(text: str, invalid: InvalidEndpoint) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    if not 1 <= number <= 65_535:
        raise invalid("has no port from 1 to 65535")
    return number


def literal(host: str, version: int, invalid: InvalidEndpoint) -> int:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        raise invalid(f"contains no valid IPv{version} address") from None
    if address.version != version:
        raise invalid(f"contains no valid IPv{version} address")
    return version


def version_of(host: str, invalid: InvalidEndpoint) -> int | None:
    if set(host) <= set("0123456789."):
        return literal(host, 4, invalid)
    labels = host.removesuffix(".").split(".")
    if len(host) > 253 or not all(LABEL.fullmatch(label) for label in labels):
        raise invalid("has an invalid host name")
    return None
