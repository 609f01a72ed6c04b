"""The part of `Client` below its methods.

Not generated from `_async_engine`: threads would need another implementation of gRPC calls, hedging, name lookups and
the watch stream, all of which can be cancelled only in an event loop. It runs an `AsyncEngine` instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Iterable, Iterator, Sequence
from typing import Any, TypeVar

from ._async_engine import AsyncEngine, warn_held
from ._calls import Method
from ._core import Core, Metadata
from ._local_leases import LocalLeases
from ._loop_thread import LoopThread
from ._methods import CacheableCall
from ._principal_keys import KeySet
from .errors import ClosedError
from .proto import limit_pb2
from .results import Validation

T = TypeVar("T")
V = TypeVar("V", bound=Validation)


class Engine:
    """Runs an `AsyncEngine` on the shared event loop, which starts on first use. Has the same methods, for threads."""

    def __init__(self, core: Core) -> None:
        self._inner = AsyncEngine(core)
        self._loop = LoopThread()

    def open(self) -> None:
        async def open_inner() -> None:
            self._inner.open()

        self._loop.run(open_inner())

    def decide(self, call: CacheableCall[V], scopes: Sequence[str], timeout: float | None) -> V:
        # A cached answer does not need the other thread.
        known = self._inner.cached(call, scopes)
        return known if known is not None else self._loop.run(self._inner.decide(call, scopes, timeout))

    def principal_keys(self, kid: str, timeout: float | None) -> KeySet:
        # Known keys do not need the other thread.
        known = self._inner.known_principal_keys(kid)
        return known if known is not None else self._loop.run(self._inner.principal_keys(kid, timeout))

    def complete(self, work: Awaitable[T]) -> T:
        return self._loop.run(work)

    def local_leases(self, metric: str) -> LocalLeases:
        return self._inner.local_leases(metric)

    def call(
        self, method: Method, request: Any, timeout: float | None, metadata: Metadata = (), secrets: Sequence[str] = ()
    ) -> tuple[Any, str]:
        return self._loop.run(self._inner.call(method, request, timeout, metadata, secrets))

    def give_back(self, request: limit_pb2.CancelRequest) -> None:
        try:
            self._loop.run(self._inner.give_back(request))
        except ClosedError as error:
            warn_held(error)

    def abandon(self, request: limit_pb2.CancelRequest) -> None:
        async def abandon_inner() -> None:
            self._inner.abandon(request)

        try:
            self._loop.run(abandon_inner())
        except ClosedError as error:
            warn_held(error)

    def stream(
        self, kind: str, method: Method, request: Any, timeout: float | None, metadata: Metadata
    ) -> Iterator[Any]:
        requests = request if isinstance(request, AsyncIterable) or kind == "unary_stream" else one_by_one(request)
        return self._loop.each(self._inner.stream(kind, method, requests, timeout, metadata))

    def close(self) -> None:
        self._loop.close(self._inner.close)


async def one_by_one(requests: Iterable[T]) -> AsyncIterator[T]:
    """Converts requests that are produced in a thread to a stream in an event loop."""

    iterator = iter(requests)
    end = object()
    while (request := await asyncio.to_thread(next, iterator, end)) is not end:
        yield request  # type: ignore[misc]
