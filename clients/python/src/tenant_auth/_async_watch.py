"""Follows the stream of invalidations in a task."""

from __future__ import annotations

import asyncio

import grpc

from . import _watching
from ._core import Core, take_in
from ._near_cache import NearCache
from ._watching import Pauses
from .proto import watch_pb2
from .raw import AsyncRaw


class AsyncWatch:
    """Keeps a near-cache informed until it is closed."""

    def __init__(self, core: Core, near: NearCache, raw: AsyncRaw) -> None:
        self._core = core
        self._near = near
        self._raw = raw
        self._pauses = Pauses(core.options.jitter)
        self._call: grpc.aio.UnaryStreamCall[watch_pb2.WatchRequest, watch_pb2.WatchResponse] | None = None
        self._task = asyncio.create_task(self._run())

    def check(self) -> None:
        """Ends a connection that hangs, so that another one is made. Whoever relies on the stream asks for this."""
        if self._call is not None and self._near.watch_hangs():
            self._call.cancel()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            failure = await self._follow()
            self._near.watch_closed()
            await self._core.clock.sleep(self._pauses.after(failure))

    async def _follow(self) -> str:
        """One connection, from its opening to its end; why it ended."""
        request = watch_pb2.WatchRequest(resume_after_revision=self._near.watch_opening())
        try:
            self._call = self._raw.watch.Watch(request, metadata=self._core.metadata())
            async for event in self._call:
                self._pauses.succeeded()
                take_in(self._near, event)
            return "OK"
        except grpc.RpcError as error:
            return _watching.code(error)
        except asyncio.CancelledError:
            # Either this task is to end, or `check` ended the call.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return "CANCELLED"
        except Exception:
            _watching.log.exception("the stream of invalidations cannot be followed")
            return "UNKNOWN"
        finally:
            if self._call is not None:
                self._call.cancel()
                self._call = None
