# Generated from async_local_limiter.py by tools/generate_sync.py. Do not edit.
"""The local limiter: `AsyncLocalLimiter` for asyncio, and `LocalLimiter` for threads, which is generated from it."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from . import _checks
from ._core import Core
from ._costs import MAX_AMOUNT, fixed
from ._engine import Engine
from ._limit_wire import Holder
from .limits import Consumption, LimitCredential


class LocalLimiter:
    """Admits requests from amounts that are reserved in advance; see the method `local_limiter` of the client.

    It never admits more than was reserved. What is reserved counts as used until it is settled: when it is spent, after
    at most 28 seconds, and by `close`. If the process ends without `close`, it is charged after 30 seconds.
    """

    def __init__(self, engine: Engine, core: Core, metric: str) -> None:
        if core.near_cache is None:
            raise ValueError("a local limiter needs the near cache: set the option near_cache")
        self._engine = engine
        fixed({metric: 1})
        self._leases = engine.local_leases(metric)

    def admit(self, credential: LimitCredential, amount: int = 1, *, timeout: float | None = None) -> Consumption:
        """Validates a key or a session by the near cache, and takes an amount of the metric from what is reserved.

        Waits for the service only if the near cache has no answer, or too little is reserved. The `limits` of the
        result are those of the last reservation.
        """
        _checks.count("amount", amount, 1, MAX_AMOUNT)
        holder = Holder(credential)
        validation = self._engine.decide(holder.call, holder.scopes, timeout)
        if not validation.is_valid:
            return Consumption(verdict=validation.verdict, validation=validation)
        limits = self._leases.take(holder, amount)
        if limits is None:
            fetched = self._engine.complete(self._leases.fetch_and_take(holder, amount, timeout))
            if isinstance(fetched, Consumption):
                return fetched
            limits = fetched
        made = Consumption(verdict=validation.verdict, validation=validation, limits=limits)
        return made._present(holder.credential)

    def close(self, timeout: float = 5.0) -> None:
        """Rejects further requests, and settles everything that is reserved, for at most `timeout` seconds. Close it
        before the client.
        """
        self._engine.complete(self._leases.close(_checks.duration("timeout", timeout)))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
