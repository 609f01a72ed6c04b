"""Puts the gate in front of a server of the official SDK."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypedDict, Unpack

from starlette.applications import Starlette

from ..async_client import AsyncClient
from ..async_recorder import AsyncUsageRecorder
from ..limits import Costs
from ._gate import McpGate
from ._policy import Policy
from ._request import McpRequest


class GateOptions(TypedDict, total=False):
    """The options of `McpGate` and `protect`. Durations are seconds."""

    policy: Policy | None
    """Which scopes the operations need. Without a policy, every valid key may call everything."""
    recorder: AsyncUsageRecorder | None
    """Records the usage that the policy names."""
    key_headers: str | Iterable[str]
    """The headers that may carry the key; by default `Authorization`. If there are several keys, they must agree."""
    sessions: bool
    """Whether sessions of the handshake revisions are bound to tenants; `False` for a service without sessions."""
    ttl: float
    """Lifetime of a session after its last use, from 60 seconds to a day; by default an hour."""
    filter_lists: bool
    """Whether lists contain only what the key may use; by default, with a policy."""
    undecided_for: float
    """How long a stream goes on while its key cannot be checked; by default 10 seconds."""
    max_body_size: int
    """The largest body that is read, in bytes; by default 4 MiB. A body is only read if there is a policy."""
    resource: str | None
    """The URI of the server as clients use it. Set only together with `authorization_servers`."""
    authorization_servers: str | Iterable[str]
    """The authorization servers that the metadata of the resource (RFC 9728) names; by default there is none."""
    exempt: str | Iterable[str]
    """Exact paths that need no key."""
    preflight: bool
    """Whether CORS preflight requests are admitted, which have no key; by default they are."""
    trusted_proxies: str | Iterable[str]
    """As for `TenantAuthMiddleware`."""
    client_address_header: str
    """As for `TenantAuthMiddleware`."""
    costs: Costs | Callable[[McpRequest], Costs] | None
    """What each request takes from the limits of its key, or a function that returns it. With a policy, only admitted
    requests cost something. In tools, `current_limits()` has the decisions.
    """


def protect(app: Starlette, client: AsyncClient, **options: Unpack[GateOptions]) -> Starlette:
    """Puts an `McpGate` in front of `MCPServer("…").streamable_http_app()`, and returns the app.

    The server needs neither `auth` nor a `token_verifier`: with them, the SDK would offer OAuth. Every request to the
    app needs a valid key, except those to `exempt` paths. In tools, `current_principal()` is the customer.
    """
    # Starlette creates the middleware with the first request. Invalid options are rejected now.
    McpGate(app, client=client, **options)
    app.add_middleware(McpGate, client=client, **options)
    return app
