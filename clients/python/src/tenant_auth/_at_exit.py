"""Sends the events of recorders that were not closed when the process exits."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

from . import _methods, _wire
from ._async_engine import AsyncEngine
from ._core import Core
from .errors import TenantAuthError
from .usage import UnsentUsage

log = logging.getLogger("tenant_auth")

EXIT_TIMEOUT = 3.0
"""Maximum time that an exit waits for sending the remaining events, in seconds."""

Finish = Callable[[], Sequence[UnsentUsage]]

lock = threading.Lock()
recorders: dict[int, tuple[int, Finish]] = {}


def register(recorder: object, finish: Finish) -> None:
    """Registers `finish`, which sends the remaining events and returns those that could not be sent. A fork does not
    run it for the events that it copied.
    """
    with lock:
        recorders[id(recorder)] = (os.getpid(), finish)


def unregister(recorder: object) -> None:
    """Removes a recorder that was closed."""
    with lock:
        recorders.pop(id(recorder), None)


def send(unsent: Sequence[UnsentUsage], core: Core, end: float) -> list[UnsentUsage]:
    """Sends the remaining events on new connections, until the time `end`. A batch that may have arrived keeps its
    request id, so it counts once.
    """
    return asyncio.run(send_each(unsent, core, end)) if unsent else []


async def send_each(unsent: Sequence[UnsentUsage], core: Core, end: float) -> list[UnsentUsage]:
    failed: list[UnsentUsage] = []
    engine = AsyncEngine(Core(core.endpoints, replace(core.options, near_cache=None)))
    try:
        for batch in unsent:
            timeout = max(0.1, end - time.monotonic())
            try:
                request = _wire.usage_request(batch.events, batch.request_id)
                reply, request_id = await engine.call(_methods.RECORD_USAGE, request, timeout)
                _wire.receipt(reply, batch.events, request_id)
            except TenantAuthError as error:
                failed.append(replace(batch, error=error))
    finally:
        await engine.close()
    return failed


def warn_unsent(unsent: Sequence[UnsentUsage]) -> None:
    if unsent:
        count = sum(len(batch.events) for batch in unsent)
        log.warning("usage events lost: %d; last error: %s", count, unsent[-1].error)


@atexit.register
def finish_all() -> None:
    with lock:
        pending = [finish for pid, finish in recorders.values() if pid == os.getpid()]
        recorders.clear()
    for finish in pending:
        try:
            warn_unsent(finish())
        except Exception:
            log.exception("usage recorder failed to send its events at exit")
