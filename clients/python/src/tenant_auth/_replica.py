"""One address of the service and its connection."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from ._channel import Address, Target

LIVENESS_CHECK_TIMEOUT = 0.5
"""How long a replica may take to respond to a liveness check, in seconds."""
POLL_INTERVAL, CONNECTING_POLL_INTERVAL = 0.25, 0.01
"""How often the state of a connection is polled, in seconds."""
NO_CONNECTION = "failed to connect to all addresses"
"""How the error of gRPC begins if there is no connection. Its errors about a connection in use are others."""
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
# The health of the whole process: a request without a service name, which is encoded as zero bytes.
WHOLE_PROCESS = b""

READY = grpc.ChannelConnectivity.READY
CONNECTING = grpc.ChannelConnectivity.CONNECTING
FAILED = grpc.ChannelConnectivity.TRANSIENT_FAILURE


class ConnectionLost(Exception):  # noqa: N818
    """The replica did not respond and its connection was closed. The call may or may not have been processed."""


class NotSent(ConnectionLost):
    """The connection was closed before the call was sent."""


class Replica:
    """Maintains one connection, and replaces it if the replica does not respond."""

    def __init__(self, address: Address, target: Target, changed: Callable[[], None]) -> None:
        self.address = address
        self.check_pending = False
        """A call is late and the liveness check is in progress. Other replicas are preferred."""
        self._target = target
        self._changed = changed
        self._last_activity = 0.0
        self._closing = False
        self._poll_requested = asyncio.Event()
        self._methods: dict[str, Any] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._channel, self._stamp = target.channel(address)
        self._task = asyncio.create_task(self._maintain())

    @property
    def ready(self) -> bool:
        """Reports whether the replica is connected: the server has sent its settings."""
        return self._channel.get_state() is READY

    @property
    def failed(self) -> bool:
        """Reports whether the last connection attempt failed."""
        return self._channel.get_state() is FAILED

    @property
    def channel(self) -> grpc.aio.Channel:
        return self._channel

    async def unary(self, method: Any, request: Any, timeout: float, metadata: Any, slow_after: float) -> Any:
        """Makes one attempt. If there is no response after `slow_after` seconds, starts a liveness check."""
        channel = self._channel
        call = self._methods.get(method.path)
        if call is None:
            call = self._methods[method.path] = channel.unary_unary(method.path, method.serialize, method.parse)
        timer = asyncio.get_running_loop().call_later(slow_after, self.check_liveness)
        try:
            reply = await call(request, timeout=timeout, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            if has_server_metadata(error):
                self.record_activity()
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            closed = self._closing or channel is not self._channel
            if closed and (task is None or not task.cancelling()):
                raise ConnectionLost from None
            raise
        except grpc.aio.UsageError:
            # The channel was closed after it was selected and before it was used.
            raise NotSent from None
        finally:
            timer.cancel()
        self.record_activity()
        return reply

    def poll_now(self) -> None:
        """Polls the connection state now. Called when a call waits for a connection."""
        self._poll_requested.set()

    def record_activity(self) -> None:
        """Records that data has arrived on the connection."""
        self._last_activity = time.monotonic()

    def check_liveness(self) -> None:
        """Starts a liveness check on the connection, unless one is in progress."""
        if not self.check_pending and self.ready:
            self.check_pending = True
            self._spawn(self._check())

    async def close(self, grace: float | None = None) -> None:
        """Rejects new calls. Calls in flight have `grace` seconds."""
        self._closing = True
        await self._channel.close(grace)
        self._task.cancel()
        await asyncio.gather(self._task, *self._background, return_exceptions=True)

    async def _check(self) -> None:
        channel, since = self._channel, time.monotonic()
        try:
            check: Any = channel.unary_unary(HEALTH_CHECK)
            await check(WHOLE_PROCESS, timeout=LIVENESS_CHECK_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            lost = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not has_server_metadata(error)
            if lost and self._last_activity < since and channel is self._channel:
                self._reconnect()
        except (asyncio.CancelledError, grpc.aio.UsageError):
            # The channel was closed in the meantime, so the result does not matter.
            pass
        finally:
            self.check_pending = False

    def _reconnect_if_outdated(self) -> None:
        """Replaces a disconnected channel if the TLS files have changed."""
        if self._stamp != self._target.stamp():
            self._reconnect()

    def _reconnect(self) -> None:
        old = self._channel
        self._task.cancel()
        self._methods.clear()
        self._channel, self._stamp = self._target.channel(self.address)
        self._task = asyncio.create_task(self._maintain())
        self._changed()
        # Closing ends the calls in flight on it, which are retried elsewhere.
        self._spawn(old.close(None))

    async def _maintain(self) -> None:
        """Connects, reconnects when the connection is lost, and reports each change of the state.

        It polls the state because the wait functions of gRPC cannot be cancelled before the state changes.
        """
        channel = self._channel
        state = None
        while channel is self._channel and not self._closing:
            self._poll_requested.clear()
            before, state = state, channel.get_state(try_to_connect=True)
            if state is not READY and state is not CONNECTING:
                self._reconnect_if_outdated()
            if state is not before:
                self._changed()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CONNECTING_POLL_INTERVAL if state is CONNECTING else POLL_INTERVAL):
                    await self._poll_requested.wait()

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def has_server_metadata(error: grpc.aio.AioRpcError) -> bool:
    """Reports whether the status came from the service, not from the local side of the connection."""
    return bool(error.initial_metadata()) or bool(error.trailing_metadata())


def was_not_sent(error: grpc.aio.AioRpcError) -> bool:
    """Reports whether a call failed because there was no connection to send it on."""
    no_connection = (error.details() or "").startswith(NO_CONNECTION)
    return error.code() is grpc.StatusCode.UNAVAILABLE and no_connection and not has_server_metadata(error)
