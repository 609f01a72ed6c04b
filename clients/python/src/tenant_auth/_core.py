"""What both clients have in common besides their way of waiting."""

from __future__ import annotations

from collections.abc import Sequence

from . import _checks, _token
from ._channel import Target
from ._near_cache import About, NearCache
from ._retry import Attempts, Budget
from ._status import REQUEST_ID
from .options import Options
from .proto import watch_pb2

Metadata = tuple[tuple[str, str], ...]

ABOUT = {
    watch_pb2.INVALIDATION_SCOPE_KEY: About.KEY,
    watch_pb2.INVALIDATION_SCOPE_TENANT: About.TENANT,
    watch_pb2.INVALIDATION_SCOPE_SESSION: About.SESSION,
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
        self.near = None if options.near_cache is None else NearCache(options.near_cache, options.clock)
        self.watches = options.near_cache is not None and options.near_cache.watch
        self._budget = None if options.retry is None else Budget(options.retry)
        self._token = _token.reader(options.token)

    def timeout(self, given: float | None) -> float:
        """How long a call may take, in seconds."""
        return self.options.timeout if given is None else _checks.duration("timeout", given)

    def attempts(self, timeout: float | None) -> Attempts:
        return Attempts(self.options, self._budget, timeout)

    def metadata(self, request_id: str | None = None) -> Metadata:
        """Who calls, as of now, and the name of the request."""
        token = self._token()
        caller = () if token is None else (("authorization", f"Bearer {token}"),)
        return caller if request_id is None else (*caller, (REQUEST_ID, request_id))


def take_in(near: NearCache, event: watch_pb2.WatchResponse) -> None:
    """One event of the stream of invalidations."""
    kind = event.WhichOneof("event")
    about = ABOUT.get(event.invalidation.scope) if kind == "invalidation" else None
    if kind == "heartbeat":
        near.heartbeat(event.revision)
    elif about is not None and event.invalidation.id:
        near.invalidate(about, event.invalidation.id, event.revision)
    else:
        # A start over, or news that this version cannot read: it may be about anything.
        near.start_over(event.revision)
