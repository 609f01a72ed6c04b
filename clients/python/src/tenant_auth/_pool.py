"""The replicas of the service: resolves and connects to them, and selects one for each call in turn."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from functools import partial

from . import _status
from ._channel import Address, Target
from ._endpoints import Endpoint
from ._replica import Replica
from ._resolver import Lookups
from .errors import UnavailableError

REMOVED_ADDRESS_GRACE = 60.0
"""How long calls may continue on an address that its name no longer resolves to, in seconds."""


class Pool:
    """One replica per address of each endpoint. Belongs to one event loop."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._replicas: dict[Address, Replica] = {}
        self._lookups: list[Lookups] = []
        self._next_index = 0
        self._changed = asyncio.Event()
        self._closing_tasks: set[asyncio.Task[None]] = set()
        for endpoint in target.endpoints:
            proxy = target.proxy(endpoint)
            if proxy is not None:
                self._add([Address.through(proxy, endpoint)])
            elif endpoint.version is not None:
                self._add([Address.of(endpoint, endpoint.host)])
            else:
                on_lookup = partial(self._apply_lookup, endpoint)
                has_unconnected = partial(self._has_unconnected, endpoint)
                self._lookups.append(Lookups(endpoint, on_lookup, has_unconnected))

    async def pick(self, timeout: float) -> Replica:
        """Returns the next connected replica. Waits for one while the first connections or lookups are in progress."""
        replica = self.next_ready()
        if replica is not None:
            return replica
        try:
            async with asyncio.timeout(timeout):
                while True:
                    changed = self._changed
                    replica = self.next_ready() or self._unreachable()
                    if replica is not None:
                        return replica
                    for one in self._replicas.values():
                        one.poll_now()
                    await changed.wait()
        except TimeoutError:
            raise _status.deadline_exceeded() from None

    def alternative_to(self, than: Replica) -> Replica | None:
        """Returns another connected replica that is not suspected."""
        others = (r for r in self._replicas.values() if r is not than and r.ready and not r.check_pending)
        return self._next(others)

    def next_ready(self) -> Replica | None:
        """Returns a connected replica, if there is one. Does not wait."""
        return self._next(replica for replica in self._replicas.values() if replica.ready)

    async def close(self) -> None:
        await asyncio.gather(*(lookups.close() for lookups in self._lookups))
        for task in self._closing_tasks:
            task.cancel()
        await asyncio.gather(*self._closing_tasks, return_exceptions=True)
        await asyncio.gather(*(replica.close() for replica in self._replicas.values()))

    def _next(self, candidates: Iterable[Replica]) -> Replica | None:
        among = list(candidates)
        among = [replica for replica in among if not replica.check_pending] or among
        if not among:
            return None
        self._next_index += 1
        return among[self._next_index % len(among)]

    def _unreachable(self) -> Replica | None:
        """If no replica is reachable, returns one whose channel has the error; `None`: one may still connect."""
        failures = [lookups.failure for lookups in self._lookups]
        waiting = any(
            failure is None and not any(address.endpoint == lookups.endpoint for address in self._replicas)
            for failure, lookups in zip(failures, self._lookups, strict=True)
        )
        if waiting or not all(replica.failed for replica in self._replicas.values()):
            return None
        replica = self._next(self._replicas.values())
        if replica is None:
            reason = "; ".join(filter(None, failures))
            raise UnavailableError(reason, code="UNAVAILABLE")
        return replica

    def _apply_lookup(self, endpoint: Endpoint, ips: list[str]) -> None:
        if ips:
            addresses = [Address.of(endpoint, ip) for ip in ips]
            removed = [a for a in self._replicas if a.endpoint == endpoint and a not in addresses]
            for address in removed:
                closing = asyncio.create_task(self._replicas.pop(address).close(REMOVED_ADDRESS_GRACE))
                self._closing_tasks.add(closing)
                closing.add_done_callback(self._closing_tasks.discard)
            self._add(address for address in addresses if address not in self._replicas)
        self._notify()

    def _add(self, addresses: Iterable[Address]) -> None:
        for address in addresses:
            if address not in self._replicas:
                self._replicas[address] = Replica(address, self._target, self._notify)

    def _notify(self) -> None:
        # Each waiter uses the event that it read before its check, so it cannot miss a change.
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()
        for lookups in self._lookups:
            if self._has_unconnected(lookups.endpoint):
                lookups.request_lookup()

    def _has_unconnected(self, endpoint: Endpoint) -> bool:
        """Reports whether an address of the endpoint is not connected."""
        return any(a.endpoint == endpoint and not replica.ready for a, replica in self._replicas.items())
