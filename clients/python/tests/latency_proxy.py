"""A TCP proxy that adds latency between a client and a replica."""

from __future__ import annotations

import asyncio
import contextlib
import threading


class LatencyProxy:
    """Forwards all data to a port, each byte half a round trip later. Connecting takes a round trip too."""

    def __init__(self, port: int, round_trip: float) -> None:
        self._port = port
        self._half = round_trip / 2
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        start = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(start, self._loop).result()
        self.endpoint = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def close(self) -> None:
        asyncio.run_coroutine_threadsafe(self._stop(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _stop(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2 * self._half)
        replica_reader, replica_writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            await asyncio.gather(self._forward(reader, replica_writer), self._forward(replica_reader, writer))
        finally:
            writer.close()
            replica_writer.close()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65_536):
                loop.call_later(self._half, send, writer, data)
        loop.call_later(self._half, writer.close)


def send(writer: asyncio.StreamWriter, data: bytes) -> None:
    if not writer.is_closing():
        writer.write(data)
