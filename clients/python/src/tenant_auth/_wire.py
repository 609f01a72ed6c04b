"""Converts messages to results. A malformed response is an error."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from . import _status
from .errors import InvalidRequestError, Violation
from .networks import ADDRESS_FORMS, ClientAddress, IPAddress, Networks, parse_address, without_mapping
from .proto import info_pb2, session_pb2, usage_pb2, validation_pb2, verdict_pb2
from .results import KeyQuery, Outcome, Provenance, ServerInfo, SessionValidation, Validation
from .sessions import Binding, Session, SessionExpiry
from .usage import RejectedEvent, UsageEvent, UsageReceipt, UsageSum, encoding_violations
from .verdict import Source, Verdict

MAX_TEXT_LENGTH = 16_384
"""Maximum length of a key or a session id, in characters. Longer texts would not fit into a message."""
MAX_BATCH_KEY_LENGTH = 512
"""Maximum length of a key in a batch, in characters: far longer than any key, and a thousand of them fit into a
message.
"""
MAX_DURATION = 100 * 366 * 86_400.0
MAX_BATCH = 1_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def seconds(message: Duration) -> float:
    total = message.seconds + message.nanos / 1e9
    if total < 0:
        raise _status.invalid_response("the response contains a negative duration")
    return total


def duration(name: str, value: float) -> Duration:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is {type(value).__name__}: give a number of seconds")
    if not 0 < value <= MAX_DURATION:
        raise ValueError(f"{name} is {value!r}: give more than 0 and at most {MAX_DURATION:.0f} seconds")
    whole, nanos = divmod(round(value * 1e9), 1_000_000_000)
    return Duration(seconds=whole, nanos=nanos)


def to_datetime(message: Timestamp) -> datetime:
    try:
        return EPOCH + timedelta(seconds=message.seconds, microseconds=message.nanos // 1_000)
    except OverflowError:
        raise _status.invalid_response("the response contains a timestamp out of range") from None


def timestamp(value: datetime, name: str = "occurred_at") -> Timestamp:
    if not isinstance(value, datetime):
        raise TypeError(f"{name} is {type(value).__name__}: give a datetime")
    if value.tzinfo is None:
        raise ValueError(f"{name} needs a time zone")
    since = value - EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1_000)


def provenance(message: verdict_pb2.Provenance) -> Provenance:
    return Provenance(
        source=Source.from_wire(message.source),
        age=seconds(message.age),
        revision=message.revision,
        cacheable_for=seconds(message.cacheable_for),
        cacheable_while_watched=seconds(message.cacheable_while_watched),
    )


def validation(message: validation_pb2.ValidateKeyResponse) -> Validation:
    return Validation(
        verdict=Verdict(message.verdict),
        tenant_id=message.tenant_id,
        tenant_name=message.tenant_name,
        plan=message.plan,
        key_id=message.key_id,
        scopes=tuple(message.scopes),
        # An invalid expiry must not turn into "does not expire".
        expires_at=to_datetime(message.expires_at) if message.HasField("expires_at") else None,
        missing_scopes=tuple(message.missing_scopes),
        allowed_networks=Networks(message.allowed_networks),
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
        expires_at=to_datetime(message.expires_at) if message.HasField("expires_at") else None,
        missing_scopes=tuple(message.missing_scopes),
        allowed_networks=Networks(message.allowed_networks),
        provenance=provenance(message.provenance),
        attributes=dict(message.attributes),
        presented_key_id=message.presented_key_id,
        presented_key_allowed_networks=Networks(message.presented_key_allowed_networks),
    )


def check_text(text: str, field: str, max_length: int = MAX_TEXT_LENGTH) -> str:
    """Rejects a text that no message can contain. The library's own error would show the text, which may be a key."""
    if not isinstance(text, str):
        raise TypeError(f"{field} is {type(text).__name__}: give text")
    violation = None
    if any("\ud800" <= character <= "\udfff" for character in text):
        violation = "must be valid Unicode text"
    elif len(text) > max_length:
        violation = f"must have at most {max_length} characters"
    if violation is not None:
        raise invalid(Violation(field, violation))
    return text


def client_address(given: ClientAddress) -> IPAddress | None:
    """Returns the address, or `None` if it is unknown."""
    if given is None:
        return None
    if isinstance(given, IPAddress):
        return without_mapping(given)
    if not isinstance(given, str):
        raise TypeError(f"client_address is {type(given).__name__}: give text, an address of ipaddress, or None")
    if not given:
        return None
    address = parse_address(given)
    if address is None:
        raise invalid(Violation("client_address", f"must be {ADDRESS_FORMS}"))
    return address


def address_text(address: IPAddress | None) -> str:
    return "" if address is None else str(address)


def invalid(*violations: Violation) -> InvalidRequestError:
    message = "; ".join(str(violation) for violation in violations)
    return InvalidRequestError(message, code="INVALID_ARGUMENT", violations=violations)


def key_request(key: str, scopes: Sequence[str], address: IPAddress | None) -> validation_pb2.ValidateKeyRequest:
    return validation_pb2.ValidateKeyRequest(
        key=check_text(key, "key"), required_scopes=check_scopes(scopes), client_address=address_text(address)
    )


