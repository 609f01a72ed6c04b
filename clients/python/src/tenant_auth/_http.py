"""What a denial or a failure is in HTTP. A service that cannot decide is 503 and never 401."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from http import HTTPStatus

from .errors import ErrorKind, TenantAuthError
from .results import Validation
from .verdict import Verdict

Headers = Iterable[tuple[bytes, bytes]]

CHALLENGE = "WWW-Authenticate"
INVALID_TOKEN = 'Bearer error="invalid_token"'  # noqa: S105

DENIALS: dict[Verdict, tuple[HTTPStatus, str]] = {
    Verdict.UNKNOWN: (HTTPStatus.UNAUTHORIZED, "There is no such key."),
    Verdict.MALFORMED: (HTTPStatus.UNAUTHORIZED, "This cannot be a key."),
    Verdict.EXPIRED: (HTTPStatus.UNAUTHORIZED, "The key has expired."),
    Verdict.REVOKED: (HTTPStatus.UNAUTHORIZED, "The key was withdrawn."),
    Verdict.UNBOUND: (HTTPStatus.UNAUTHORIZED, "There is no such session."),
    Verdict.SESSION_EXPIRED: (HTTPStatus.UNAUTHORIZED, "The session has expired."),
    Verdict.TENANT_SUSPENDED: (HTTPStatus.FORBIDDEN, "The tenant is suspended."),
    Verdict.INSUFFICIENT_SCOPE: (HTTPStatus.FORBIDDEN, "The key lacks a required scope."),
    Verdict.TENANT_MISMATCH: (HTTPStatus.FORBIDDEN, "The session belongs to another tenant."),
    Verdict.QUOTA_EXCEEDED: (HTTPStatus.TOO_MANY_REQUESTS, "The tenant has used up its quota."),
    Verdict.RATE_LIMITED: (HTTPStatus.TOO_MANY_REQUESTS, "The tenant calls too often."),
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """A response instead of the one that was asked for."""

    status: HTTPStatus
    code: str
    """For programs, such as `REVOKED`."""
    detail: str
    """For people."""
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def body(self) -> bytes:
        """Problem details (RFC 9457)."""
        problem = {"title": self.status.phrase, "status": self.status, "detail": self.detail, "code": self.code}
        return json.dumps(problem).encode()


MISSING = Refusal(HTTPStatus.UNAUTHORIZED, "MISSING", "Send a key as a bearer token.", {CHALLENGE: "Bearer"})


def bearer(headers: Headers) -> str | None:
    """The key in `Authorization: Bearer …`; `None` when there is none, or more than one."""
    values = [value for name, value in headers if name.lower() == b"authorization"]
    if len(values) != 1:
        return None
    scheme, _, key = values[0].decode("latin-1").partition(" ")
    return key.strip() or None if scheme.lower() == "bearer" else None


def denial(validation: Validation) -> Refusal:
    """For a verdict that is not valid."""
    verdict = validation.verdict
    status, detail = DENIALS.get(verdict, (HTTPStatus.FORBIDDEN, "The key is not good for this."))
    headers = {}
    if status is HTTPStatus.UNAUTHORIZED:
        headers[CHALLENGE] = INVALID_TOKEN
    elif verdict is Verdict.INSUFFICIENT_SCOPE:
        scopes = " ".join(validation.missing_scopes)
        headers[CHALLENGE] = f'Bearer error="insufficient_scope", scope="{scopes}"'
    return Refusal(status, verdict.name, detail, headers)


def failure(error: TenantAuthError) -> Refusal:
    """For an error."""
    if error.kind is ErrorKind.INVALID and error.violations and all(v.field == "key" for v in error.violations):
        # What was presented is not even a question: the only part of a request that comes from the customer.
        return Refusal(HTTPStatus.UNAUTHORIZED, "MALFORMED", DENIALS[Verdict.MALFORMED][1], {CHALLENGE: INVALID_TOKEN})
    wait = max(1, math.ceil(error.retry_after or 1))
    detail = "Keys cannot be checked at the moment."
    return Refusal(HTTPStatus.SERVICE_UNAVAILABLE, "UNAVAILABLE", detail, {"Retry-After": str(wait)})
