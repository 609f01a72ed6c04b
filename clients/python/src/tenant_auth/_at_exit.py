"""Recorders that nobody closed: what they hold is sent when the process exits."""

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
"""How long an exit may wait for what is left, in seconds."""

Send = Callable[[Sequence[UsageEvent], str, float], Awaitable[UsageReceipt]]
Reopened = Callable[[], AbstractAsyncContextManager[Send]]
"""Another client of the same kind, where the first one is closed or its event loop is gone."""
Finish = Callable[[], Sequence[UnsentUsage]]

lock = threading.Lock()
recorders: dict[int, tuple[int, Finish]] = {}


def register(recorder: object, finish: Finish) -> None:
    """`finish` sends what is left and returns what could not be sent. Not in a fork: its copy is not its own."""
    with lock:
        recorders[id(recorder)] = (os.getpid(), finish)


def forget(recorder: object) -> None:
    """It was closed."""
    with lock:
        recorders.pop(id(recorder), None)


def send(unsent: Sequence[UnsentUsage], reopened: Reopened) -> list[UnsentUsage]:
    """Sends what is left through another client. What may have arrived keeps its request id, so it counts once."""
    return asyncio.run(send_each(unsent, reopened)) if unsent else []


async def send_each(unsent: Sequence[UnsentUsage], reopened: Reopened) -> list[UnsentUsage]:
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
        log.warning("%d usage events were not recorded and are lost; the last error: %s", count, unsent[-1].error)


@atexit.register
def finish_all() -> None:
    with lock:
        left = [finish for pid, finish in recorders.values() if pid == os.getpid()]
        recorders.clear()
    for finish in left:
        try:
            warn_unsent(finish())
        except Exception:
            log.exception("a usage recorder could not send what it holds at the exit of the process")
