"""The generated stubs, for RPCs that the clients do not wrap, such as administration.

`client.raw.admin.RevokeKey(request)` is awaited with an `AsyncClient` and returns the response with a `Client`. The
calls use the client's timeout (or `timeout=`), caller token, replicas and errors. Reads are retried and hedged, writes
are not. After a write, the near cache drops the answers about its subjects. Responses are not cached.
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
    """The stubs of an `AsyncClient`: await unary calls, iterate over streams with `async for`."""

    def __init__(self, unary: Unary, stream: Stream) -> None:
        channel: Any = Channel(unary, stream)
        self.admin = AdminServiceStub(channel)
        self.info = InfoServiceStub(channel)
        self.session = SessionServiceStub(channel)
        self.usage = UsageServiceStub(channel)
        self.validation = ValidationServiceStub(channel)
        self.watch = WatchServiceStub(channel)


class Raw:
    """The stubs of a `Client`: unary calls return the response, streams are iterated over."""

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
    """The channel object for the generated stubs. Each call selects its own replica."""

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
    """Converts requests that are produced in a thread to a stream in an event loop."""

    iterator = iter(requests)
    end = object()
    while (request := await asyncio.to_thread(next, iterator, end)) is not end:
        yield request  # type: ignore[misc]
