"""Messages into results. A reply that cannot be read is an error, never a guess."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from . import _status
from .errors import InvalidRequestError, Violation
from .proto import info_pb2, session_pb2, usage_pb2, validation_pb2, verdict_pb2
from .results import Outcome, Provenance, Question, ServerInfo, SessionValidation, Validation
from .sessions import Binding, Session, SessionExpiry
from .usage import RejectedEvent, UsageEvent, UsageReceipt, UsageSum
from .verdict import Source, Verdict

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def seconds(message: Duration) -> float:
    total = message.seconds + message.nanos / 1e9
    if total < 0:
        raise _status.broken("the reply holds a negative duration")
    return total


def duration(value: float) -> Duration:
    whole, nanos = divmod(round(value * 1e9), 1_000_000_000)
    return Duration(seconds=whole, nanos=nanos)


def moment(message: Timestamp) -> datetime:
    try:
        return EPOCH + timedelta(seconds=message.seconds, microseconds=message.nanos // 1_000)
    except OverflowError:
        raise _status.broken("the reply holds a time outside this machine's range") from None


def timestamp(value: datetime) -> Timestamp:
    if value.tzinfo is None:
        raise ValueError("a moment needs a time zone")
    since = value - EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1_000)


def provenance(message: verdict_pb2.Provenance) -> Provenance:
    return Provenance(
        source=Source.from_wire(message.source),
        age=seconds(message.age),
        revision=message.revision,
        cacheable_for=seconds(message.cacheable_for),
    )


def validation(message: validation_pb2.ValidateKeyResponse) -> Validation:
    return Validation(
        verdict=Verdict(message.verdict),
        tenant_id=message.tenant_id,
        tenant_name=message.tenant_name,
        plan=message.plan,
        key_id=message.key_id,
        scopes=tuple(message.scopes),
        # An end that cannot be read must not turn into "never ends".
        expires_at=moment(message.expires_at) if message.HasField("expires_at") else None,
        missing_scopes=tuple(message.missing_scopes),
        provenance=provenance(message.provenance),
    )


def session_validation(message: validation_pb2.ValidateSessionResponse) -> SessionValidation:
    return SessionValidation(
        verdict=Verdict(message.verdict),
        tenant_id=message.tenant_id,
        tenant_name=message.tenant_name,
        plan=message.plan,
        key_id=message.key_id,
        scopes=tuple(message.scopes),
        expires_at=moment(message.expires_at) if message.HasField("expires_at") else None,
        missing_scopes=tuple(message.missing_scopes),
        provenance=provenance(message.provenance),
        attributes=MappingProxyType(dict(message.attributes)),
    )


def presentable(text: str, field: str) -> str:
    """Refuses a text that no message can hold: the library's own error would show it, and it may be a key."""
    if any("\ud800" <= character <= "\udfff" for character in text):
        violation = Violation(field, "must be text that UTF-8 can hold")
        raise InvalidRequestError(str(violation), code="INVALID_ARGUMENT", violations=[violation])
    return text


def batch_request(questions: Sequence[Question]) -> validation_pb2.BatchValidateKeysRequest:
    requests = [
        validation_pb2.ValidateKeyRequest(
            key=presentable(question.key, f"requests[{index}].key"), required_scopes=question.scopes
        )
        for index, question in enumerate(questions)
    ]
    return validation_pb2.BatchValidateKeysRequest(requests=requests)


def batch(
    message: validation_pb2.BatchValidateKeysResponse, questions: Sequence[Question], request_id: str
) -> list[Outcome]:
    # Outcomes are matched by their place: one too few would give a key the verdict of another.
    if len(message.results) != len(questions):
        raise _status.broken(f"{len(questions)} keys were asked about and {len(message.results)} answered")
    outcomes: list[Outcome] = []
    for result, question in zip(message.results, questions, strict=True):
        if result.HasField("response"):
            outcomes.append(validation(result.response))
        elif result.HasField("error"):
            outcomes.append(_status.from_item(result.error, request_id, (question.key,)))
        else:
            outcomes.append(_status.broken("the reply holds no outcome"))
    return outcomes


def session(message: session_pb2.Session) -> Session:
    sliding = message.expiry == session_pb2.SESSION_EXPIRY_SLIDING
    return Session(
        session_id=message.session_id,
        tenant_id=message.tenant_id,
        key_id=message.key_id,
        created_at=moment(message.created_at) if message.HasField("created_at") else None,
        expires_at=moment(message.expires_at) if message.HasField("expires_at") else None,
        expiry=SessionExpiry.SLIDING if sliding else SessionExpiry.FIXED,
        attributes=MappingProxyType(dict(message.attributes)),
    )


def binding(message: session_pb2.BindSessionResponse) -> Binding:
    verdict = Verdict(message.verdict)
    if verdict.is_valid and not message.HasField("session"):
        raise _status.broken("the reply holds no session")
    bound = session(message.session) if message.HasField("session") else None
    return Binding(verdict=verdict, session=bound, already_bound=message.already_bound)


def usage_request(events: Sequence[UsageEvent], request_id: str) -> usage_pb2.RecordUsageRequest:
    return usage_pb2.RecordUsageRequest(
        request_id=request_id,
        events=[
            usage_pb2.UsageEvent(
                tenant_id=event.tenant_id,
                metric=event.metric,
                quantity=event.quantity,
                occurred_at=None if event.occurred_at is None else timestamp(event.occurred_at),
            )
            for event in events
        ],
    )


def receipt(message: usage_pb2.RecordUsageResponse, events: Sequence[UsageEvent], request_id: str) -> UsageReceipt:
    rejected = []
    for rejection in message.rejected:
        if not 0 <= rejection.index < len(events):
            raise _status.broken(f"the reply rejects event {rejection.index} of {len(events)}")
        error = _status.from_item(rejection.error, request_id)
        rejected.append(RejectedEvent(rejection.index, events[rejection.index], error))
    return UsageReceipt(message.accepted, tuple(rejected), message.already_recorded)


def usage_sum(message: usage_pb2.UsageSum) -> UsageSum:
    return UsageSum(message.metric, moment(message.bucket_start), message.quantity)


def server_info(message: info_pb2.GetServerInfoResponse) -> ServerInfo:
    kinds = {info_pb2.DATABASE_KIND_EMBEDDED: "EMBEDDED", info_pb2.DATABASE_KIND_REMOTE: "REMOTE"}
    return ServerInfo(
        version=message.version,
        commit=message.commit,
        dirty=message.dirty,
        branch=message.branch,
        database=kinds.get(message.database_kind, str(message.database_kind)),
        revision=message.revision,
        uptime=seconds(message.uptime),
        now=moment(message.now) if message.HasField("now") else None,
        schema_version=message.schema_version,
    )
