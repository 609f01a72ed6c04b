"""The part of both clients below their methods: connections, calls and the near cache, on one event loop."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Any, TypeVar, cast

import grpc
import grpc.aio

from . import _changes, _status
from ._calls import Calls, Method
from ._conditions import apply_conditions, are_valid_scopes
from ._core import Core, Metadata
from ._guards import Guards
from ._in_flight import InFlightCalls
from ._local_leases import LocalLeases
from ._methods import CANCEL, GET_PRINCIPAL_KEYS, CacheableCall
from ._near_cache import NearCache
from ._pool import Pool
from ._principal_keys import KeySet, PrincipalKeys
from ._watch import Watch
from .errors import TenantAuthError
from .proto import info_pb2, limit_pb2
from .results import Validation

log = logging.getLogger("tenant_auth")

T = TypeVar("T")
V = TypeVar("V", bound=Validation)
HOLDS_NOTHING = frozenset({"NOT_FOUND", "FAILED_PRECONDITION"})
"""The errors about a reservation that does not exist, or was settled."""


class AsyncEngine:
    """Connects on first use. `Engine` has the same methods for threads."""

    def __init__(self, core: Core) -> None:
        self.core = core
        self._in_flight = InFlightCalls(core.clock, core.options.timeout)
        self._principal_keys = PrincipalKeys(core.clock, self._fetch_principal_keys)
        self.guards = Guards(core, self)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool: Pool | None = None
        self._calls: Calls | None = None
        self._watch: Watch | None = None
        self._in_flight_count = 0
        self._idle = asyncio.Event()
        self._giving_back: set[asyncio.Task[None]] = set()
        self._closed = False

    def open(self) -> Pool:
        """Connects, and starts the watch stream. Rejects another event loop than the first one."""
        if self._closed:
            raise _status.closed_error()
        loop = asyncio.get_running_loop()
        if self._loop is None:
            self._loop = loop
        elif loop is not self._loop:
            raise TenantAuthError(
                "an AsyncClient belongs to the event loop on which it was first used, but was used on another one: "
                "create one client per event loop, or one Client for all threads",
                code="FAILED_PRECONDITION",
            )
        if self._pool is None:
            self._pool = Pool(self.core.target)
            self._calls = Calls(self.core, self._pool)
            if self.core.near_cache is not None and self.core.watch_enabled:
                self._watch = Watch(self.core, self.core.near_cache, self._pool)
        return self._pool

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop, once the client has connected."""
        if self._loop is None:
            raise _status.closed_error()
        return self._loop

    async def complete(self, work: Awaitable[T]) -> T:
        """Awaits something that belongs to the event loop."""
        return await work

    def local_leases(self, metric: str) -> LocalLeases:
        return LocalLeases(self, self.core, metric)

    def cached(self, call: CacheableCall[V], scopes: Sequence[str]) -> V | None:
        """Returns the cached answer, or `None` if the service must be called. May be called from any thread."""
        near = self.core.near_cache
        if near is None or not are_valid_scopes(scopes) or self._needs_loop():
            return None
        answer = near.get(near.digest(*call.cache_key))
        # The cache key includes the kind of request, so the answer has the type of that kind.
        return None if answer is None else apply_conditions(cast(V, answer), call.address, scopes)

    async def decide(self, call: CacheableCall[V], scopes: Sequence[str], timeout: float | None) -> V:
        """Returns the answer of the near cache, of an identical call in flight, or of the service."""
        self.open()
        near = self.core.near_cache
        if near is None or not are_valid_scopes(scopes):
            with self._in_flight_guard():
                return await self._validate(call, scopes, timeout)
        self.check_watch()
        return await self.decide_cached(near, call, scopes, timeout)

    async def decide_cached(
        self,
        near: NearCache,
        call: CacheableCall[V],
        scopes: Sequence[str],
        timeout: float | None,
        since: float = -math.inf,
    ) -> V:
        """Like `decide`, with this near cache. Requests for cached answers must have been sent at `since` or later."""
        self.open()
        digest = near.digest(*call.cache_key)

        async def load(timeout: float) -> Validation:
            snapshot = near.snapshot()
            answer = await self._validate(call, (), timeout)
            near.put(digest, snapshot, answer, call.session_id)
            return answer

        answer = near.get(digest)
        sent_at = near.sent_at(digest)
        if answer is None or sent_at is None or sent_at < since:
            limit = self.core.timeout(timeout)
            with self._in_flight_guard():
                answer = await self._in_flight.join((digest, near.epoch), load, limit)
        # The digest includes the kind of request, so the answer has the type of that kind.
        return apply_conditions(cast(V, answer), call.address, scopes)

    def check_watch(self) -> None:
        """Replaces a watch stream that hangs."""
        if self._watch is not None:
            self._watch.check()

    def known_principal_keys(self, kid: str) -> KeySet | None:
        """Returns the keys, or `None` if `principal_keys` must be called. May be called from any thread."""
        return None if self._needs_loop() else self._principal_keys.current(kid)

    async def principal_keys(self, kid: str, timeout: float | None) -> KeySet:
        """Returns the keys of principal tokens, and fetches them if that is due or this one is unknown."""
        self.open()
        self.check_watch()
        return await self._principal_keys.get(kid, self.core.timeout(timeout))

    async def call(
        self, method: Method, request: Any, timeout: float | None, metadata: Metadata = (), secrets: Sequence[str] = ()
    ) -> tuple[Any, str]:
        """Makes a unary call. Returns the response and the request id."""
        self.open()
        with self._in_flight_guard():
            try:
                return await self._send(method, request, timeout, metadata, secrets)
            finally:
                if self.core.near_cache is not None and not method.is_read:
                    _changes.invalidate(self.core.near_cache, request)

    async def give_back(self, request: limit_pb2.CancelRequest) -> None:
        """Cancels a reservation, also if the caller is cancelled meanwhile. A failure is only logged."""
        await asyncio.shield(self.abandon(request))

    def abandon(self, request: limit_pb2.CancelRequest) -> asyncio.Task[None]:
        """Cancels a reservation in the background."""
        task = asyncio.create_task(self._give_back(request))
        self._giving_back.add(task)
        task.add_done_callback(self._giving_back.discard)
        return task

    async def _give_back(self, request: limit_pb2.CancelRequest) -> None:
        try:
            await self.call(CANCEL, request, None)
        except TenantAuthError as error:
            if error.code not in HOLDS_NOTHING:
                warn_held(error)

    async def stream(
        self, kind: str, method: Method, request: Any, timeout: float | None, metadata: Metadata
    ) -> AsyncIterator[Any]:
        """Makes a streaming call of the generated stubs, on a connection of its choice."""
        replica = await self.open().pick(self.core.timeout(timeout))
        call: Any = None
        try:
            method_of_channel = getattr(replica.channel, kind)(method.path, method.serialize, method.parse)
            call = method_of_channel(request, timeout=timeout, metadata=(*self.core.metadata(), *metadata))
            async for message in call:
                replica.record_activity()
                yield message
            return
        except grpc.RpcError as status:
            error = _status.from_rpc(status, "")
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            error = _status.closed_error() if self._closed else _status.connection_lost()
        finally:
            if call is not None:
                call.cancel()
        raise error

    async def close(self) -> None:
        """Rejects new calls, waits for calls in flight, and then closes the watch stream and the connections."""
        # Calls made in the same tick have not started yet but must complete too.
        await asyncio.sleep(0)
        self._closed = True
        self.guards.close()
        if self._watch is not None:
            await self._watch.close()
        while self._in_flight_count:
            self._idle.clear()
            await self._idle.wait()
        await self._in_flight.close()
        if self._pool is not None:
            await self._pool.close()

    async def _validate(self, call: CacheableCall[V], scopes: Sequence[str], timeout: float | None) -> V:
        """Calls the service."""
        reply, _ = await self._send(call.method, call.request(scopes), timeout, secrets=call.secrets)
        return call.parse(reply)

    async def _send(
        self, method: Method, request: Any, timeout: float | None, metadata: Metadata = (), secrets: Sequence[str] = ()
    ) -> tuple[Any, str]:
        """Like `call`, without counting it: `decide` counts the waiting callers instead."""
        if self._calls is None:
            raise _status.closed_error()
        return await self._calls.make(method, request, timeout, metadata, secrets)

    async def _fetch_principal_keys(self, timeout: float) -> Any:
        # Not for less than the default: others may wait for this call too.
        limit = max(timeout, self.core.options.timeout)
        reply, _ = await self.call(GET_PRINCIPAL_KEYS, info_pb2.GetPrincipalKeysRequest(), limit)
        return reply

    def _needs_loop(self) -> bool:
        """Reports whether the client is closed or the watch stream hangs, which only the event loop handles."""
        near = self.core.near_cache
        return self._closed or (self._watch is not None and near is not None and near.watch_stalled())

    def _in_flight_guard(self) -> InFlightGuard:
        return InFlightGuard(self)

    def adjust_in_flight(self, change: int) -> None:
        self._in_flight_count += change
        if self._in_flight_count == 0:
            self._idle.set()


def warn_held(error: TenantAuthError) -> None:
    log.warning("reservation not cancelled, it is held until it expires: %s", error)


class InFlightGuard:
    """Counts a call in flight, for which `close` waits."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    def __enter__(self) -> None:
        self._engine.adjust_in_flight(1)

    def __exit__(self, *_exception: object) -> None:
        self._engine.adjust_in_flight(-1)
