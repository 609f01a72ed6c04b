"""The generated stubs, for RPCs that the clients do not wrap, such as administration.

`client.raw.admin.RevokeKey(request)` is awaited with an `AsyncClient` and returns the response with a `Client`. The
calls use the client's timeout (or `timeout=`), caller token, replicas and errors. Reads are retried and hedged, writes
are not. After a write, the near cache drops the answers about its subjects. Responses are not cached.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._calls import Method
from .proto.admin_pb2_grpc import AdminServiceStub
from .proto.info_pb2_grpc import InfoServiceStub
from .proto.limit_pb2_grpc import LimitServiceStub
from .proto.session_pb2_grpc import SessionServiceStub
from .proto.usage_pb2_grpc import UsageServiceStub
from .proto.validation_pb2_grpc import ValidationServiceStub
from .proto.watch_pb2_grpc import WatchServiceStub


class Stubs:
    """The stubs of all services. `unary` and `stream` make the calls."""

    def __init__(self, unary: Callable[..., Any], stream: Callable[..., Any]) -> None:
        channel: Any = Channel(unary, stream)
        self.admin = AdminServiceStub(channel)
        self.info = InfoServiceStub(channel)
        self.limit = LimitServiceStub(channel)
        self.session = SessionServiceStub(channel)
        self.usage = UsageServiceStub(channel)
        self.validation = ValidationServiceStub(channel)
        self.watch = WatchServiceStub(channel)


class AsyncRaw(Stubs):
    """The stubs of an `AsyncClient`: await unary calls, iterate over streams with `async for`."""


class Raw(Stubs):
    """The stubs of a `Client`: unary calls return the response, streams are iterated over."""


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
