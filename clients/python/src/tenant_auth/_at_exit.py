"""Sends the events of recorders that were not closed when the process exits."""

from __future__ import annotations

import asyncio
import atexit
import logging
import os
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from .errors import TenantAuthError
from .usage import UnsentUsage, UsageEvent, UsageReceipt

log = logging.getLogger("tenant_auth")

EXIT_TIMEOUT = 3.0
"""Maximum time that an exit waits for sending the remaining events, in seconds."""

Send = Callable[[Sequence[UsageEvent], str, float], Awaitable[UsageReceipt]]
ClientFactory = Callable[[], AbstractAsyncContextManager[Send]]
"""Opens another client of the same kind, for when the first one is closed or its event loop is gone."""
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


def send(unsent: Sequence[UnsentUsage], reopened: ClientFactory) -> list[UnsentUsage]:
    """Sends the remaining events through another client. A batch that may have arrived keeps its request id, so it
    counts once.
    """
    return asyncio.run(send_each(unsent, reopened)) if unsent else []


async def send_each(unsent: Sequence[UnsentUsage], reopened: ClientFactory) -> list[UnsentUsage]:
    left: list[UnsentUsage] = []
    end = time.monotonic() + EXIT_TIMEOUT
    async with reopened() as client:
        for batch in unsent:
            try:
                await client(batch.events, batch.request_id, max(0.1, end - time.monotonic()))
            except TenantAuthError as error:
                left.append(replace(batch, error=error))
    return left


def warn_unsent(unsent: Sequence[UnsentUsage]) -> None:
    if unsent:
        count = sum(len(batch.events) for batch in unsent)
        log.warning("usage events lost: %d; last error: %s", count, unsent[-1].error)


@atexit.register
def finish_all() -> None:
    with lock:
        left = [finish for pid, finish in recorders.values() if pid == os.getpid()]
        recorders.clear()
    for finish in left:
        try:
            warn_unsent(finish())
        except Exception:
            log.exception("usage recorder failed to send its events at exit")
