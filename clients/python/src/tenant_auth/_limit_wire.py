"""Converts requests and responses about limits. Amounts and names are left to the service, which names each mistake."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from google.protobuf.message import Message

from . import _methods, _status
from ._checks import texts
from ._credential import Credential
from ._wire import (
    MAX_BATCH,
    MAX_BATCH_KEY_LENGTH,
    check_text,
    duration,
    invalid,
    seconds,
    to_datetime,
)
from .errors import InvalidRequestError, Violation
from .limits import (
    ConsumeOutcome,
    ConsumeRequest,
    Consumption,
    Costs,
    DecidedBy,
    LimitCredential,
    LimitDecision,
    ReservationExpiry,
    ReservationState,
    SettledLimit,
    Settlement,
)
from .proto import limit_pb2
from .results import KeyQuery, SessionQuery, SessionValidation, Validation
from .verdict import Verdict


class Holder:
    """Who takes something: the message, and what is needed to check the answer and to guard streams."""

    def __init__(self, given: LimitCredential) -> None:
        query = KeyQuery(given) if isinstance(given, str) else given
        if not isinstance(query, KeyQuery | SessionQuery):
            raise TypeError(f"credential is {type(query).__name__}: give a key as text, a KeyQuery or a SessionQuery")
        self.scopes = texts("scopes", query.scopes)
        self.session_id = query.session_id if isinstance(query, SessionQuery) else None
        self.kind = "key" if self.session_id is None else "session"
        self.call: _methods.CacheableCall[Any]
        with below(f"credential.{self.kind}"):
            if isinstance(query, KeyQuery):
                self.call = _methods.validate_key(query.key, query.client_address)
            else:
                self.call = _methods.validate_session(query.session_id, query.key, query.client_address)
        self.credential = Credential(query.key, self.session_id, self.scopes, self.call.address)
        self.malformed: Consumption | None = None
        """The decision about a text that is too long to be sent as a key."""
        if len(query.key or "") > MAX_BATCH_KEY_LENGTH:
            kind = Validation if self.session_id is None else SessionValidation
            self.malformed = Consumption(verdict=Verdict.MALFORMED, validation=kind(verdict=Verdict.MALFORMED))

    @property
    def message(self) -> limit_pb2.LimitCredential:
        with below(f"credential.{self.kind}"):
            return limit_pb2.LimitCredential(**{self.kind: self.call.request(self.scopes)})

    @property
    def secrets(self) -> tuple[str, ...]:
        return self.call.secrets

    def validation(self, message: Any) -> Validation:
        """Returns the validation in a decision. Raises an error if it contradicts the decision."""
        if message.WhichOneof("validation") != self.kind:
            raise _status.invalid_response(f"the response contains no validation of a {self.kind}")
        validation: Validation = self.call.parse(getattr(message, self.kind))
        if message.verdict == Verdict.VALID and not validation.is_valid:
            raise _status.invalid_response(f"the response admits a {self.kind} that is {validation.verdict}")
        return validation

    def decision(self, message: Any, **more: Any) -> Consumption:
        made = Consumption(
            verdict=Verdict(message.verdict),
            validation=self.validation(message),
            limits=tuple(decision(one) for one in message.limits),
            **more,
        )
        return made._present(self.credential)


@contextmanager
def below(path: str) -> Iterator[None]:
    """Puts a path in front of the fields of a violation."""
    try:
        yield
    except InvalidRequestError as error:
        violations = [Violation(f"{path}.{one.field}", one.description) for one in error.violations]
        raise invalid(*violations) from None


def amounts(given: Costs, field: str, kind: Any) -> list[Any]:
    if not isinstance(given, Mapping):
        raise TypeError(f'{field} is {type(given).__name__}: give amounts by metric, such as {{"requests": 1}}')
    made = []
    for index, (metric, amount) in enumerate(given.items()):
        check_text(metric, f"{field}[{index}].metric")
        if type(amount) is not int or not -(2**63) <= amount < 2**63:
            raise invalid(Violation(f"{field}[{index}].amount", "must be a 64-bit integer"))
        made.append(kind(metric=metric, amount=amount))
    return made


def identifier(given: str, field: str) -> str:
    if not check_text(given, field):
        raise invalid(Violation(field, "must not be empty"))
    return given


def consume_request(holder: Holder, costs: Costs, consume_id: str | None) -> limit_pb2.ConsumeRequest:
    return limit_pb2.ConsumeRequest(
        credential=holder.message,
        costs=amounts(costs, "costs", limit_pb2.Cost),
        consume_id="" if consume_id is None else identifier(consume_id, "consume_id"),
    )


def reserve_request(
    holder: Holder, costs: Costs, reservation_id: str, expires_in: float | None, on_expiry: ReservationExpiry
) -> limit_pb2.ReserveRequest:
    return limit_pb2.ReserveRequest(
        credential=holder.message,
        costs=amounts(costs, "costs", limit_pb2.Cost),
        reservation_id=identifier(reservation_id, "reservation_id"),
        expires_in=None if expires_in is None else duration("expires_in", expires_in),
        on_expiry=limit_pb2.ReservationExpiry.ValueType(ReservationExpiry(on_expiry)),
    )


def settle_request(reservation_id: str, actual: Costs | None) -> limit_pb2.SettleRequest:
    return limit_pb2.SettleRequest(
        reservation_id=identifier(reservation_id, "reservation_id"),
        actual=amounts(actual or {}, "actual", limit_pb2.SettledCost),
    )


def cancel_request(reservation_id: str) -> limit_pb2.CancelRequest:
    return limit_pb2.CancelRequest(reservation_id=identifier(reservation_id, "reservation_id"))


def optional_seconds(message: Message, field: str) -> float | None:
    return seconds(getattr(message, field)) if message.HasField(field) else None


def decision(message: limit_pb2.LimitDecision) -> LimitDecision:
    return LimitDecision(
        name=message.name,
        metric=message.metric,
        limit=message.limit,
        remaining=message.remaining,
        window=optional_seconds(message, "window"),
        reset_after=optional_seconds(message, "reset_after"),
        retry_after=optional_seconds(message, "retry_after"),
        decided_by=DecidedBy.from_wire(message.decided_by),
        exceeded=message.exceeded,
        shadow=message.shadow,
        window_start=to_datetime(message.window_start) if message.HasField("window_start") else None,
    )


def settlement(message: limit_pb2.SettleResponse) -> Settlement:
    return Settlement(
        state=ReservationState.from_wire(message.state),
        limits=tuple(
            SettledLimit(
                name=one.name,
                metric=one.metric,
                reserved=one.reserved,
                charged=one.charged,
                exceeded_by=one.exceeded_by,
            )
            for one in message.limits
        ),
        already_settled=message.already_settled,
    )


class ConsumeBatch:
    """A batch of requests. One that cannot be sent has its outcome at once and does not affect the others."""

    def __init__(self, requests: Sequence[ConsumeRequest]) -> None:
        if len(requests) > MAX_BATCH:
            raise invalid(Violation("requests", f"must have 1 to {MAX_BATCH} entries, not {len(requests)}"))
        self.request = limit_pb2.BatchConsumeRequest()
        self.holders: list[Holder] = []
        self._unsent: list[ConsumeOutcome | None] = []
        for index, one in enumerate(requests):
            if not isinstance(one, ConsumeRequest):
                raise TypeError(f"requests[{index}] is {type(one).__name__}: give a ConsumeRequest")
            try:
                holder = Holder(one.credential)
                request = consume_request(holder, one.costs, one.consume_id)
            except InvalidRequestError as error:
                self._unsent.append(error)
                continue
            self._unsent.append(holder.malformed)
            if holder.malformed is None:
                self.request.requests.append(request)
                self.holders.append(holder)

    @property
    def secrets(self) -> list[str]:
        return [secret for holder in self.holders for secret in holder.secrets]

    def decisions(self, reply: limit_pb2.BatchConsumeResponse, request_id: str) -> list[ConsumeOutcome]:
        """Returns the outcomes of the requests that were sent, in order."""
        results = reply.results
        # Results are matched by index, so a wrong number of results could assign a decision to the wrong request.
        if len(results) != len(self.holders):
            raise _status.invalid_response(f"the response has {len(results)} results for {len(self.holders)} requests")
        return [outcome(result, one, request_id) for result, one in zip(results, self.holders, strict=True)]

    def in_order(self, decided: Sequence[ConsumeOutcome]) -> list[ConsumeOutcome]:
        """Returns the outcomes of all requests."""
        rest = iter(decided)
        return [unsent if unsent is not None else next(rest) for unsent in self._unsent]


def outcome(result: limit_pb2.BatchConsumeResult, holder: Holder, request_id: str) -> ConsumeOutcome:
    if result.HasField("response"):
        return holder.decision(result.response, already_consumed=result.response.already_consumed)
    if result.HasField("error"):
        return _status.from_item(result.error, request_id, holder.secrets)
    return _status.invalid_response("the response contains no result for a request")
