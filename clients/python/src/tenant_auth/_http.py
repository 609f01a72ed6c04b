"""Reads credentials of HTTP requests, and maps denials and errors to HTTP. Undecided is 503, never 401."""

from __future__ import annotations

import json
import logging
import math
import re
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Protocol

from . import _checks
from ._limit_headers import limit_headers
from .errors import ErrorKind, TenantAuthError
from .limits import LimitExceededError, exceeded
from .principal import InvalidPrincipalError
from .results import DeniedError, Validation
from .verdict import Verdict

log = logging.getLogger("tenant_auth")

Headers = Iterable[tuple[bytes, bytes]]

AUTHORIZATION = "authorization"
CHALLENGE = "WWW-Authenticate"
INVALID_TOKEN = 'Bearer error="invalid_token"'  # noqa: S105
SECOND_KEY = re.compile(r",\s*bearer\s", re.IGNORECASE)
TOKEN_CHARACTERS = frozenset("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ")

DENIALS: dict[Verdict, tuple[HTTPStatus, str]] = {
    Verdict.UNKNOWN: (HTTPStatus.UNAUTHORIZED, "The key does not exist."),
    Verdict.MALFORMED: (HTTPStatus.UNAUTHORIZED, "The key is malformed."),
    Verdict.EXPIRED: (HTTPStatus.UNAUTHORIZED, "The key has expired."),
    Verdict.REVOKED: (HTTPStatus.UNAUTHORIZED, "The key was revoked."),
    Verdict.DISABLED: (HTTPStatus.FORBIDDEN, "The key is disabled."),
    Verdict.TENANT_SUSPENDED: (HTTPStatus.FORBIDDEN, "The tenant is suspended."),
    Verdict.INSUFFICIENT_SCOPE: (HTTPStatus.FORBIDDEN, "The key lacks a required scope."),
    Verdict.ADDRESS_REQUIRED: (HTTPStatus.FORBIDDEN, "The key may not be used from an unknown address."),
    Verdict.ADDRESS_NOT_ALLOWED: (HTTPStatus.FORBIDDEN, "The key may not be used from this address."),
    Verdict.QUOTA_EXCEEDED: (HTTPStatus.TOO_MANY_REQUESTS, "The tenant has used up its quota."),
    Verdict.RATE_LIMITED: (HTTPStatus.TOO_MANY_REQUESTS, "The tenant exceeds its rate limit."),
    Verdict.UNBOUND: (HTTPStatus.NOT_FOUND, "The session does not exist."),
    Verdict.SESSION_EXPIRED: (HTTPStatus.NOT_FOUND, "The session does not exist."),
    Verdict.TENANT_MISMATCH: (HTTPStatus.NOT_FOUND, "The session does not exist."),
}


class Reply(Protocol):
    """A response without streaming."""

    @property
    def status(self) -> HTTPStatus: ...

    @property
    def body(self) -> bytes: ...

    @property
    def headers(self) -> dict[str, str]:
        """All headers except the content length."""
        ...


@dataclass(frozen=True, slots=True)
class Rejection:
    """A response that rejects a request."""

    status: HTTPStatus
    code: str
    """A machine-readable code, such as `REVOKED`."""
    detail: str
    """A sentence for humans."""
    extra_headers: dict[str, str] = field(default_factory=dict)
    missing_scopes: tuple[str, ...] = ()

    @property
    def body(self) -> bytes:
        """The problem details document (RFC 9457)."""
        problem: dict[str, object] = {
            "type": "about:blank",
            "title": self.status.phrase,
            "status": int(self.status),
            "detail": self.detail,
            "code": self.code,
        }
        if self.missing_scopes:
            problem["missing_scopes"] = self.missing_scopes
        return json.dumps(problem).encode()

    @property
    def headers(self) -> dict[str, str]:
        """All headers except the content length."""
        return {"Content-Type": "application/problem+json", "Cache-Control": "no-store"} | self.extra_headers


NO_CREDENTIALS = Rejection(HTTPStatus.UNAUTHORIZED, "NO_CREDENTIALS", "The request has no key.", {CHALLENGE: "Bearer"})
AMBIGUOUS = Rejection(
    HTTPStatus.BAD_REQUEST, "AMBIGUOUS_REQUEST", "The request has several keys, or several session ids."
)
INVALID_PRINCIPAL = Rejection(
    HTTPStatus.UNAUTHORIZED, "INVALID_PRINCIPAL", "The principal token is invalid.", {CHALLENGE: INVALID_TOKEN}
)
OUTDATED_PRINCIPAL = Rejection(
    HTTPStatus.SERVICE_UNAVAILABLE,
    "OUTDATED_PRINCIPAL",
    "The key or its tenant has just changed. Repeat the request.",
    {"Retry-After": "1"},
)
# These are rejected if repeated, even if another header carries the key: a server behind this one might read the other
# value.
SINGLE_HEADERS = frozenset({AUTHORIZATION, "mcp-session-id"})
# The fields with what the customer sent, of a validation and of a call about limits.
KEY_FIELDS = frozenset({"key", "credential.key.key"})
SESSION_FIELDS = frozenset({"session_id", "credential.session.session_id"})
PREFLIGHT_HEADERS = frozenset({b"origin", b"access-control-request-method"})


