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

LEAVING_GRACE = 60.0
"""How long calls may continue on an address that its name no longer resolves to, in seconds."""


class Pool:
    """One replica per address of each endpoint. Belongs to one event loop."""

    def __init__(self, target: Target) -> None:
        self._target = target
        self._replicas: dict[Address, Replica] = {}
        self._lookups: list[Lookups] = []
        self._turn = 0
        self._changed = asyncio.Event()
        self._leaving: set[asyncio.Task[None]] = set()
        for endpoint in target.endpoints:
            proxy = target.proxy(endpoint)
            if proxy is not None:
                self._add([Address.through(proxy, endpoint)])
            elif endpoint.version is not None:
                self._add([Address.of(endpoint, endpoint.host)])
            else:
                found, unconnected = partial(self._found, endpoint), partial(self._unconnected, endpoint)
                self._lookups.append(Lookups(endpoint, found, unconnected))

    async def pick(self, timeout: float) -> Replica:
        """Returns the next connected replica. Waits for one while the first connections or lookups are in progress."""
        replica = self.now()
        if replica is not None:
            return replica
        try:
            async with asyncio.timeout(timeout):
                while True:
                    changed = self._changed
                    replica = self.now() or self._failed()
                    if replica is not None:
                        return replica
                    for one in self._replicas.values():
                        one.look()
                    await changed.wait()
        except TimeoutError:
            raise _status.late() from None

    def other(self, than: Replica) -> Replica | None:
        """Returns another connected replica that is not suspected."""
        others = (r for r in self._replicas.values() if r is not than and r.ready and not r.suspected)
        return self._next(others)

    def now(self) -> Replica | None:
        """Returns a connected replica, if there is one. Does not wait."""
        return self._next(replica for replica in self._replicas.values() if replica.ready)

    async def close(self) -> None:
        await asyncio.gather(*(lookups.close() for lookups in self._lookups))
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(*self._leaving, return_exceptions=True)
        await asyncio.gather(*(replica.close() for replica in self._replicas.values()))

    def _next(self, candidates: Iterable[Replica]) -> Replica | None:
        among = list(candidates)
        among = [replica for replica in among if not replica.suspected] or among
        if not among:
            return None
        self._turn += 1
        return among[self._turn % len(among)]

    def _failed(self) -> Replica | None:
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

    def _found(self, endpoint: Endpoint, ips: list[str]) -> None:
        if ips:
            addresses = [Address.of(endpoint, ip) for ip in ips]
            gone = [a for a in self._replicas if a.endpoint == endpoint and a not in addresses]
            for address in gone:
                leaving = asyncio.create_task(self._replicas.pop(address).close(LEAVING_GRACE))
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)
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
            if self._unconnected(lookups.endpoint):
                lookups.ask()

    def _unconnected(self, endpoint: Endpoint) -> bool:
        """Reports whether an address of the endpoint is not connected."""
        return any(a.endpoint == endpoint and not replica.ready for a, replica in self._replicas.items())
