"""Follows the watch stream."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio

from ._core import Core, apply_event
from ._near_cache import NearCache
from ._pool import Pool
from ._replica import Replica
from ._retry import backoff
from .errors import TenantAuthError
from .proto import watch_pb2

log = logging.getLogger("tenant_auth")

WATCH = "/tenantauth.v1.WatchService/Watch"
UNIMPLEMENTED_DELAY = 60.0
"""Delay if the service does not offer the stream. It may be replaced by a version that does."""
# Not longer than the liveness timeout, after which the near cache no longer relies on the stream.
MAX_DELAY = 3.0


class Watch:
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
            return str(error.code().name)
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
            log.exception("watch stream failed")
            return "UNKNOWN"
        finally:
            if self._call is not None:
                self._call.cancel()
                self._call = None


class ReconnectDelays:
    """The delay before the next connection."""

    def __init__(self, jitter: Callable[[], float]) -> None:
        self._jitter = jitter
        self._failures = 0

    def succeeded(self) -> None:
        """Records that an event has arrived."""
        self._failures = 0

    def after(self, code: str) -> float:
        """Returns the delay after a connection that ended with this status code."""
        if code in ("UNIMPLEMENTED", "FAILED_PRECONDITION"):
            return UNIMPLEMENTED_DELAY
        self._failures += 1
        return backoff(self._failures - 1, self._jitter(), maximum=MAX_DELAY)
