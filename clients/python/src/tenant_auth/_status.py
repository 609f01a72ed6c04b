"""Converts gRPC statuses to errors of this package. This is the only module that does so."""

from __future__ import annotations

from collections.abc import Iterable

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from . import errors
from .errors import TenantAuthError, Violation

DETAILS = "grpc-status-details-bin"
REQUEST_ID = "x-request-id"

KINDS: dict[str, type[TenantAuthError]] = {
    "UNAVAILABLE": errors.UnavailableError,
    "RESOURCE_EXHAUSTED": errors.OverloadedError,
    "DEADLINE_EXCEEDED": errors.DeadlineExceededError,
    "INVALID_ARGUMENT": errors.InvalidRequestError,
    "UNAUTHENTICATED": errors.UnauthenticatedError,
    "PERMISSION_DENIED": errors.PermissionDeniedError,
    "UNIMPLEMENTED": errors.UnimplementedError,
}
CODES: dict[int, str] = {code.value[0]: code.name for code in grpc.StatusCode}
# Shorter texts are not secrets, and redacting them would damage every message.
MIN_SECRET_LENGTH = 8


def from_rpc(error: grpc.RpcError, request_id: str, secrets: Iterable[str] = ()) -> TenantAuthError:
    """Converts the status of a failed call. `secrets` are redacted in all its texts."""
    code = error.code()
    message = error.details() or ""
    status = status_pb2.Status()
    for key, value in metadata(error):
        if key == REQUEST_ID and isinstance(value, str):
            request_id = value
        if key == DETAILS and isinstance(value, bytes):
            status = parsed(value)
    return make(code.name, message, status, request_id, secrets)


def from_item(item: status_pb2.Status, request_id: str, secrets: Iterable[str] = ()) -> TenantAuthError:
    """Converts the status of one item of a response."""
    return make(CODES.get(item.code, "UNKNOWN"), item.message, item, request_id, secrets)


def invalid_response(message: str) -> TenantAuthError:
    """A response that violates the contract."""
    return TenantAuthError(message, code="INTERNAL")


def deadline_exceeded(request_id: str | None = None) -> errors.DeadlineExceededError:
    """The timeout of this client has passed."""
    return errors.DeadlineExceededError("deadline exceeded", code="DEADLINE_EXCEEDED", request_id=request_id)


def connection_lost() -> TenantAuthError:
    """The connection was closed."""
    return errors.UnavailableError("the connection was lost", code="UNAVAILABLE")


def closed_error(what: str = "client") -> errors.ClosedError:
    """The client or recorder was closed."""
    return errors.ClosedError(f"the {what} is closed", code="CANCELLED")


def make(
    code: str, message: str, status: status_pb2.Status, request_id: str, secrets: Iterable[str]
) -> TenantAuthError:
    known = tuple(secret for secret in secrets if len(secret) >= MIN_SECRET_LENGTH)

    def clean(text: str) -> str:
        for secret in known:
            text = text.replace(secret, "[redacted]")
        return text

    reason: str | None = None
    retry_after: float | None = None
    violations: list[Violation] = []
    info, retry, bad = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), error_details_pb2.BadRequest()
    for detail in status.details:
        try:
            if detail.Unpack(info):
                reason = clean(info.reason)
            elif detail.Unpack(retry):
                retry_after = max(0.0, retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9)
            elif detail.Unpack(bad):
                violations += [Violation(clean(v.field), clean(v.description)) for v in bad.field_violations]
        except DecodeError:
            # Code and message are useful without the malformed detail.
            continue
    return KINDS.get(code, TenantAuthError)(
        clean(message),
        code=code,
        reason=reason,
        retry_after=retry_after,
        violations=violations,
        request_id=clean(request_id),
    )


def metadata(error: grpc.RpcError) -> Iterable[tuple[str, str | bytes]]:
    for part in ("initial_metadata", "trailing_metadata"):
        read = getattr(error, part, None)
        yield from (read() or ()) if read else ()


def parsed(data: bytes) -> status_pb2.Status:
    try:
        return status_pb2.Status.FromString(data)
    except DecodeError:
        return status_pb2.Status()