class KeySource:
    """The headers that may carry the key."""

    def __init__(self, header: str | Iterable[str]) -> None:
        names = _checks.texts("header", header)
        for name in names:
            if not name or not TOKEN_CHARACTERS.issuperset(name):
                raise ValueError(f"header contains {name!r}: give header names, such as X-API-Key")
        if not names:
            raise ValueError("header is empty: give a header name, such as Authorization")
        self.names = frozenset(name.lower() for name in names)

    def key(self, headers: Headers) -> str | Rejection | None:
        """Returns the key, a rejection if the request is ambiguous, or `None` if there is no key.

        The same key in several of the headers is one credential. Different ones, or a repeated header, are ambiguous:
        a server behind this one might read the other value.
        """
        decoded = [(name.lower().decode("latin-1"), value.decode("latin-1").strip()) for name, value in headers]
        names = [name for name, _ in decoded]
        if any(names.count(name) > 1 for name in SINGLE_HEADERS | self.names):
            return AMBIGUOUS
        found = [key_in(name, value) for name, value in decoded if name in self.names and value]
        if any(key != found[0] for key in found):
            return AMBIGUOUS
        return found[0] if found else None


def key_in(name: str, value: str) -> str | Rejection | None:
    """Returns the key in one header, or `None` if its value is another credential, such as one for Basic."""
    if name != AUTHORIZATION:
        return value
    scheme, _, key = value.partition(" ")
    if SECOND_KEY.search(key):
        # Two headers that a proxy has merged into one.
        return AMBIGUOUS
    return key.strip() or None if scheme.lower() == "bearer" else None


def is_preflight(method: str, headers: Headers) -> bool:
    """Reports whether this is a CORS preflight request. Browsers send these without credentials."""
    names = {name.lower() for name, _ in headers}
    return method == "OPTIONS" and names >= PREFLIGHT_HEADERS


def denial(validation: Validation) -> Rejection:
    """Returns the rejection for a verdict that is not valid."""
    verdict = validation.verdict
    status, detail = DENIALS.get(verdict, (HTTPStatus.FORBIDDEN, "The key does not permit this request."))
    extra = {}
    if status is HTTPStatus.UNAUTHORIZED:
        extra[CHALLENGE] = INVALID_TOKEN
    elif status is HTTPStatus.TOO_MANY_REQUESTS:
        extra["Retry-After"] = "1"
    elif verdict is Verdict.INSUFFICIENT_SCOPE:
        scopes = " ".join(validation.missing_scopes)
        extra[CHALLENGE] = f'Bearer error="insufficient_scope", scope="{scopes}"'
    missing = validation.missing_scopes if verdict is Verdict.INSUFFICIENT_SCOPE else ()
    return Rejection(status, verdict.name, detail, extra, missing)


def limited(error: LimitExceededError) -> Rejection:
    """Returns the rejection of a request that a limit denies."""
    plain = denial(error.validation)
    names = ", ".join(one.name for one in exceeded(error.limits))
    detail = f"A limit is exceeded: {names}." if names else plain.detail
    wait = {} if error.retry_after is None else {"Retry-After": str(max(1, math.ceil(error.retry_after)))}
    return replace(plain, detail=detail, extra_headers=wait | limit_headers(error.limits))


def no_session(verdict: Verdict = Verdict.UNBOUND) -> Rejection:
    """Returns the rejection for a session that has ended, belongs to another tenant, or has a malformed id."""
    return Rejection(HTTPStatus.NOT_FOUND, verdict.name, "The session does not exist.")


def rejection_of(error: TenantAuthError | DeniedError) -> Rejection:
    """Returns the rejection for a denial or an error. Logs undecided requests."""
    if isinstance(error, InvalidPrincipalError):
        return INVALID_PRINCIPAL
    if isinstance(error, LimitExceededError):
        return limited(error)
    if isinstance(error, DeniedError):
        return denial(error.validation)
    if error.kind is ErrorKind.OUTDATED:
        return OUTDATED_PRINCIPAL
    fields = {violation.field for violation in error.violations}
    if error.kind is ErrorKind.INVALID and fields and fields <= KEY_FIELDS:
        # The key comes from the customer and cannot even be sent to the service.
        return denial(Validation(verdict=Verdict.MALFORMED))
    if error.kind is ErrorKind.INVALID and fields and fields <= SESSION_FIELDS:
        return no_session()
    UNDECIDED_LOG.record(error)
    wait = max(1, math.ceil(error.retry_after or 1))
    what = "limits" if error.reason == "LIMIT_UNDECIDED" else "key"
    detail = f"The {what} could not be checked now."
    return Rejection(HTTPStatus.SERVICE_UNAVAILABLE, "UNDECIDED", detail, {"Retry-After": str(wait)})


class UndecidedLog:
    """Logs undecided requests: at most one message per second, with their number."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._next = -math.inf
        self._count = 0

    def record(self, error: TenantAuthError) -> None:
        with self._lock:
            self._count += 1
            now = self._clock()
            if now < self._next:
                return
            count, self._count, self._next = self._count, 0, now + 1.0
        log.warning("requests undecided and rejected with 503: %d; last error: %s", count, error)


UNDECIDED_LOG = UndecidedLog()
