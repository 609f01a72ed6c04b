"""The Python client of tenant-auth: validates API keys and sessions, and records usage.

`AsyncClient` is for asyncio, `Client` for threads. Both have the same methods.
"""

from ._redaction import redact
from ._usage_buffer import RecorderOptions
from ._version import __version__
from .async_client import AsyncClient
from .async_local_limiter import AsyncLocalLimiter
from .async_recorder import AsyncUsageRecorder
from .async_reservation import AsyncReservation
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
from .limit_state import (
    CalendarWindow,
    CreditRefill,
    Credits,
    Limit,
    LimitState,
    LimitSubject,
    OutagePolicy,
    Quota,
    Rate,
)
from .limits import (
    ConsumeOutcome,
    ConsumeRequest,
    Consumption,
    Costs,
    DecidedBy,
    LimitCredential,
    LimitDecision,
    LimitExceededError,
    ReservationExpiry,
    ReservationState,
    SettledLimit,
    Settlement,
)
from .local_limiter import LocalLimiter
from .networks import ClientAddress, Networks
from .options import NearCache, Options, Retry, Tls, TokenFile
from .principal import InvalidPrincipalError, VerifiedPrincipal
from .recorder import UsageRecorder
from .reservation import Reservation
from .results import (
    DeniedError,
    KeyQuery,
    Outcome,
    Principal,
    Provenance,
    ServerInfo,
    SessionQuery,
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
    "AsyncLocalLimiter",
    "AsyncPrincipalVerifier",
    "AsyncReservation",
    "AsyncUsageRecorder",
    "Binding",
    "CalendarWindow",
    "Client",
    "ClientAddress",
    "ClosedError",
    "ConsumeOutcome",
    "ConsumeRequest",
    "Consumption",
    "Costs",
    "CreditRefill",
    "Credits",
    "DeadlineExceededError",
    "DecidedBy",
    "DeniedError",
    "ErrorKind",
    "InvalidPrincipalError",
    "InvalidRequestError",
    "KeyQuery",
    "Limit",
    "LimitCredential",
    "LimitDecision",
    "LimitExceededError",
    "LimitState",
    "LimitSubject",
    "LocalLimiter",
    "NearCache",
    "Networks",
    "Options",
    "OutagePolicy",
    "Outcome",
    "OutdatedPrincipalError",
    "OverloadedError",
    "PermissionDeniedError",
    "Principal",
    "PrincipalVerifier",
    "Provenance",
    "QueueFullError",
    "Quota",
    "Rate",
    "RecorderOptions",
    "RejectedEvent",
    "Reservation",
    "ReservationExpiry",
    "ReservationState",
    "Retry",
    "ServerInfo",
    "Session",
    "SessionExpiry",
    "SessionQuery",
    "SessionValidation",
    "SettledLimit",
    "Settlement",
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
