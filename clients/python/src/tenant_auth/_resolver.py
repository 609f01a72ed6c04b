"""Repeated DNS lookups: the addresses of a name change over time."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable

from ._endpoints import Endpoint

REFRESH_INTERVAL = 30.0
"""Maximum time between two lookups of a name, in seconds."""
MIN_LOOKUP_INTERVAL = 1.0
"""Minimum time between two lookups, even if connections fail."""
MAX_RETRY_DELAY = 5.0
"""Maximum delay while a name does not resolve."""


async def lookup(host: str, port: int) -> list[str]:
    """Returns the addresses of a name, in the system's order."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except RuntimeError:
        # The process is exiting and its thread pool is gone. A blocking lookup delays nothing else.
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class Lookups:
    """Keeps the addresses of one name up to date."""

    def __init__(
        self, endpoint: Endpoint, on_lookup: Callable[[list[str]], None], has_unconnected: Callable[[], bool]
    ) -> None:
        self.endpoint = endpoint
        self.failure: str | None = None
        """Why there are no addresses yet; `None` during the first lookup, and when there are some."""
        self._on_lookup = on_lookup
        self._has_unconnected = has_unconnected
        self._lookup_requested = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    def request_lookup(self) -> None:
        """Requests a lookup, because a connection failed and the name may have other addresses now."""
        self._lookup_requested.set()

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        failures = 0
        while True:
            self._lookup_requested.clear()
            try:
                addresses = await lookup(self.endpoint.host, self.endpoint.port)
            except (OSError, UnicodeError) as error:
                addresses, self.failure = [], f"{self.endpoint.host} cannot be looked up: {error}"
            else:
                self.failure = None if addresses else f"{self.endpoint.host} has no addresses"
            failures = 0 if addresses else failures + 1
            self._on_lookup(addresses)
            await asyncio.sleep(lookup_delay(failures))
            if not failures:
                # While one of the addresses cannot be connected to, the name may have a new one.
                timeout = MAX_RETRY_DELAY if self._has_unconnected() else REFRESH_INTERVAL
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(timeout - MIN_LOOKUP_INTERVAL):
                        await self._lookup_requested.wait()


def lookup_delay(failures: int) -> float:
    """Returns the delay before the next lookup after this number of consecutive failures."""
    return float(min(MAX_RETRY_DELAY, MIN_LOOKUP_INTERVAL * 2 ** max(0, min(failures, 8) - 1)))
