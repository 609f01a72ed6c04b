"""The customer's address in the current request, for code that receives only the key."""

from __future__ import annotations

from contextvars import ContextVar

from ._client_address import AddressSource
from .asgi import App, Receive, Scope, Send
from .networks import IPAddress

REQUEST_ADDRESS: ContextVar[IPAddress | None] = ContextVar("tenant_auth_request_address", default=None)


class RequestAddressMiddleware:
    """Sets `REQUEST_ADDRESS` while a request is handled."""

    def __init__(self, app: App, *, source: AddressSource) -> None:
        self._app = app
        self._source = source

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = REQUEST_ADDRESS.set(self._source.address(scope) if scope["type"] == "http" else None)
        try:
            await self._app(scope, receive, send)
        finally:
            REQUEST_ADDRESS.reset(token)
