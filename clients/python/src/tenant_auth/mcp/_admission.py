"""What the policy decides about the messages of a request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from .. import _checks
from .._asgi_types import Receive, Scope
from ..async_recorder import AsyncUsageRecorder
from ..errors import QueueFullError
from ..results import Validation
from ._body import read_body
from ._json import Members
from ._messages import message_id, messages_in, operations, parse
from ._policy import NoNameError, NotInPolicyError, Operation, Policy, Rule
from ._refusals import (
    INVALID_PARAMS,
    NOT_IN_POLICY,
    USAGE_NOT_RECORDED,
    MessageId,
    RefusedError,
    insufficient_scope,
    rpc_error,
)
from ._revision import RoutingHeaders

WITHOUT_BODY = frozenset({"GET", "HEAD", "DELETE", "OPTIONS"})
MAX_LIMIT = 2**30
"""The largest limit of bodies, in bytes."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """An admitted request."""

    body: bytes | None = None
    """`None`: it was not read."""
    messages: list[Members] = field(default_factory=list)
    rules: list[Rule] = field(default_factory=list)

    @property
    def scopes(self) -> list[str]:
        """The scopes that the request needed."""
        return sorted({scope for rule in self.rules for scope in rule.scopes})


class Admission:
    """Applies a policy, if there is one, and records the usage of what was admitted."""

    def __init__(self, policy: Policy | None, recorder: AsyncUsageRecorder | None, max_body_size: int) -> None:
        _checks.instance("policy", policy, Policy, type(None))
        _checks.instance("recorder", recorder, AsyncUsageRecorder, type(None))
        if policy is not None and policy.records_usage and recorder is None:
            raise ValueError("policy has usage, but there is no recorder: give recorder=client.usage_recorder()")
        self._policy = policy
        self._recorder = recorder
        self.max_body_size = _checks.count("max_body_size", max_body_size, 1, MAX_LIMIT)

    def reads_body(self, scope: Scope) -> bool:
        """Reports whether a request is decided by its body."""
        return self._policy is not None and scope["method"] not in WITHOUT_BODY

    async def handshake(self, validation: Validation, scope: Scope, receive: Receive) -> Admitted:
        """Decides a request of a handshake revision, by its body."""
        if self._policy is None or not self.reads_body(scope):
            return Admitted()
        body = await read_body(scope, receive, self.max_body_size)
        messages = messages_in(parse(body))
        found = [operations(message, is_handshake=True) for message in messages]
        # The id of a refused request is only clear if it is the only one.
        only = message_id(messages[0]) if len(messages) == 1 else None
        return Admitted(body, messages, self._decide(self._policy, found, validation, only))

    async def stateless(self, version: str, validation: Validation, scope: Scope, receive: Receive) -> Admitted:
        """Decides a request of a stateless revision: by its headers, and then by its body, which must agree."""
        if self._policy is None or not self.reads_body(scope):
            return Admitted()
        headers = RoutingHeaders.of(version, scope["headers"])
        self._decide(self._policy, [headers.operations], validation, None)
        body = await read_body(scope, receive, self.max_body_size)
        message = headers.check(parse(body))
        rules = self._decide(self._policy, [operations(message, is_handshake=False)], validation, message_id(message))
        return Admitted(body, [message], rules)

    def record(self, admitted: Admitted, tenant_id: str) -> None:
        """Records the usage of a request that is passed on."""
        for rule in admitted.rules:
            if rule.usage is not None and self._recorder is not None:
                try:
                    self._recorder.record(tenant_id, rule.usage.metric, rule.usage.quantity)
                except QueueFullError:
                    raise RefusedError(USAGE_NOT_RECORDED) from None

    def _decide(
        self, policy: Policy, found: Iterable[list[Operation]], validation: Validation, about: MessageId
    ) -> list[Rule]:
        """Returns the entries for the operations of each message. One refused operation refuses all."""
        rules: list[Rule] = []
        refused: set[str] = set()
        try:
            for method, *others in filter(None, found):
                of_method, of_others = policy.rules([method]), policy.rules(others)
                for required in united(of_method, of_others):
                    refused |= set() if required.issubset(validation.scopes) else required
                rules += [*of_method, *of_others]
        except NoNameError:
            raise rpc_error(INVALID_PARAMS, "the name must be text", about) from None
        except NotInPolicyError:
            raise RefusedError(NOT_IN_POLICY) from None
        if refused:
            raise RefusedError(insufficient_scope(refused, set(validation.scopes)))
        return rules


def united(of_method: list[Rule], of_others: list[Rule]) -> list[set[str]]:
    """Returns the scopes of each operation of a message: its own, and those of the method."""
    common = {scope for rule in of_method for scope in rule.scopes}
    return [common.union(rule.scopes) for rule in of_others] or [common]
