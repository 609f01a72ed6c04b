"""A FastAPI dependency: `principal: Annotated[Principal, Depends(RequireTenant(client, "orders:read"))]`."""

from typing import Annotated

from fastapi import Depends, HTTPException
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from ._http import Refusal
from .asgi import admit
from .async_client import AsyncClient
from .results import Principal

# Only for the OpenAPI description and for reading the header: what is missing is answered here.
SCHEME = HTTPBearer(auto_error=False, description="A key of a tenant.")
Credentials = Annotated[HTTPAuthorizationCredentials | None, Depends(SCHEME)]


class RequireTenant:
    """Hands the caller's `Principal` to a handler if its key is good and holds all scopes."""

    def __init__(self, client: AsyncClient, *scopes: str) -> None:
        self._client = client
        self._scopes = scopes

    async def __call__(self, credentials: Credentials) -> Principal:
        key = (credentials.credentials.strip() or None) if credentials is not None else None
        outcome = await admit(self._client, key, self._scopes)
        if isinstance(outcome, Refusal):
            detail = {"code": outcome.code, "message": outcome.detail}
            raise HTTPException(outcome.status, detail, outcome.headers)
        return outcome
