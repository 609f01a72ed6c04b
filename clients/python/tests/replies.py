"""Responses for the fake service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2

from tenant_auth.proto import validation_pb2, verdict_pb2


def answer(
    verdict: int = 1, *, cacheable_for: float = 5.0, watched: float = 60.0, revision: int = 10, **more: Any
) -> Any:
    """A response for a key. All except UNKNOWN and MALFORMED are about the key `key_1` of the tenant `acme`."""
    message = validation_pb2.ValidateKeyResponse(verdict=verdict)  # type: ignore[arg-type]
    fill(message, verdict, (cacheable_for, watched), revision, more)
    return message


def session_answer(
    verdict: int = 1, *, cacheable_for: float = 5.0, watched: float = 60.0, revision: int = 10, **more: Any
) -> Any:
    message = validation_pb2.ValidateSessionResponse(verdict=verdict)  # type: ignore[arg-type]
    fill(message, verdict, (cacheable_for, watched), revision, more)
    return message


def fill(message: Any, verdict: int, reuse: tuple[float, float], revision: int, more: dict[str, Any]) -> None:
    message.provenance.source = verdict_pb2.SOURCE_DATABASE
    message.provenance.revision = revision
    message.provenance.cacheable_for.FromNanoseconds(round(reuse[0] * 1e9))
    message.provenance.cacheable_while_watched.FromNanoseconds(round(reuse[1] * 1e9))
    if verdict not in (2, 3):
        known = {"tenant_id": "acme", "tenant_name": "Acme", "plan": "pro", "key_id": "key_1"}
        scopes = more.pop("scopes", ["orders:read"])
        message.scopes.extend(scopes)
        for name, value in (known | more).items():
            if isinstance(value, Message):
                getattr(message, name).CopyFrom(value)
            elif isinstance(value, dict):
                getattr(message, name).update(value)
            elif isinstance(value, list):
                getattr(message, name).extend(value)
            else:
                setattr(message, name, value)


class Failure(Exception):
    """A status with details, returned instead of a response."""

    def __init__(
        self,
        code: grpc.StatusCode,
        message: str = "failure set by the test",
        *,
        reason: str | None = None,
        retry_after: float | None = None,
        violations: Sequence[tuple[str, str]] = (),
    ) -> None:
        super().__init__(message)
        self.code = code
        self.status = status_pb2.Status(code=code.value[0], message=message)
        details: list[Message] = []
        if reason is not None:
            details.append(error_details_pb2.ErrorInfo(reason=reason, domain="tenantauth.v1"))
        if retry_after is not None:
            info = error_details_pb2.RetryInfo()
            info.retry_delay.FromNanoseconds(round(retry_after * 1e9))
            details.append(info)
        if violations:
            made = [error_details_pb2.BadRequest.FieldViolation(field=f, description=d) for f, d in violations]
            details.append(error_details_pb2.BadRequest(field_violations=made))
        for detail in details:
            packed = AnyMessage()
            packed.Pack(detail)
            self.status.details.append(packed)
