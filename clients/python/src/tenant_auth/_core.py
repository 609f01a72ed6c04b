"""State that both clients share."""

from __future__ import annotations

from collections.abc import Sequence

from . import _checks, _token
from ._channel import Target
from ._near_cache import NearCache, SubjectKind
from ._retry import Attempts, RetryBudget
from ._status import REQUEST_ID
from .options import Options
from .proto import watch_pb2

Metadata = tuple[tuple[str, str], ...]

SUBJECT_KINDS = {
    watch_pb2.INVALIDATION_SCOPE_KEY: SubjectKind.KEY,
    watch_pb2.INVALIDATION_SCOPE_TENANT: SubjectKind.TENANT,
    watch_pb2.INVALIDATION_SCOPE_SESSION: SubjectKind.SESSION,
}


class Core:
    """Settings and state without I/O."""

    def __init__(self, endpoints: str | Sequence[str], options: Options | None) -> None:
        _checks.instance("options", options, Options, type(None))
        options = options or Options()
        self.endpoints = endpoints
        self.options = options
        self.clock = options.clock
        self.target = Target(endpoints, options)
        self.near_cache = None if options.near_cache is None else NearCache(options.near_cache, options.clock)
        self.watch_enabled = options.near_cache is not None and options.near_cache.watch
        self._budget = None if options.retry is None else RetryBudget(options.retry)
        self._token = _token.reader(options.token)

    def timeout(self, given: float | None) -> float:
        """Returns the timeout of a call, in seconds."""
        return self.options.timeout if given is None else _checks.duration("timeout", given)

    def attempts(self, timeout: float | None) -> Attempts:
        return Attempts(self.options, self._budget, timeout)

    def metadata(self, request_id: str | None = None) -> Metadata:
        """Returns the metadata of an attempt: the current caller token, and the request id."""
        token = self._token()
        caller = () if token is None else (("authorization", f"Bearer {token}"),)
        return caller if request_id is None else (*caller, (REQUEST_ID, request_id))


def apply_event(near: NearCache, event: watch_pb2.WatchResponse) -> None:
    """Applies one event of the watch stream."""
    event_kind = event.WhichOneof("event")
    kind = SUBJECT_KINDS.get(event.invalidation.scope) if event_kind == "invalidation" else None
    if event_kind == "heartbeat":
        near.heartbeat(event.revision)
    elif kind is not None and event.invalidation.id:
        near.invalidate(kind, event.invalidation.id, event.revision)
    else:
        # START_OVER, or an event that this version does not know: anything may have changed.
        near.start_over(event.revision)
