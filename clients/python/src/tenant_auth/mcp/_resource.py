"""The metadata of the protected resource (RFC 9728), for servers whose keys come from an authorization server."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from http import HTTPStatus
from urllib.parse import SplitResult, urlsplit

from .. import _checks
from .._http import CHALLENGE, Rejection, Reply
from ._json import dump

WELL_KNOWN = "/.well-known/oauth-protected-resource"
# Clients look for metadata at these addresses even if no response names one.
DISCOVERY_PREFIX = "/.well-known/oauth-"


@dataclass(frozen=True, slots=True)
class Document:
    """A JSON document."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK

    @property
    def headers(self) -> dict[str, str]:
        return {"Content-Type": "application/json", "Access-Control-Allow-Origin": "*"}


class ProtectedResource:
    """The metadata of one MCP server."""

    def __init__(self, resource: str, authorization_servers: str | Iterable[str], scopes: tuple[str, ...]) -> None:
        parts = _uri("resource", resource)
        servers = _checks.texts("authorization_servers", authorization_servers)
        if not servers:
            raise ValueError("authorization_servers is empty: give the URI of at least one, or no resource")
        for server in servers:
            _uri("authorization_servers", server)
        # The path is inserted behind the host. A terminating slash of the host is no path.
        self.path = WELL_KNOWN + (parts.path if parts.path != "/" else "")
        self.uri = f"{parts.scheme}://{parts.netloc}{self.path}"
        metadata: dict[str, object] = {
            "resource": resource,
            "authorization_servers": servers,
            "bearer_methods_supported": ["header"],
        }
        self.document = Document(dump(metadata | ({"scopes_supported": scopes} if scopes else {})))

    def challenge(self, reply: Reply) -> Reply:
        """Adds the address of the metadata to a challenge."""
        if not isinstance(reply, Rejection) or CHALLENGE not in reply.extra_headers:
            return reply
        given = reply.extra_headers[CHALLENGE]
        separator = " " if given == "Bearer" else ", "
        extended = {CHALLENGE: f'{given}{separator}resource_metadata="{self.uri}"'}
        return replace(reply, extra_headers=reply.extra_headers | extended)


def protected_resource(
    resource: str | None, authorization_servers: str | Iterable[str], scopes: tuple[str, ...]
) -> ProtectedResource | None:
    """Returns the metadata, or `None` if none is configured."""
    if resource is not None:
        return ProtectedResource(resource, authorization_servers, scopes)
    if _checks.texts("authorization_servers", authorization_servers):
        raise ValueError("authorization_servers needs resource: give the URI of this server as clients use it")
    return None


def _uri(name: str, value: object) -> SplitResult:
    _checks.instance(name, value, str)
    parts = urlsplit(str(value))
    plain = str(value).isascii() and str(value).isprintable() and '"' not in str(value) and " " not in str(value)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment or not plain:
        raise ValueError(
            f"{name} is {value!r}: give an absolute URI without query and fragment, such as https://mcp.example/mcp"
        )
    return parts
