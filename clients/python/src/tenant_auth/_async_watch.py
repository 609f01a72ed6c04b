"""Follows the watch stream."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio

from . import _watching
from ._core import Core, apply_event
from ._near_cache import NearCache
from ._pool import Pool
from ._replica import Replica
from ._watching import ReconnectDelays
from .errors import TenantAuthError
from .proto import watch_pb2

WATCH = "/tenantauth.v1.WatchService/Watch"


class AsyncWatch:
    """Applies the events of the watch stream to a near cache until it is closed."""

    def __init__(self, core: Core, near: NearCache, pool: Pool) -> None:
        self._core = core
        self._near = near
        self._pool = pool
        self._reconnect_delays = ReconnectDelays(core.options.jitter)
        self._call: Any = None
        self._replica: Replica | None = None
        self._task = asyncio.create_task(self._run())

    def check(self) -> None:
        """Closes a stream that hangs, and suspects its replica. Called by validations that rely on the stream."""
        if self._call is not None and self._near.watch_stalled():
            if self._replica is not None:
                self._replica.check_liveness()
            self._call.cancel()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            failure = await self._read_stream()
            self._near.watch_closed()
            await self._core.clock.sleep(self._reconnect_delays.after(failure))

    async def _read_stream(self) -> str:
        """Reads one stream until it ends, and returns the status code."""
        try:
            self._replica = await self._pool.pick(self._core.options.timeout)
            request = watch_pb2.WatchRequest(resume_after_revision=self._near.watch_opening())
            stream = self._replica.channel.unary_stream(
                WATCH, watch_pb2.WatchRequest.SerializeToString, watch_pb2.WatchResponse.FromString
            )
            self._call = stream(request, metadata=self._core.metadata())
            async for event in self._call:
                self._replica.record_activity()
                self._reconnect_delays.succeeded()
                apply_event(self._near, event)
            return "OK"
        except grpc.RpcError as error:
            return _watching.code(error)
        except TenantAuthError as error:
            return error.code
        except asyncio.CancelledError:
            # Either this task was cancelled, or the call was: by `check`, or because its connection was closed as
            # unresponsive.
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            return "CANCELLED"
        except grpc.aio.UsageError:
            return "CANCELLED"
        except Exception:
            _watching.log.exception("watch stream failed")
            return "UNKNOWN"
        finally:
            if self._call is not None:
                self._call.cancel()
                self._call = None