def session_request(
    session_id: str, key: str | None, scopes: Sequence[str], address: IPAddress | None
) -> validation_pb2.ValidateSessionRequest:
    return validation_pb2.ValidateSessionRequest(
        session_id=check_text(session_id, "session_id"),
        key=check_text(key or "", "key"),
        required_scopes=check_scopes(scopes),
        client_address=address_text(address),
    )


def check_scopes(scopes: Sequence[str]) -> list[str]:
    return [check_text(scope, f"required_scopes[{index}]") for index, scope in enumerate(scopes)]


def secrets_in(request: Any) -> tuple[str, ...]:
    """Returns the keys in a message of the generated stubs."""
    parts = [request, *getattr(request, "requests", ())]
    for credential in [one.credential for one in parts if hasattr(one, "credential")]:
        parts += [credential.key, credential.session]
    found = (getattr(part, name, "") for part in parts for name in ("key", "plaintext"))
    return tuple(one for one in found if isinstance(one, str) and one)


class Batch:
    """A batch of keys to validate. A key that cannot be sent has an error as its outcome and does not affect the
    others.
    """

    def __init__(self, keys: Sequence[str | KeyQuery], scopes: tuple[str, ...], address: ClientAddress) -> None:
        if isinstance(keys, str | bytes):
            raise TypeError("keys is a single text: give a list of keys")
        queries = [key if isinstance(key, KeyQuery) else KeyQuery(key, scopes, address) for key in keys]
        if len(queries) > MAX_BATCH:
            raise invalid(Violation("requests", f"must have 1 to {MAX_BATCH} entries, not {len(queries)}"))
        self.secrets = [query.key for query in queries if isinstance(query.key, str)]
        self.request = validation_pb2.BatchValidateKeysRequest()
        self._queries: list[KeyQuery] = []
        self._outcomes: list[Outcome | None] = []
        for index, query in enumerate(queries):
            try:
                if not check_text(query.key, f"requests[{index}].key", MAX_BATCH_KEY_LENGTH):
                    raise invalid(Violation(f"requests[{index}].key", "must not be empty"))
                one = key_request(query.key, tuple(query.scopes), client_address(query.client_address))
            except InvalidRequestError as error:
                self._outcomes.append(error)
                continue
            self.request.requests.append(one)
            self._queries.append(query)
            self._outcomes.append(None)

    def outcomes(self, reply: validation_pb2.BatchValidateKeysResponse | None, request_id: str) -> list[Outcome]:
        """Returns the outcomes in the order of the keys."""
        results = reply.results if reply is not None else ()
        # Results are matched by index, so a wrong number of results could assign a verdict to the wrong key.
        if len(results) != len(self._queries):
            raise _status.invalid_response(f"the response has {len(results)} results for {len(self._queries)} keys")
        decided = iter([outcome(r, q, request_id) for r, q in zip(results, self._queries, strict=True)])
        return [known if known is not None else next(decided) for known in self._outcomes]


def outcome(result: validation_pb2.BatchValidateKeysResult, query: KeyQuery, request_id: str) -> Outcome:
    if result.HasField("response"):
        return validation(result.response)
    if result.HasField("error"):
        return _status.from_item(result.error, request_id, (query.key,))
    return _status.invalid_response("the response contains no result for a key")


def session(message: session_pb2.Session) -> Session:
    sliding = message.expiry == session_pb2.SESSION_EXPIRY_SLIDING
    return Session(
        session_id=message.session_id,
        tenant_id=message.tenant_id,
        key_id=message.key_id,
        created_at=to_datetime(message.created_at) if message.HasField("created_at") else None,
        expires_at=to_datetime(message.expires_at) if message.HasField("expires_at") else None,
        expiry=SessionExpiry.SLIDING if sliding else SessionExpiry.FIXED,
        attributes=dict(message.attributes),
    )


def binding(message: session_pb2.BindSessionResponse) -> Binding:
    verdict = Verdict(message.verdict)
    if verdict.is_valid and not message.HasField("session"):
        raise _status.invalid_response("the response contains no session")
    bound = session(message.session) if message.HasField("session") else None
    return Binding(verdict=verdict, session=bound, already_bound=message.already_bound)


def usage_request(events: Sequence[UsageEvent], request_id: str) -> usage_pb2.RecordUsageRequest:
    for index, event in enumerate(events):
        if not isinstance(event, UsageEvent):
            raise TypeError(f"events[{index}] is {type(event).__name__}: give a UsageEvent")
        violations = encoding_violations(event, f"events[{index}].")
        if violations:
            raise invalid(*violations)
    check_text(request_id, "request_id")
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
            raise _status.invalid_response(f"the response rejects event {rejection.index} of {len(events)}")
        error = _status.from_item(rejection.error, request_id)
        rejected.append(RejectedEvent(rejection.index, events[rejection.index], error))
    return UsageReceipt(message.accepted, tuple(rejected), message.already_recorded)


def usage_sum(message: usage_pb2.UsageSum) -> UsageSum:
    return UsageSum(message.metric, to_datetime(message.bucket_start), message.quantity)


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
        now=to_datetime(message.now) if message.HasField("now") else None,
        schema_version=message.schema_version,
    )
