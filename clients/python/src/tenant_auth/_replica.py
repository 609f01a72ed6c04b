"""One address of the service and the connection to it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from ._channel import Address, Target

LIFE_SIGN_TIMEOUT = 0.5
"""How long a replica that left a call unanswered may take to answer a health check, in seconds."""
LOOK, LOOK_WHILE_CONNECTING = 0.25, 0.01
"""How often the state of a connection is looked at, in seconds."""
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
# The health of the whole process: a request without a service, which is no bytes at all.
WHOLE_PROCESS = b""

READY = grpc.ChannelConnectivity.READY
CONNECTING = grpc.ChannelConnectivity.CONNECTING
FAILED = grpc.ChannelConnectivity.TRANSIENT_FAILURE


class ConnectionLost(Exception):  # noqa: N818
    """The replica was silent, so its connection was closed: whether it took the call in is not known."""


class Replica:
    """Keeps one connection, and makes it anew when the replica behind it is silent."""

    def __init__(self, address: Address, target: Target, changed: Callable[[], None]) -> None:
        self.address = address
        self.suspected = False
        """A call stayed unanswered and the health check is under way: others are preferred."""
        self._target = target
        self._changed = changed
        self._heard_at = 0.0
        self._closing = False
        self._look = asyncio.Event()
        self._methods: dict[str, Any] = {}
        self._background: set[asyncio.Task[None]] = set()
        self._channel, self._stamp = target.channel(address)
        self._task = asyncio.create_task(self._follow())

    @property
    def ready(self) -> bool:
        """Whether it is connected: the service has answered with its settings."""
        return self._channel.get_state() is READY

    @property
    def failed(self) -> bool:
        """Whether the last attempt to connect failed."""
        return self._channel.get_state() is FAILED

    @property
    def channel(self) -> grpc.aio.Channel:
        return self._channel

    async def unary(self, method: Any, request: Any, timeout: float, metadata: Any, slow: float) -> Any:
        """One attempt. Unanswered after `slow` seconds, the replica is asked for a sign of life."""
        channel = self._channel
        made = self._methods.get(method.path)
        if made is None:
            made = self._methods[method.path] = channel.unary_unary(method.path, method.serialize, method.parse)
        timer = asyncio.get_running_loop().call_later(slow, self.suspect)
        try:
            reply = await made(request, timeout=timeout, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            if answered(error):
                self.heard()
            raise
        except asyncio.CancelledError:
            task = asyncio.current_task()
            closed = self._closing or channel is not self._channel
            if closed and (task is None or not task.cancelling()):
                raise ConnectionLost from None
            raise
        except grpc.aio.UsageError:
            # Closed between its choice and its use.
            raise ConnectionLost from None
        finally:
            timer.cancel()
        self.heard()
        return reply

    def look(self) -> None:
        """Somebody waits for a connection: its state is looked at now."""
        self._look.set()

    def heard(self) -> None:
        """Something arrived on the connection."""
        self._heard_at = time.monotonic()

    def suspect(self) -> None:
        """Asks for a sign of life on the connection, unless that is under way."""
        if not self.suspected and self.ready:
            self.suspected = True
            self._spawn(self._check())

    async def close(self, grace: float | None = None) -> None:
        """Takes no more calls; those under way have `grace` seconds."""
        self._closing = True
        await self._channel.close(grace)
        self._task.cancel()
        await asyncio.gather(self._task, *self._background, return_exceptions=True)

    async def _check(self) -> None:
        channel, since = self._channel, time.monotonic()
        try:
            check: Any = channel.unary_unary(HEALTH_CHECK)
            await check(WHOLE_PROCESS, timeout=LIFE_SIGN_TIMEOUT)
        except grpc.aio.AioRpcError as error:
            lost = error.code() is grpc.StatusCode.DEADLINE_EXCEEDED and not answered(error)
            if lost and self._heard_at < since and channel is self._channel:
                self._renew()
        except (asyncio.CancelledError, grpc.aio.UsageError):
            # Closed meanwhile, by whoever needs no answer any more.
            pass
        finally:
            self.suspected = False

    def _renew_if_outdated(self) -> None:
        """A connection that is to be made anew uses what the TLS files hold by now."""
        if self._stamp != self._target.stamp():
            self._renew()

    def _renew(self) -> None:
        old = self._channel
        self._task.cancel()
        self._methods.clear()
        self._channel, self._stamp = self._target.channel(self.address)
        self._task = asyncio.create_task(self._follow())
        self._changed()
        # Ends the calls under way on it, which go elsewhere.
        self._spawn(old.close(None))

    async def _follow(self) -> None:
        """Connects, now and whenever the connection was lost, and tells of each change.

        Looks at the channel's state by itself: what gRPC offers for waiting cannot be ended before the state changes.
        """
        channel = self._channel
        state = None
        while channel is self._channel and not self._closing:
            self._look.clear()
            before, state = state, channel.get_state(try_to_connect=True)
            if state is not READY and state is not CONNECTING:
                self._renew_if_outdated()
            if state is not before:
                self._changed()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_WHILE_CONNECTING if state is CONNECTING else LOOK):
                    await self._look.wait()

    def _spawn(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)


def answered(error: grpc.aio.AioRpcError) -> bool:
    """Whether the status came from the service, and not from this side of the connection."""
    return bool(error.initial_metadata()) or bool(error.trailing_metadata())
