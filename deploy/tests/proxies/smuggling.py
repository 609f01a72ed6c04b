"""Sends attempts through a proxy, and judges what arrives at the application."""

import asyncio
import collections
import contextlib
import itertools
import os
import re
import time

from identity import differences
from variants import Generator

# Another seed makes other variants.
SEED = int(os.environ.get("PROXIES_SEED", "1"))
# For each proxy; and how many of them on connections of their own.
VARIANTS, ALONE = 100_000, 4_000
CONNECTIONS = 6
PREFLIGHT = "Origin: https://shop.example\r\nAccess-Control-Request-Method: GET\r\n"
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


class Run:
    """All attempts through one proxy."""

    def __init__(self, proxy, bed, seed):
        self.proxy, self.bed, self.generator = proxy, bed, Generator(seed)
        self.key = f"Authorization: Bearer {bed.secret('valid')}\r\n"
        self.variants, self.seconds = collections.Counter(), 0.0
        self.arrived, self.statuses, self.wrong = 0, collections.Counter(), []

    # --- At the application

    def judge(self, received):
        """Called with each request that reaches the application. Its path says whether it has a key."""
        self.arrived += 1
        path = received.target.partition("shop.example")[2] or received.target
        key = "valid" if path.startswith("/key") else None
        found = differences(received, self.bed, key)
        if not path.startswith(("/key", "/none")):
            found.append("a request that was not sent")
        if found:
            self.wrong.append((found, received))

    # --- At the client

    def all(self, variants, alone):
        """Generates all requests first, so that their order does not depend on how fast the proxy answers."""
        start = time.monotonic()
        packed = list(self.requests("packed", self.generator.packed, variants - alone))
        single = list(self.requests("alone", self.generator.alone, alone))
        asyncio.run(self.send_all(iter(packed), iter(single)))
        self.seconds = time.monotonic() - start

    def requests(self, kind, generate, variants):
        """Requests with a key, without, and preflights, which pass without one."""
        senders = itertools.cycle(
            [("key", self.key, None), ("none", "", None), ("key", self.key, None), ("none", PREFLIGHT, "OPTIONS")]
        )
        while self.variants[kind] < variants:
            attempt = generate()
            self.variants[kind] += attempt.variants
            sender = next(senders)
            yield (kind, sender[0], sender[2]), self.request(attempt, *sender)

    def request(self, attempt, path, own, method):
        form = "http://shop.example" if self.generator.random.random() < 0.1 else ""
        first = f"{method or attempt.method} {form}/{path}{attempt.target} HTTP/1.1\r\nHost: shop.example\r\n"
        # Whatever comes first or last.
        parts = [own, attempt.lines] if self.generator.random.random() < 0.5 else [attempt.lines, own]
        return (first + "".join(parts) + "\r\n" + attempt.end).encode("latin-1")

    async def send_all(self, packed, single):
        senders = [self.send_packed(packed) for _ in range(CONNECTIONS)]
        senders += [self.send_single(single) for _ in range(CONNECTIONS)]
        await asyncio.gather(*senders)

    async def send_packed(self, requests):
        streams = None
        for sender, request in requests:
            streams = streams or await asyncio.open_connection("127.0.0.1", self.proxy.port)
            status, keep = await exchange(*streams, request)
            self.statuses[*sender, status] += 1
            if not keep:
                streams[1].close()
                streams = None

    async def send_single(self, requests):
        for sender, request in requests:
            reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy.port)
            status, _ = await exchange(reader, writer, request)
            self.statuses[*sender, status] += 1
            writer.close()

    def line(self):
        """For the summary."""
        total = sum(self.variants.values())
        sent = f"{self.proxy.name:8} {total:,} variants in {self.seconds:.1f} s"
        return f"{sent}; {self.arrived:,} requests arrived, {len(self.wrong)} of them wrong"


async def exchange(reader, writer, request):
    """Sends a request; returns its status, 0 if there is none, and whether the connection can be used again."""
    with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError, asyncio.LimitOverrunError):
        async with asyncio.timeout(3):
            writer.write(request)
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            length = LENGTH.search(head)
            await reader.readexactly(int(length[1]) if length else 0)
            return int(head.split(b" ", 2)[1]), bool(length) and b"onnection: close" not in head
    return 0, False
