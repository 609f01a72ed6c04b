"""Middleware for Starlette, FastAPI and every other ASGI framework."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from http import HTTPStatus
from typing import Any

from . import _http
from ._http import Refusal
from .async_client import AsyncClient
from .errors import TenantAuthError
from .results import Principal, Validation

log = logging.getLogger("tenant_auth")

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

# WebSocket close codes: against the policy, and try again later.
CLOSE_DENIED = 1008
CLOSE_LATER = 1013


class DeniedError(Exception):
    """A denial, on its way to become a response."""

    def __init__(self, validation: Validation) -> None:
        super().__init__(f"denied: {validation.verdict}")
        self.validation = validation


class TenantAuthMiddleware:
    """Lets requests with a good key through, with a `Principal` as `request.state.principal`.

    `app.add_middleware(TenantAuthMiddleware, client=client, scopes=["orders:read"], exempt={"/healthz"})`
    """

    def __init__(
        self, app: App, *, client: AsyncClient, scopes: Collection[str] = (), exempt: Collection[str] = ()
    ) -> None:
        self._app = app
        self._client = client
        self._scopes = tuple(scopes)
        self._exempt = frozenset(exempt)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or scope["path"] in self._exempt:
            await self._app(scope, receive, send)
            return
        outcome = await admit(self._client, _http.bearer(scope["headers"]), self._scopes)
        if isinstance(outcome, Refusal):
            await refuse(outcome, scope, send)
            return
        scope.setdefault("state", {})["principal"] = outcome
        await self._app(scope, receive, send)


class AnswerErrors:
    """Turns errors of this package from further in into their responses, such as 503 while nobody can decide."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def note(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, note)
        except (TenantAuthError, DeniedError) as error:
            if started or scope["type"] not in ("http", "websocket"):
                raise
            await refuse(refusal_of(error), scope, send)


async def admit(client: AsyncClient, key: str | None, scopes: Collection[str]) -> Principal | Refusal:
    """Who is calling, or what to answer instead."""
    if key is None:
        return _http.MISSING
    try:
        validation = await client.validate_key(key, scopes)
    except TenantAuthError as error:
        return refusal_of(error)
    return validation.principal if validation.is_valid else _http.denial(validation)


def refusal_of(error: TenantAuthError | DeniedError) -> Refusal:
    if isinstance(error, DeniedError):
        return _http.denial(error.validation)
    refusal = _http.failure(error)
    if refusal.status is HTTPStatus.SERVICE_UNAVAILABLE:
        log.warning("a request is answered with 503: %s", error)
    return refusal


async def refuse(refusal: Refusal, scope: Scope, send: Send) -> None:
    """Sends the response."""
    if scope["type"] == "websocket":
        later = refusal.status is HTTPStatus.SERVICE_UNAVAILABLE
        await send({"type": "websocket.close", "code": CLOSE_LATER if later else CLOSE_DENIED})
        return
    body = refusal.body
    headers = {"Content-Type": "application/problem+json", "Content-Length": str(len(body))} | refusal.headers
    encoded = [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": int(refusal.status), "headers": encoded})
    await send({"type": "http.response.body", "body": body})
