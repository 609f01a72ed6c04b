"""The RPCs that the clients wrap."""

from __future__ import annotations

from typing import Any

from ._calls import Method
from .proto import info_pb2, session_pb2, usage_pb2, validation_pb2


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
GET_SERVER_INFO = method("InfoService", "GetServerInfo", info_pb2)
