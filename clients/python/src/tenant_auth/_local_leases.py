"""Reserves and settles the chunks of a local limiter, on the event loop of the client."""

from __future__ import annotations

import asyncio
import logging
import threading
import uuid
from collections import OrderedDict
from typing import TYPE_CHECKING

from . import _limit_wire, _methods, _status
from ._async_worker import AsyncSignal
from ._core import Core
from ._lease import Chunk, Lease
from ._limit_wire import Holder
from .errors import TenantAuthError
from .limits import Consumption, LimitDecision, ReservationExpiry

if TYPE_CHECKING:
    from ._async_engine import AsyncEngine

log = logging.getLogger("tenant_auth")

EXPIRES_IN = 30.0
MARGIN = 2.0
"""How long before its expiry a chunk is settled, in seconds."""
RETRY_DELAY = 0.5
"""Time between attempts to settle, in seconds."""
REFUSED_DELAY = 1.0
"""How long nothing is fetched ahead after a refusal, in seconds."""
MAX_IDLE = 10_000
"""How many keys without chunks are remembered."""

Fetched = tuple[int, Consumption | TenantAuthError | None]
"""The size of a chunk, and why it was not reserved."""


class KeyLease(Lease):
    """A lease, with what the event loop needs."""

    fetching: asyncio.Task[Fetched] | None = None
    fetch_ahead_at: float = 0.0


