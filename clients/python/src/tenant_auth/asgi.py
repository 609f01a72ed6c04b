"""Middleware for Starlette, FastAPI and other ASGI frameworks."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http import HTTPStatus

from . import _checks, _http
from ._asgi_types import App, Message, Receive, Scope, Send
from ._client_address import DEFAULT_HEADER, AddressSource
from ._costs import CostSource
from ._guarded_response import run_guarded
from ._http import KeySource, Rejection, Reply, rejection_of
from ._limit_headers import limit_headers, with_limit_headers
from ._stream_end import CLOSE_DENIED, CLOSE_LATER
from .async_client import AsyncClient
from .async_verifier import AsyncPrincipalVerifier
from .errors import TenantAuthError
from .limits import Costs, LimitDecision
from .networks import IPAddress
from .principal import VerifiedPrincipal
from .results import DeniedError, KeyQuery, Principal

__all__ = ["ErrorResponseMiddleware", "PrincipalMiddleware", "TenantAuthMiddleware", "limit_headers"]

PRINCIPAL_SOURCE = KeySource("X-Tenant-Principal")


class AdmissionMiddleware:
    """What the middleware for keys and the one for principal tokens have in common."""

    def __init__(
        self, app: App, source: KeySource, scopes: str | Iterable[str], exempt: str | Iterable[str], preflight: bool
    ) -> None:
        self._app = app
        self._source = source
        self._scopes = _checks.texts("scopes", scopes)
        self._exempt = exempt_paths(exempt)
        self._preflight = _checks.flag("preflight", preflight)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] in self._exempt:
            await self._app(scope, receive, send)
            return
        key = self._source.key(scope["headers"])
        if key is None and self._preflight and _http.is_preflight(scope.get("method", ""), scope["headers"]):
            await self._app(scope, receive, send)
            return
        outcome = await self._admit(key, scope)
        if isinstance(outcome, Rejection):
            await send_rejection(outcome, scope, send)
            return
        scope.setdefault("state", {})["principal"] = outcome
        await self._run(outcome, scope, receive, send)

    async def _admit(self, key: str | Rejection | None, scope: Scope) -> object:
        """Returns the principal, or the rejection."""
        raise NotImplementedError

    async def _run(self, _principal: object, scope: Scope, receive: Receive, send: Send) -> None:
        await self._app(scope, receive, send)


class TenantAuthMiddleware(AdmissionMiddleware):
    """Admits requests with a valid key. Handlers find the `Principal` in `request.state.principal`.

    `app.add_middleware(TenantAuthMiddleware, client=client, scopes=["orders:read"], exempt=["/healthz"])`

    `header`: the header that carries the key: `Authorization` (as a bearer token), a custom header, or several, which
    must agree. `exempt`: exact paths that need no key. `preflight`: whether CORS preflight requests are
    admitted; they have no key and get no principal. `guard`: whether Server-Sent Events and WebSockets end when the key
    may no longer be used; see `AsyncClient.guard`. `trusted_proxies`: addresses and networks of the proxies that set
    `client_address_header`; without them, the customer's address is that of the connection. `costs`: what each request
    takes from the limits of its key, or a function that returns it for the scope of a request. Handlers then find the
    decisions in `request.state.limits`.
    """

    def __init__(
        self,
        app: App,
        *,
        client: AsyncClient,
        scopes: str | Iterable[str] = (),
        exempt: str | Iterable[str] = (),
        header: str | Iterable[str] = "Authorization",
        preflight: bool = True,
        guard: bool = True,
        trusted_proxies: str | Iterable[str] = (),
        client_address_header: str = DEFAULT_HEADER,
        costs: Costs | Callable[[Scope], Costs] | None = None,
    ) -> None:
        _checks.instance("client", client, AsyncClient)
        super().__init__(app, KeySource(header), scopes, exempt, preflight)
        self._client = client
        self._guard = _checks.flag("guard", guard)
        self._address_source = AddressSource(trusted_proxies, client_address_header)
        self._costs = CostSource(costs)

    async def _admit(self, key: str | Rejection | None, scope: Scope) -> Principal | Rejection:
        costs = self._costs.of(scope) if isinstance(key, str) else {}
        outcome = await admit(self._client, key, self._scopes, self._address_source.address(scope), costs)
        if isinstance(outcome, Rejection):
            return outcome
        if self._costs.is_set:
            scope.setdefault("state", {})["limits"] = outcome.limits
        return outcome.principal

    async def _run(self, principal: object, scope: Scope, receive: Receive, send: Send) -> None:
        if self._costs.is_set:
            send = with_limit_headers(scope["state"]["limits"], send)
        if self._guard and isinstance(principal, Principal):
            await run_guarded(self._app, self._client, principal, scope, receive, send)
        else:
            await self._app(scope, receive, send)


class PrincipalMiddleware(AdmissionMiddleware):
    """Admits requests with a valid principal token, which a proxy has set. Handlers find the `VerifiedPrincipal` in
    `request.state.principal`.

    `app.add_middleware(PrincipalMiddleware, verifier=client.principal_verifier("billing"), scopes=["orders:read"])`

    `exempt`: exact paths that need no token. `preflight`: whether CORS preflight requests are admitted; they have no
    token and get no principal.
    """

    def __init__(
        self,
        app: App,
        *,
        verifier: AsyncPrincipalVerifier,
        scopes: str | Iterable[str] = (),
        exempt: str | Iterable[str] = (),
        preflight: bool = True,
    ) -> None:
        _checks.instance("verifier", verifier, AsyncPrincipalVerifier)
        super().__init__(app, PRINCIPAL_SOURCE, scopes, exempt, preflight)
        self._verifier = verifier

    async def _admit(self, key: str | Rejection | None, _scope: Scope) -> VerifiedPrincipal | Rejection:
        return await admit_principal(self._verifier, key, self._scopes)


class ResponseStart:
    """Sends messages, and notes whether a response has started, after which it cannot be replaced."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.has_started = False

    async def __call__(self, message: Message) -> None:
        self.has_started = True
        await self._send(message)


