"""Handles: state that a server keeps for a tenant, and that tool arguments name."""

from __future__ import annotations

from mcp.shared.exceptions import MCPError

from .. import _checks
from .._credential import Credential
from ..async_client import AsyncClient
from ..results import DeniedError, Principal, SessionValidation, Validation
from ..sessions import SessionExpiry
from ._context import current_principal
from ._handle_ids import check_kind, is_handle, new_handle, session_id_of
from ._refusals import INVALID_PARAMS
from ._sessions import ttl_of


class UnknownHandleError(MCPError):
    """The handle is malformed, unknown, ended, of another kind, or belongs to another tenant. In a tool, it is answered
    with the JSON-RPC error -32602.
    """

    def __init__(self) -> None:
        super().__init__(INVALID_PARAMS, "unknown handle")


class Handles:
    """Mints handles for the tenant of the current request, and checks them in later ones.

    A handle never authenticates: it is valid only together with a key of its tenant. It ends `ttl` seconds after its
    last use (60 seconds to a day), or when the key that minted it may no longer be used.
    """

    def __init__(self, client: AsyncClient, *, ttl: float = 3600.0) -> None:
        _checks.instance("client", client, AsyncClient)
        self._client = client
        self._ttl = ttl_of(ttl)

    async def mint(self, kind: str) -> str:
        """Returns a new handle, such as `cart_…`. Raises `DeniedError` if the key is no longer valid, and a
        `TenantAuthError` if it is undecided.
        """
        handle = new_handle(check_kind(kind))
        _, credential = current()
        binding = await self._client.bind_session(
            session_id_of(handle),
            credential.key or "",
            self._ttl,
            expiry=SessionExpiry.SLIDING,
            attributes={"kind": kind},
            client_address=credential.address,
        )
        if not binding.is_valid:
            raise DeniedError(Validation(verdict=binding.verdict))
        return handle

    async def require(self, handle: str, kind: str) -> SessionValidation:
        """Returns the binding of a handle that belongs to the tenant of the current request.

        Raises `UnknownHandleError` otherwise, `DeniedError` if the key of the request is no longer valid, and a
        `TenantAuthError` if it is undecided.
        """
        check_kind(kind)
        principal, credential = current()
        if not is_handle(handle, kind):
            raise UnknownHandleError
        session = await self._client.validate_session(
            session_id_of(handle), credential.key, client_address=credential.address
        )
        if not session.is_valid:
            # A denial of the presented key is no statement about the handle.
            await self._client.require_key(credential.key or "", client_address=credential.address)
            raise UnknownHandleError
        if session.tenant_id != principal.tenant_id or session.attributes.get("kind") != kind:
            raise UnknownHandleError
        return session

    async def release(self, handle: str, kind: str) -> bool:
        """Ends a handle. Returns whether it was valid for the tenant of the current request. Raises a `TenantAuthError`
        if it is undecided.
        """
        check_kind(kind)
        principal, _ = current()
        if not is_handle(handle, kind):
            return False
        return await self._client.unbind_session(session_id_of(handle), principal.tenant_id)


def current() -> tuple[Principal, Credential]:
    """Returns the principal of the current request, and its credential."""
    principal = current_principal()
    credential = principal._presented
    if credential is None:
        raise LookupError("the current request was not admitted by an McpGate: use protect")
    return principal, credential
