"""Helpers for tests of guarded streams."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from tenant_auth import AsyncClient


class Source:
    """A stream whose items the test sends."""

    def __init__(self) -> None:
        self._items: asyncio.Queue[Any] = asyncio.Queue()
        self.closed = False

    def send(self, item: Any) -> None:
        self._items.put_nowait(item)

    async def stream(self) -> AsyncIterator[Any]:
        try:
            while (item := await self._items.get()) is not None:
                yield item
        finally:
            self.closed = True


def guards_of(client: AsyncClient) -> Any:
    return client._engine.guards
