"""Why there is no answer. Never means "no such key": that is a verdict."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar, Self


class ErrorKind(StrEnum):
    """What to do about an error."""

    UNAVAILABLE = "unavailable"
    """Nobody knows now: ask again later."""
    OVERLOADED = "overloaded"
    """The service has too much to do: ask again later."""
    DEADLINE_EXCEEDED = "deadline_exceeded"
    """No answer in time. Whether a change was made is not known."""
    INVALID = "invalid"
    """The request breaks the contract: fix it."""
    UNAUTHENTICATED = "unauthenticated"
    """The service does not know this caller: check the caller token."""
    PERMISSION_DENIED = "permission_denied"
    """This caller may not do that."""
    NOT_SERVED = "not_served"
    """The contract has this call, the service does not serve it."""
    OTHER = "other"
    """Anything else; see `code`."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A field of the request and what is wrong with it."""

    field: str
    """As a path in the request: `requests[3].key`."""
    description: str

    def __str__(self) -> str:
        return f"{self.field}: {self.description}"


class TenantAuthError(Exception):
    """Why there is no answer. Catch this, or one of its kinds."""

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
        """The service's own words, for a log."""
        self.code = code
        """The gRPC status code by name, such as `UNAVAILABLE`."""
        self.reason = reason
        """Machine-readable, such as `DATABASE_TIMED_OUT`."""
        self.retry_after = retry_after
        """When the service wants to be asked again, in seconds."""
        self.violations = tuple(violations)
        """With `INVALID`: every wrong field."""
        self.request_id = request_id
        """Names the request in the service's log."""

    @property
    def is_transient(self) -> bool:
        """Whether asking again later may be answered."""
        return self.kind in (ErrorKind.UNAVAILABLE, ErrorKind.OVERLOADED, ErrorKind.DEADLINE_EXCEEDED)

    def again(self) -> Self:
        """The same error for one more caller: a raised exception collects the trace of whoever raises it."""
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
    """The service, or its database, gives no answer now."""

    kind = ErrorKind.UNAVAILABLE


class OverloadedError(TenantAuthError):
    """The service has too much to do."""

    kind = ErrorKind.OVERLOADED


class DeadlineExceededError(TenantAuthError):
    """No answer in time."""

    kind = ErrorKind.DEADLINE_EXCEEDED


class InvalidRequestError(TenantAuthError):
    """The request breaks the contract; `violations` has every wrong field."""

    kind = ErrorKind.INVALID


class UnauthenticatedError(TenantAuthError):
    """The service does not know this caller."""

    kind = ErrorKind.UNAUTHENTICATED


class PermissionDeniedError(TenantAuthError):
    """This caller may not do that."""

    kind = ErrorKind.PERMISSION_DENIED


class NotServedError(TenantAuthError):
    """The service does not serve this call."""

    kind = ErrorKind.NOT_SERVED


class QueueFullError(Exception):
    """The usage recorder holds as much as it may: the event was not taken."""


class ClosedError(TenantAuthError):
    """The client or the recorder was closed."""
