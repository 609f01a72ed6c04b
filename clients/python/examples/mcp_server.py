"""An MCP server whose callers are tenants: run `python examples/mcp_server.py`, then connect to
http://127.0.0.1:8001/mcp.

Each session is bound to the tenant whose key opened it. Each call is validated, and each use of the tool is recorded.
"""

from __future__ import annotations

import argparse
import asyncio

import uvicorn
from mcp.server.auth.settings import AuthSettings
from mcp.server.mcpserver import MCPServer
from pydantic import AnyHttpUrl
from starlette.applications import Starlette

from tenant_auth import AsyncClient, AsyncUsageRecorder
from tenant_auth.mcp import TenantTokenVerifier, current_principal, protect


def make_app(client: AsyncClient, recorder: AsyncUsageRecorder, url: str, *, sessions: bool = True) -> Starlette:
    # tenant-auth issues the keys, not an OAuth server, so they have no audience to check.
    auth = AuthSettings(issuer_url=AnyHttpUrl(url), resource_server_url=AnyHttpUrl(url), validate_token_resource=False)
    server = MCPServer("orders", token_verifier=TenantTokenVerifier(client), auth=auth)

    @server.tool()
    async def count_words(text: str) -> int:
        """Counts the words of a text."""
        principal = current_principal()
        count = len(text.split())
        recorder.record(principal.tenant_id, "words.counted", count)
        return count

    return protect(server.streamable_http_app(), client, sessions=sessions)


async def serve(tenant_auth: str, port: int, *, sessions: bool) -> None:
    async with AsyncClient(tenant_auth) as client:
        recorder = client.usage_recorder()
        app = make_app(client, recorder, f"http://127.0.0.1:{port}", sessions=sessions)
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
