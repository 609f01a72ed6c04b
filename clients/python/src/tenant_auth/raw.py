"""The generated stubs, for what the clients do not wrap, such as administration.

`client.raw.admin.RevokeKey(request)` of an `AsyncClient` is awaited, that of a `Client` returns the reply. Either way a
call has the client's timeout (or `timeout=`), its caller token, its choice of replicas and its errors; reads are
repeated and hedged, writes are not. What a write is about is forgotten by the near-cache. Answers do not pass it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
from typing import Any, TypeVar

from ._calls import Method
from .proto.admin_pb2_grpc import AdminServiceStub
from .proto.info_pb2_grpc import InfoServiceStub
from .proto.session_pb2_grpc import SessionServiceStub
from .proto.usage_pb2_grpc import UsageServiceStub
from .proto.validation_pb2_grpc import ValidationServiceStub
from .proto.watch_pb2_grpc import WatchServiceStub

T = TypeVar("T")
Unary = Callable[[Method, Any, float | None, Any], Awaitable[Any]]
Stream = Callable[[str, Method, Any, float | None, Any], AsyncIterator[Any]]


class AsyncRaw:
    """The stubs of an `AsyncClient`: unary calls are awaited, streams iterated over with `async for`."""

    def __init__(self, unary: Unary, stream: Stream) -> None:
        channel: Any = Channel(unary, stream)
        self.admin = AdminServiceStub(channel)
        self.info = InfoServiceStub(channel)
        self.session = SessionServiceStub(channel)
        self.usage = UsageServiceStub(channel)
        self.validation = ValidationServiceStub(channel)
        self.watch = WatchServiceStub(channel)


class Raw:
    """The stubs of a `Client`: unary calls return the reply, streams are iterated over."""

    def __init__(
        self, unary: Unary, stream: Stream, run: Callable[[Awaitable[Any]], Any], each: Callable[[Any], Iterator[Any]]
    ) -> None:
        def call(method: Method, request: Any, timeout: float | None, metadata: Any) -> Any:
            return run(unary(method, request, timeout, metadata))

        def iterate(kind: str, method: Method, request: Any, timeout: float | None, metadata: Any) -> Iterator[Any]:
            requests = request if isinstance(request, AsyncIterable) or kind == "unary_stream" else one_by_one(request)
            return each(stream(kind, method, requests, timeout, metadata))

        channel: Any = Channel(call, iterate)
        self.admin = AdminServiceStub(channel)
        self.info = InfoServiceStub(channel)
        self.session = SessionServiceStub(channel)
        self.usage = UsageServiceStub(channel)
        self.validation = ValidationServiceStub(channel)
        self.watch = WatchServiceStub(channel)


class Channel:
    """What the generated stubs take for a channel; each call chooses its own replica."""

    def __init__(self, unary: Callable[..., Any], stream: Callable[..., Any]) -> None:
        self._unary = unary
        self._stream = stream

    def unary_unary(
        self, path: str, request_serializer: Any, response_deserializer: Any, _registered_method: bool = False
    ) -> Any:
        method = Method(path, request_serializer, response_deserializer)

        def call(request: Any, timeout: float | None = None, metadata: Any = ()) -> Any:
            return self._unary(method, request, timeout, metadata)

        return call

    def unary_stream(
        self, path: str, request_serializer: Any, response_deserializer: Any, _registered_method: bool = False
    ) -> Any:
        return self._streaming("unary_stream", Method(path, request_serializer, response_deserializer))

    def stream_stream(
        self, path: str, request_serializer: Any, response_deserializer: Any, _registered_method: bool = False
    ) -> Any:
        return self._streaming("stream_stream", Method(path, request_serializer, response_deserializer))

    def _streaming(self, kind: str, method: Method) -> Any:
        def call(request: Any, timeout: float | None = None, metadata: Any = ()) -> Any:
            return self._stream(kind, method, request, timeout, metadata)

        return call


async def one_by_one(requests: Iterable[T]) -> AsyncIterator[T]:
    """Requests that are made in a thread, for a stream in an event loop."""

    iterator = iter(requests)
    end = object()
    while (request := await asyncio.to_thread(next, iterator, end)) is not end:
        yield request  # type: ignore[misc]
