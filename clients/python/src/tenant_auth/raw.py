"""The generated stubs, for what the clients do not wrap, such as administration.

Calls through them have no deadline, no retries and no caller token of their own; `metadata()` of the client gives the
token. Answers do not pass the near-cache.
"""

from __future__ import annotations

import grpc
import grpc.aio

from .proto.admin_pb2_grpc import AdminServiceStub
from .proto.info_pb2_grpc import InfoServiceStub
from .proto.session_pb2_grpc import SessionServiceStub
from .proto.usage_pb2_grpc import UsageServiceStub
from .proto.validation_pb2_grpc import ValidationServiceStub
from .proto.watch_pb2_grpc import WatchServiceStub


class Raw:
    """Stubs on the channel of a `Client`."""

    def __init__(self, channel: grpc.Channel) -> None:
        self.admin = AdminServiceStub(channel)
        self.info = InfoServiceStub(channel)
        self.session = SessionServiceStub(channel)
        self.usage = UsageServiceStub(channel)
        self.validation = ValidationServiceStub(channel)
        self.watch = WatchServiceStub(channel)


class AsyncRaw:
    """Stubs on the channel of an `AsyncClient`."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.admin = AdminServiceStub(channel)
        self.info = InfoServiceStub(channel)
        self.session = SessionServiceStub(channel)
        self.usage = UsageServiceStub(channel)
        self.validation = ValidationServiceStub(channel)
        self.watch = WatchServiceStub(channel)
