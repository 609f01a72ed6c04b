"""The Python client of tenant-auth: validates API keys and sessions, and records usage.

`AsyncClient` is for asyncio, `Client` for threads. Both have the same methods.
"""

from ._redaction import redact
from ._usage_buffer import RecorderOptions
from ._version import __version__
from .async_client import AsyncClient
from .async_recorder import AsyncUsageRecorder
from .async_verifier import AsyncPrincipalVerifier
from .client import Client
from .errors import (
    ClosedError,
    DeadlineExceededError,
    ErrorKind,
    InvalidRequestError,
    OutdatedPrincipalError,
    OverloadedError,
    PermissionDeniedError,
    QueueFullError,
    TenantAuthError,
    UnauthenticatedError,
    UnavailableError,
    UnimplementedError,
    Violation,
)
from .networks import ClientAddress, Networks
from .options import NearCache, Options, Retry, Tls, TokenFile
from .principal import InvalidPrincipalError, VerifiedPrincipal
from .recorder import UsageRecorder
from .results import (
    DeniedError,
    KeyQuery,
    Outcome,
    Principal,
    Provenance,
    ServerInfo,
    SessionValidation,
    Validation,
    WatchState,
)
from .sessions import Binding, Session, SessionExpiry
from .usage import RejectedEvent, UnsentUsage, UsageBucket, UsageEvent, UsageReceipt, UsageSum
from .verdict import Source, Verdict
from .verifier import PrincipalVerifier

redact()

__all__ = [
    "AsyncClient",
    "AsyncPrincipalVerifier",
    "AsyncUsageRecorder",
    "Binding",
    "Client",
    "ClientAddress",
    "ClosedError",
    "DeadlineExceededError",
    "DeniedError",
    "ErrorKind",
    "InvalidPrincipalError",
    "InvalidRequestError",
    "KeyQuery",
    "NearCache",
    "Networks",
    "Options",
    "Outcome",
    "OutdatedPrincipalError",
    "OverloadedError",
    "PermissionDeniedError",
    "Principal",
    "PrincipalVerifier",
    "Provenance",
    "QueueFullError",
    "RecorderOptions",
    "RejectedEvent",
    "Retry",
    "ServerInfo",
    "Session",
    "SessionExpiry",
    "SessionValidation",
    "Source",
    "TenantAuthError",
    "Tls",
    "TokenFile",
    "UnauthenticatedError",
    "UnavailableError",
    "UnimplementedError",
    "UnsentUsage",
    "UsageBucket",
    "UsageEvent",
    "UsageReceipt",
    "UsageRecorder",
    "UsageSum",
    "Validation",
    "Verdict",
    "VerifiedPrincipal",
    "Violation",
    "WatchState",
    "__version__",
]
