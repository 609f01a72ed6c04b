"""Errors: calls without a result. An error never means "no such key", which is a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Self


class ErrorKind(StrEnum):
    """The kind of an error, which determines how to handle it."""

    UNAVAILABLE = "unavailable"
    """The service is unreachable or cannot decide now: retry later."""
    OVERLOADED = "overloaded"
    """The service is overloaded: retry later."""
    DEADLINE_EXCEEDED = "deadline_exceeded"
    """The call exceeded its deadline. A change may or may not have been made."""
    INVALID = "invalid"
    """The request violates the contract: fix it."""
    UNAUTHENTICATED = "unauthenticated"
    """The service does not know this caller: check the caller token."""
    PERMISSION_DENIED = "permission_denied"
    """This caller lacks the required role."""
    UNIMPLEMENTED = "unimplemented"
    """The service does not implement this RPC."""
    OUTDATED = "outdated"
    """The principal token is older than a known change: repeat the request through the proxy, which asks again."""
    OTHER = "other"
    """Any other error; see `code`."""


@dataclass(frozen=True, slots=True)
class Violation:
    """An invalid field of the request."""

    field: str
    """Path of the field in the request: `requests[3].key`."""
    description: str

    def __str__(self) -> str:
        return f"{self.field}: {self.description}"


class TenantAuthError(Exception):
    """A call has no result. Catch this class or one of its subclasses."""

    kind: ClassVar[ErrorKind] = ErrorKind.OTHER

    def __init__(
        self,
        message: str,
        *,
        code: str = "UNKNOWN",
        reason: str | None = None,
        retry_after: float | None = None,
        violations: Sequence[Violation] = (),
        request_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        """The message of the service, for a log."""
        self.code = code
        """The name of the gRPC status code, such as `UNAVAILABLE`."""
        self.reason = reason
        """A machine-readable reason, such as `DATABASE_TIMED_OUT`."""
        self.retry_after = retry_after
        """The retry delay that the service asked for, in seconds."""
        self.violations = tuple(violations)
        """With `INVALID`: all invalid fields."""
        self.request_id = request_id
        """Identifies the request in the server log."""

    @property
    def is_transient(self) -> bool:
        """Reports whether a later retry may succeed."""
        return self.kind in (ErrorKind.UNAVAILABLE, ErrorKind.OVERLOADED, ErrorKind.DEADLINE_EXCEEDED)

    def copy(self) -> Self:
        """Returns a copy for another caller, because a raised exception collects the traceback of its raiser."""
        return type(self)(
            self.message,
            code=self.code,
            reason=self.reason,
            retry_after=self.retry_after,
            violations=self.violations,
            request_id=self.request_id,
        )

    def __str__(self) -> str:
        parts = [f"{self.code}: {self.message}"]
        if self.reason:
            parts.append(f"reason {self.reason}")
        if self.request_id:
            parts.append(f"request {self.request_id}")
        return ", ".join(parts)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self)!r})"


class UnavailableError(TenantAuthError):
    """The service or its database does not respond."""

    kind = ErrorKind.UNAVAILABLE


class OverloadedError(TenantAuthError):
    """The service is overloaded."""

    kind = ErrorKind.OVERLOADED


class DeadlineExceededError(TenantAuthError):
    """The call exceeded its deadline."""

    kind = ErrorKind.DEADLINE_EXCEEDED


class InvalidRequestError(TenantAuthError):
    """The request violates the contract; `violations` has all invalid fields."""

    kind = ErrorKind.INVALID


class UnauthenticatedError(TenantAuthError):
    """The service does not know this caller."""

    kind = ErrorKind.UNAUTHENTICATED


class PermissionDeniedError(TenantAuthError):
    """This caller lacks the required role."""

    kind = ErrorKind.PERMISSION_DENIED


class UnimplementedError(TenantAuthError):
    """The service does not implement this RPC."""

    kind = ErrorKind.UNIMPLEMENTED


class OutdatedPrincipalError(TenantAuthError):
    """The key or its tenant has changed since the principal token was issued. What has changed is unknown: the key may
    be revoked, or only renamed. The same token stays outdated; a repeated request gets a new one from the proxy.
    """

    kind = ErrorKind.OUTDATED


class QueueFullError(Exception):
    """The queue of the usage recorder is full. The event was not recorded."""


class ClosedError(TenantAuthError):
    """The client or the recorder is closed."""
