"""A FastAPI dependency: `principal: Annotated[Principal, Depends(RequireTenant(client, "orders:read"))]`."""

from collections.abc import Iterable

from fastapi import HTTPException
from fastapi.openapi.models import APIKey, APIKeyIn, HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from . import _checks
from ._http import AUTHORIZATION, Refusal, Source
from .asgi import admit
from .async_client import AsyncClient
from .results import Principal


class RefusedError(HTTPException):
    """What FastAPI answers instead of calling the handler."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.status, refusal.detail, refusal.more_headers)
        self.refusal = refusal


class RequireTenant(SecurityBase):
    """Hands the caller's `Principal` to a handler if its key is good and holds all scopes.

    `header`: where the key comes from, `Authorization` (as a bearer token) or a header of your own.
    """

    def __init__(self, client: AsyncClient, *scopes: str | Iterable[str], header: str = "Authorization") -> None:
        _checks.instance("client", client, AsyncClient)
        _checks.instance("header", header, str)
        self._client = client
        self._scopes = tuple(one for given in scopes for one in _checks.texts("scopes", given))
        self._source = Source(header)
        # For the OpenAPI description.
        bearer = header.lower() == AUTHORIZATION
        place = {"in": APIKeyIn.header, "name": header}
        self.model = HTTPBearer(description="A key of a tenant.") if bearer else APIKey.model_validate(place)
        self.scheme_name = "HTTPBearer" if bearer else "APIKeyHeader"

    async def __call__(self, connection: HTTPConnection) -> Principal:
        outcome = await admit(self._client, self._source.key(connection.scope["headers"]), self._scopes)
        if isinstance(outcome, Refusal):
            # Only an exception handler can choose the body; this one is found wherever the app has its handlers.
            handlers = connection.scope.get("starlette.exception_handlers")
            if handlers is not None:
                handlers[0].setdefault(RefusedError, respond)
            raise RefusedError(outcome)
        return outcome


async def respond(_request: Request, error: RefusedError) -> Response:
    refusal = error.refusal
    return Response(refusal.body, int(refusal.status), refusal.headers)