class ErrorResponseMiddleware:
    """Converts denials and errors of this package that handlers raise to responses, such as 503 for an undecided
    request.
    """

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = ResponseStart(send)
        try:
            await self._app(scope, receive, response)
        except (TenantAuthError, DeniedError) as error:
            if response.has_started or scope["type"] not in ("http", "websocket"):
                raise
            await send_rejection(rejection_of(error), scope, send)


def exempt_paths(given: str | Iterable[str]) -> frozenset[str]:
    """Checks the paths that need no key."""
    paths = frozenset(_checks.texts("exempt", given))
    for path in paths:
        if not path.startswith("/") or "?" in path or "#" in path:
            raise ValueError(f"exempt contains {path!r}: give exact paths, such as /healthz")
    return paths


@dataclass(frozen=True, slots=True)
class Admitted:
    """A request that may proceed."""

    principal: Principal
    limits: tuple[LimitDecision, ...] = ()


async def admit(
    client: AsyncClient, key: str | Rejection | None, scopes: Iterable[str], address: IPAddress | None, costs: Costs
) -> Admitted | Rejection:
    """Validates the key, and takes the costs in the same call. Returns the rejection otherwise."""
    if key is None:
        return _http.NO_CREDENTIALS
    if isinstance(key, Rejection):
        return key
    try:
        if not costs:
            return Admitted(await client.require_key(key, scopes, client_address=address))
        decided = await client.consume(KeyQuery(key, scopes, address), costs)
        return Admitted(decided.principal, decided.limits)
    except (TenantAuthError, DeniedError) as error:
        return rejection_of(error)


async def admit_principal(
    verifier: AsyncPrincipalVerifier, token: str | Rejection | None, scopes: Iterable[str]
) -> VerifiedPrincipal | Rejection:
    """Returns the principal of a token, or the rejection."""
    if token is None:
        return _http.NO_CREDENTIALS
    if isinstance(token, Rejection):
        return token
    try:
        return await verifier.verify(token, scopes)
    except (TenantAuthError, DeniedError) as error:
        return rejection_of(error)


async def send_rejection(rejection: Reply, scope: Scope, send: Send) -> None:
    """Sends the rejection."""
    if scope["type"] == "websocket":
        later = rejection.status is HTTPStatus.SERVICE_UNAVAILABLE
        await send({"type": "websocket.close", "code": CLOSE_LATER if later else CLOSE_DENIED})
        return
    body = rejection.body
    headers = rejection.headers | {"Content-Length": str(len(body))}
    encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": int(rejection.status), "headers": encoded})
    await send({"type": "http.response.body", "body": body})
