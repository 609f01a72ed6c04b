"""An MCP server whose callers are tenants: run `python examples/mcp_server.py`, then connect to
http://127.0.0.1:8001/mcp.

Clients of all revisions of the protocol are served. The policy says which scopes a tool needs: a client sees only the
tools that its key may call. Each refund is recorded as usage. The demo key of `tenant-auth-svc dev` may do neither;
issue one for it: `tenantctl key issue --tenant ten_demo --scope orders:read --scope orders:write`.
"""

from __future__ import annotations

import argparse
import asyncio
from collections.abc import Callable

import uvicorn
from mcp.server.mcpserver import MCPServer
from starlette.applications import Starlette

from tenant_auth import AsyncClient, AsyncUsageRecorder
from tenant_auth.mcp import Policy, current_principal, protect

POLICY = Policy(
    {
        "tools": {
            "list_orders": {"scopes": ["orders:read"]},
            "refund_order": {"scopes": ["orders:write"], "usage": {"metric": "mcp.tool_calls"}},
        }
    }
)


class Orders:
    """The orders of all tenants, in memory."""

    def __init__(self) -> None:
        self._refunded: dict[str, set[int]] = {}

    def list(self, tenant: str) -> list[str]:
        refunded = self._refunded.get(tenant, set())
        return [f"order {number}: {'refunded' if number in refunded else 'paid'}" for number in (1, 2)]

    def refund(self, tenant: str, number: int) -> str:
        self._refunded.setdefault(tenant, set()).add(number)
        return f"order {number} is refunded"


def make_app(
    client: AsyncClient,
    recorder: AsyncUsageRecorder,
    *,
    policy: Policy = POLICY,
    register: Callable[[MCPServer], None] | None = None,
    sessions: bool = True,
) -> Starlette:
    """Returns the app. `register` may add more tools, prompts and resources to the server."""
    # Neither auth nor a token verifier: the gate admits requests, and no OAuth is offered.
    server = MCPServer("orders")
    orders = Orders()

    @server.tool()
    async def list_orders() -> list[str]:
        """Lists the orders of the tenant."""
        return orders.list(current_principal().tenant_id)

    @server.tool()
    async def refund_order(number: int) -> str:
        """Refunds an order."""
        return orders.refund(current_principal().tenant_id, number)

    if register is not None:
        register(server)
    app = server.streamable_http_app()
    return protect(
        app, client, policy=policy, recorder=recorder, key_headers=["Authorization", "X-API-Key"], sessions=sessions
    )


async def serve(tenant_auth: str, port: int, *, sessions: bool) -> None:
    async with AsyncClient(tenant_auth) as client:
        recorder = client.usage_recorder()
        app = make_app(client, recorder, sessions=sessions)
        # With proxy headers, uvicorn would let local processes choose the address that keys are compared with.
        await uvicorn.Server(uvicorn.Config(app, port=port, proxy_headers=False)).serve()
        for batch in await recorder.close():
            print(f"usage events not recorded: {len(batch.events)}: {batch.error}")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tenant-auth", default="127.0.0.1:50051")
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--no-sessions", action="store_true", help="for a tenant-auth without sessions")
    arguments = parser.parse_args()
    asyncio.run(serve(arguments.tenant_auth, arguments.port, sessions=not arguments.no_sessions))


if __name__ == "__main__":
    main()
