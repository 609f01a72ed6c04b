"""One call with its attempts, hedges and retries, until it has a result or its timeout has passed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from . import _status
from ._core import Core, Metadata
from ._pool import Pool
from ._replica import ConnectionLost, NotSent, Replica, was_not_sent
from ._retry import Attempts
from .errors import TenantAuthError, UnavailableError

HEDGE_SHARE = 0.25
"""A read without a response after this share of its timeout is also sent to another replica."""

# Read-only calls, by the first word of their name, and writes that are safe to repeat: each identifies what it changes,
# so a repetition changes nothing.
READS = ("Validate", "BatchValidate", "Explain", "Get", "Inspect", "List", "Query", "Wait")
REPEATABLE = frozenset({"BindSession", "UnbindSession", "RecordUsage", "Reserve", "Settle", "Cancel"})


@dataclass(frozen=True, slots=True)
class Method:
    """A unary RPC of the contract."""

    path: str
    serialize: Callable[[Any], bytes]
    parse: Callable[[bytes], Any]

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def is_read(self) -> bool:
        return self.name.startswith(READS)

    def is_repeatable(self, request: Any) -> bool:
        if self.name == "Consume":
            # Without an id, a repetition takes the amounts again.
            return bool(request.consume_id)
        if self.name == "BatchConsume":
            return all(one.consume_id for one in request.requests)
        return self.is_read or self.name in REPEATABLE


class Calls:
    """Makes calls to the available replicas."""

    def __init__(self, core: Core, pool: Pool) -> None:
        self._core = core
        self._pool = pool

    async def make(
        self, method: Method, request: Any, timeout: float | None, metadata: Metadata = (), secrets: Sequence[str] = ()
    ) -> tuple[Any, str]:
        """Returns the response and the request id."""
        attempts = self._core.attempts(timeout)
        slow_after = self._core.options.hedge_after or attempts.timeout * HEDGE_SHARE
        while True:
            limit = attempts.next_timeout()
            error: TenantAuthError
            failover = unsent = False
            try:
                sent = (*self._core.metadata(attempts.request_id), *metadata)
                return await self._attempt(method, request, limit, sent, attempts, slow_after), attempts.request_id
            except grpc.RpcError as status:
                error = _status.from_rpc(status, attempts.request_id, secrets)
                unsent = isinstance(status, grpc.aio.AioRpcError) and was_not_sent(status)
            except ConnectionLost as lost:
                # This client closed the connection, so the service is not overloaded: another replica may be tried
                # without using the budget.
                failover = True
                unsent = isinstance(lost, NotSent)
                error = unresponsive(attempts.request_id)
            except TenantAuthError as failure:
                error = failure
            # Raised outside of the handlers, so that the error does not carry the original exception, which may contain
            # secrets.
            if not unsent and not method.is_repeatable(request):
                raise error
            delay = attempts.delay_after(error, failover=failover)
            if delay is None:
                raise error
            if delay > 0:
                await self._core.clock.sleep(delay)

    async def _attempt(
        self, method: Method, request: Any, limit: float, metadata: Metadata, attempts: Attempts, slow_after: float
    ) -> Any:
        """Makes one attempt. A read without a response is also sent to another replica."""
        loop = asyncio.get_running_loop()
        end = loop.time() + limit
        replica = await self._pool.pick(limit)

        def start(replica: Replica) -> asyncio.Task[Any]:
            remaining = max(0.001, end - loop.time())
            return asyncio.create_task(replica.unary(method, request, remaining, metadata, slow_after))

        first = start(replica)
        running = {first}
        try:
            if method.is_read:
                done, _ = await asyncio.wait(running, timeout=slow_after)
                if not done:
                    replica.check_liveness()
                    other = self._pool.alternative_to(replica)
                    if other is not None and attempts.hedge():
                        running.add(start(other))
            return await first_result(running, first)
        finally:
            for task in running:
                task.cancel()


async def first_result(running: set[asyncio.Task[Any]], first: asyncio.Task[Any]) -> Any:
    """Returns the first successful response. A transient failure counts only when no other attempt is left."""
    pending = set(running)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in sorted(done, key=lambda task: task.exception() is not None):
            failure = task.exception()
            if failure is None:
                return task.result()
            if not is_transient_failure(failure):
                raise failure
    return first.result()


def is_transient_failure(failure: BaseException) -> bool:
    if isinstance(failure, grpc.aio.AioRpcError):
        codes = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.DEADLINE_EXCEEDED)
        return failure.code() in codes
    return isinstance(failure, ConnectionLost)


def unresponsive(request_id: str) -> UnavailableError:
    return UnavailableError(
        "the replica did not respond and its connection was closed; the call may or may not have been processed",
        code="UNAVAILABLE",
        reason="REPLICA_UNRESPONSIVE",
        request_id=request_id,
    )
