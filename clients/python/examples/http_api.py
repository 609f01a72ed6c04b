"""An HTTP API whose callers are tenants: run `python examples/http_api.py`, then use curl with the key that `dev`
printed.

curl -H "Authorization: Bearer $KEY" http://127.0.0.1:8000/me
"""

import argparse
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

import uvicorn
from fastapi import Depends, FastAPI

from tenant_auth import AsyncClient, Principal
from tenant_auth.fastapi import RequireTenant


def make_app(client: AsyncClient) -> FastAPI:
    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        # Connects before the first request, so that the near cache can be used from then on.
        async with client:
            yield

    app = FastAPI(title="Orders", lifespan=lifespan)
    any_tenant = RequireTenant(client)
    reader = RequireTenant(client, "demo:read")

    @app.get("/me")
    async def me(principal: Annotated[Principal, Depends(any_tenant)]) -> dict[str, str]:
        return {"tenant": principal.tenant_name, "plan": principal.plan}

    @app.get("/orders")
    async def orders(principal: Annotated[Principal, Depends(reader)]) -> list[str]:
        return [f"the first order of {principal.tenant_id}"]

    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--tenant-auth", default="127.0.0.1:50051")
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    # With proxy headers, uvicorn would let local processes choose the address that keys are compared with.
    uvicorn.run(make_app(AsyncClient(arguments.tenant_auth)), port=arguments.port, proxy_headers=False)


if __name__ == "__main__":
    main()
