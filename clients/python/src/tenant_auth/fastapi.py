"""FastAPI dependencies: `principal: Annotated[Principal, Depends(RequireTenant(client, "orders:read"))]`."""

from collections.abc import Callable, Iterable

from fastapi import HTTPException
from fastapi.openapi.models import APIKey, APIKeyIn, HTTPBearer
from fastapi.security.base import SecurityBase
from starlette.requests import HTTPConnection, Request
from starlette.responses import Response

from . import _checks
from ._client_address import DEFAULT_HEADER, AddressSource
from ._costs import CostSource
from ._http import AUTHORIZATION, KeySource, Rejection
from .asgi import PRINCIPAL_SOURCE, admit, admit_principal, limit_headers
from .async_client import AsyncClient
from .async_verifier import AsyncPrincipalVerifier
from .limits import Costs
from .principal import VerifiedPrincipal
from .results import Principal


class RejectedError(HTTPException):
    """The exception that makes FastAPI respond with a rejection."""

    def __init__(self, rejection: Rejection) -> None:
        super().__init__(rejection.status, rejection.detail, rejection.extra_headers)
        self.rejection = rejection


class RequireTenant(SecurityBase):
    """Passes the caller's `Principal` to a handler if the key is valid and holds all scopes.

    `header`: the header that carries the key: `Authorization` (as a bearer token), a custom header, or several, which
    must agree; the first one is in the OpenAPI description.
    `trusted_proxies` and `client_address_header`: as for `TenantAuthMiddleware`.
    `costs`: what each request takes from the limits of its key, or a function that returns it for a request. The
    decisions are in `request.state.limits`, and in the headers of the response, unless the handler returns its own
    `Response`: add `tenant_auth.asgi.limit_headers(request.state.limits)` to that.
    """

    def __init__(
        self,
        client: AsyncClient,
        *scopes: str | Iterable[str],
        header: str | Iterable[str] = "Authorization",
        trusted_proxies: str | Iterable[str] = (),
        client_address_header: str = DEFAULT_HEADER,
        costs: Costs | Callable[[HTTPConnection], Costs] | None = None,
    ) -> None:
        _checks.instance("client", client, AsyncClient)
        self._client = client
        self._scopes = tuple(one for given in scopes for one in _checks.texts("scopes", given))
        headers = _checks.texts("header", header)
        self._source = KeySource(headers)
        self._address_source = AddressSource(trusted_proxies, client_address_header)
        self._costs = CostSource(costs)
        # The OpenAPI description of the security scheme.
        bearer = headers[0].lower() == AUTHORIZATION
        location = {"in": APIKeyIn.header, "name": headers[0]}
        self.model = HTTPBearer(description="A key of a tenant.") if bearer else APIKey.model_validate(location)
        self.scheme_name = "HTTPBearer" if bearer else "APIKeyHeader"

    async def __call__(self, connection: HTTPConnection, response: Response) -> Principal:
        key = self._source.key(connection.scope["headers"])
        address = self._address_source.address(connection.scope)
        costs = self._costs.of(connection) if isinstance(key, str) else {}
        outcome = await admit(self._client, key, self._scopes, address, costs)
        if isinstance(outcome, Rejection):
            raise rejected(outcome, connection)
        if self._costs.is_set:
            connection.state.limits = outcome.limits
            response.headers.update(limit_headers(outcome.limits))
        return outcome.principal


class RequirePrincipal:
    """Passes the `VerifiedPrincipal` to a handler if the principal token, which a proxy has set, is valid and names all
    scopes. It is not in the OpenAPI description, because callers send their key to the proxy instead.
    """

    def __init__(self, verifier: AsyncPrincipalVerifier, *scopes: str | Iterable[str]) -> None:
        _checks.instance("verifier", verifier, AsyncPrincipalVerifier)
        self._verifier = verifier
        self._scopes = tuple(one for given in scopes for one in _checks.texts("scopes", given))

    async def __call__(self, connection: HTTPConnection) -> VerifiedPrincipal:
        token = PRINCIPAL_SOURCE.key(connection.scope["headers"])
        outcome = await admit_principal(self._verifier, token, self._scopes)
        if isinstance(outcome, Rejection):
            raise rejected(outcome, connection)
        return outcome


def rejected(rejection: Rejection, connection: HTTPConnection) -> RejectedError:
    """Returns the exception to raise, and ensures that the app can respond to it."""
    # Only an exception handler can set the response body. This finds the handlers of the app at run time.
    handlers = connection.scope.get("starlette.exception_handlers")
    if handlers is not None:
        handlers[0].setdefault(RejectedError, respond)
    return RejectedError(rejection)


async def respond(_request: Request, error: RejectedError) -> Response:
    rejection = error.rejection
    return Response(rejection.body, int(rejection.status), rejection.headers)
