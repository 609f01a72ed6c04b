"""The RPCs that the clients wrap."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from . import _wire
from ._calls import Method
from .networks import ClientAddress, IPAddress
from .proto import info_pb2, limit_pb2, session_pb2, usage_pb2, validation_pb2
from .results import SessionValidation, Validation

V = TypeVar("V", bound=Validation)


def method(service: str, name: str, module: Any) -> Method:
    request, response = getattr(module, f"{name}Request"), getattr(module, f"{name}Response")
    return Method(f"/tenantauth.v1.{service}/{name}", request.SerializeToString, response.FromString)


VALIDATE_KEY = method("ValidationService", "ValidateKey", validation_pb2)
VALIDATE_SESSION = method("ValidationService", "ValidateSession", validation_pb2)
BATCH_VALIDATE_KEYS = method("ValidationService", "BatchValidateKeys", validation_pb2)
BIND_SESSION = method("SessionService", "BindSession", session_pb2)
UNBIND_SESSION = method("SessionService", "UnbindSession", session_pb2)
LIST_SESSIONS = method("SessionService", "ListSessions", session_pb2)
RECORD_USAGE = method("UsageService", "RecordUsage", usage_pb2)
QUERY_USAGE = method("UsageService", "QueryUsage", usage_pb2)
CONSUME = method("LimitService", "Consume", limit_pb2)
BATCH_CONSUME = method("LimitService", "BatchConsume", limit_pb2)
RESERVE = method("LimitService", "Reserve", limit_pb2)
SETTLE = method("LimitService", "Settle", limit_pb2)
CANCEL = method("LimitService", "Cancel", limit_pb2)
GET_LIMIT_STATE = method("LimitService", "GetLimitState", limit_pb2)
GET_SERVER_INFO = method("InfoService", "GetServerInfo", info_pb2)
GET_PRINCIPAL_KEYS = method("InfoService", "GetPrincipalKeys", info_pb2)


@dataclass(frozen=True, slots=True)
class CacheableCall(Generic[V]):
    """A validation that the near cache may answer."""

    method: Method
    cache_key: tuple[str, ...]
    session_id: str | None
    """The session that the answer is about, if any."""
    address: IPAddress | None
    """The customer's address, if known."""
    secrets: tuple[str, ...]
    request: Callable[[Sequence[str]], Any]
    """Returns the message for these required scopes."""
    parse: Callable[[Any], V]


def validate_key(key: str, client_address: ClientAddress) -> CacheableCall[Validation]:
    address = _wire.client_address(client_address)
    return CacheableCall(
        VALIDATE_KEY,
        cache_key=("key", _wire.check_text(key, "key")),
        session_id=None,
        address=address,
        secrets=(key,),
        request=lambda scopes: _wire.key_request(key, scopes, address),
        parse=_wire.validation,
    )


def validate_session(
    session_id: str, key: str | None, client_address: ClientAddress
) -> CacheableCall[SessionValidation]:
    address = _wire.client_address(client_address)
    return CacheableCall(
        VALIDATE_SESSION,
        cache_key=("session", _wire.check_text(session_id, "session_id"), _wire.check_text(key or "", "key")),
        session_id=session_id,
        address=address,
        secrets=(key or "",),
        request=lambda scopes: _wire.session_request(session_id, key, scopes, address),
        parse=_wire.session_validation,
    )