class LocalLeases:
    """The leases of one limiter, by key. `take` may be called from any thread; the other methods belong to the loop."""

    def __init__(self, engine: AsyncEngine, core: Core, metric: str) -> None:
        self._engine = engine
        self._clock = core.clock
        self._core = core
        self._metric = metric
        self._lock = threading.Lock()
        self._leases: OrderedDict[bytes, KeyLease] = OrderedDict()
        self._spent: dict[Chunk, AsyncSignal] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._closed = False

    def take(self, holder: Holder, amount: int, *, again: bool = False) -> tuple[LimitDecision, ...] | None:
        """Takes an amount from what is reserved. Returns what the limits said then, or `None` if there is too little.

        `again`: the request has asked before.
        """
        now = self._clock.monotonic()
        with self._lock:
            if self._closed:
                raise _status.closed_error("local limiter")
            lease = self._lease(holder)
            if not again:
                lease.ask(amount, now)
            taken = lease.take(amount, now)
            ahead = taken is not None and lease.fetching is None and now >= lease.fetch_ahead_at
            ahead = ahead and lease.needs_more(now)
        if taken is None:
            return None
        touched, spent = taken
        if spent or ahead:
            self._engine.loop.call_soon_threadsafe(self._follow, holder, lease, spent, ahead)
        return touched[-1].limits

    async def fetch_and_take(
        self, holder: Holder, amount: int, timeout: float | None
    ) -> tuple[LimitDecision, ...] | Consumption:
        """Reserves as much as is needed, and takes an amount. Returns the denial if a limit has too little left."""
        try:
            async with asyncio.timeout(self._core.timeout(timeout)):
                return await self._fetch_and_take(holder, amount)
        except TimeoutError:
            raise _status.deadline_exceeded() from None

    async def close(self, timeout: float) -> None:
        """Settles everything that is reserved."""
        with self._lock:
            self._closed = True
            leases = tuple(self._leases.values())
        fetches = [lease.fetching for lease in leases if lease.fetching is not None]
        await asyncio.gather(*fetches)
        with self._lock:
            for lease in leases:
                for chunk in tuple(lease.chunks):
                    lease.retire(chunk)
        for signal in tuple(self._spent.values()):
            signal.set()
        if self._tasks:
            _, unsettled = await asyncio.wait(self._tasks, timeout=timeout)
            for task in unsettled:
                task.cancel()

    async def _fetch_and_take(self, holder: Holder, amount: int) -> tuple[LimitDecision, ...] | Consumption:
        with self._lock:
            lease = self._lease(holder)
        while True:
            taken = self.take(holder, amount, again=True)
            if taken is not None:
                return taken
            is_own = lease.fetching is None
            fetching = lease.fetching or self._fetch(holder, lease, amount)
            # A caller that gives up does not end the call for the others.
            size, refusal = await asyncio.shield(fetching)
            if isinstance(refusal, TenantAuthError):
                raise refusal.copy()
            if refusal is None:
                continue
            # What is wrong with the key for another request, such as its address, says nothing about this one.
            if size <= amount if refusal.validation.is_valid else is_own:
                return refusal

    def _follow(self, holder: Holder, lease: KeyLease, spent: list[Chunk], ahead: bool) -> None:
        for chunk in spent:
            if chunk in self._spent:
                self._spent[chunk].set()
        if ahead and lease.fetching is None and not self._closed:
            self._fetch(holder, lease, None)

    def _fetch(self, holder: Holder, lease: KeyLease, amount: int | None) -> asyncio.Task[Fetched]:
        """Starts to reserve a chunk of at least `amount`; `None`: ahead of need."""
        lease.fetching = asyncio.create_task(self._reserve_chunk(holder, lease, amount))
        return lease.fetching

    async def _reserve_chunk(self, holder: Holder, lease: KeyLease, amount: int | None) -> Fetched:
        try:
            return await self._reserve_at_most(holder, lease, amount)
        finally:
            # Not in a callback, which runs later: a request between the two would wait for a task that is done, which
            # does not let the event loop run.
            lease.fetching = None

    async def _reserve_at_most(self, holder: Holder, lease: KeyLease, amount: int | None) -> Fetched:
        """Reserves a chunk as large as the limit has room for, and at least `amount`."""
        with self._lock:
            size = max(amount or 1, lease.size(self._clock.monotonic()))
        while True:
            try:
                refusal = await self._reserve(holder, lease, size)
            except TenantAuthError as error:
                return size, error
            except Exception as error:
                # One of the user's token function. It must not end the callers that share this call.
                return size, TenantAuthError(f"{type(error).__name__} while reserving")
            if refusal is None:
                return size, None
            lease.fetch_ahead_at = self._clock.monotonic() + (refusal.retry_after or REFUSED_DELAY)
            if not refusal.validation.is_valid:
                return size, refusal
            with self._lock:
                lease.refused(size)
            if amount is None or size <= amount:
                return size, refusal
            size = max(amount, size // 2)

    async def _reserve(self, holder: Holder, lease: KeyLease, size: int) -> Consumption | None:
        """Reserves a chunk. Returns the denial if there is one."""
        reservation_id = uuid.uuid4().hex
        request = _limit_wire.reserve_request(
            holder, {self._metric: size}, reservation_id, EXPIRES_IN, ReservationExpiry.CHARGE
        )
        sent_at = self._clock.monotonic()
        try:
            reply, _ = await self._engine.call(_methods.RESERVE, request, None, (), holder.secrets)
            made = holder.decision(reply)
            expires_in = _limit_wire.optional_seconds(reply, "expires_in") or 0.0
            if made.allowed and expires_in <= MARGIN:
                raise _status.invalid_response(f"the response has an expiry of {expires_in} seconds")
        except BaseException:
            # It may be reserved, and would be charged.
            self._engine.abandon(_limit_wire.cancel_request(reservation_id))
            raise
        if not made.allowed:
            return made
        expires_at = sent_at + expires_in
        chunk = Chunk(reservation_id, size, expires_at, expires_at - MARGIN, made.limits)
        signal = self._spent[chunk] = AsyncSignal(self._clock)
        with self._lock:
            lease.granted()
            lease.chunks.append(chunk)
        task = asyncio.create_task(self._end(lease, chunk, signal))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return None

    async def _end(self, lease: KeyLease, chunk: Chunk, signal: AsyncSignal) -> None:
        """Settles a chunk when it is spent or too old."""
        await signal.wait(max(0.0, chunk.usable_until - self._clock.monotonic()))
        with self._lock:
            lease.retire(chunk)
        del self._spent[chunk]
        request = _limit_wire.settle_request(chunk.reservation_id, {self._metric: chunk.used})
        failure: TenantAuthError | None = None
        # Not after its expiry: then all of it is charged, and the actual amount would be taken in addition.
        while (remaining := chunk.expires_at - self._clock.monotonic()) > 0:
            try:
                await self._engine.call(_methods.SETTLE, request, min(remaining, self._core.options.timeout))
                return
            except TenantAuthError as error:
                failure = error
                if not error.is_transient:
                    break
            await self._clock.sleep(RETRY_DELAY)
        log.warning(
            "local limiter: %d reserved, of which %d were used, are charged: %s", chunk.reserved, chunk.used, failure
        )

    def _lease(self, holder: Holder) -> KeyLease:
        near = self._core.near_cache
        assert near is not None  # noqa: S101
        digest = near.digest(*holder.call.cache_key)
        lease = self._leases.get(digest)
        if lease is None:
            lease = self._leases[digest] = KeyLease()
            self._forget_idle()
        self._leases.move_to_end(digest)
        return lease

    def _forget_idle(self) -> None:
        if len(self._leases) <= MAX_IDLE:
            return
        for digest, lease in self._leases.items():
            if not lease.chunks and lease.fetching is None:
                del self._leases[digest]
                return
