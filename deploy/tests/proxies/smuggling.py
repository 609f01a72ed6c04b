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
        start = time.monotonic()
        asyncio.run(self.send_all(variants, alone))
        self.seconds = time.monotonic() - start

    async def send_all(self, variants, alone):
        packed = iter(self.packed(variants - alone))
        single = iter(self.single(alone))
        senders = [self.send_packed(packed) for _ in range(CONNECTIONS)]
        senders += [self.send_single(single) for _ in range(CONNECTIONS)]
        await asyncio.gather(*senders)

    def packed(self, variants):
        while self.variants["packed"] < variants:
            attempt = self.generator.packed()
            self.variants["packed"] += attempt.variants
            yield attempt

    def single(self, variants):
        while self.variants["alone"] < variants:
            attempt = self.generator.alone()
            self.variants["alone"] += attempt.variants
            yield attempt

    def kinds(self):
        """With a key; without; and a preflight, which passes without."""
        return itertools.cycle(
            [("key", self.key, None), ("none", "", None), ("key", self.key, None), ("none", PREFLIGHT, "OPTIONS")]
        )

    def request(self, attempt, kind):
        name, own, method = kind
        form = "http://shop.example" if self.generator.random.random() < 0.1 else ""
        first = f"{method or attempt.method} {form}/{name}{attempt.target} HTTP/1.1\r\nHost: shop.example\r\n"
        # Whatever comes first or last.
        parts = [own, attempt.lines] if self.generator.random.random() < 0.5 else [attempt.lines, own]
        return (first + "".join(parts) + "\r\n" + attempt.end).encode("latin-1")

    async def send_packed(self, attempts):
        kinds, streams = self.kinds(), None
        for attempt in attempts:
            kind = next(kinds)
            streams = streams or await asyncio.open_connection("127.0.0.1", self.proxy.port)
            status, keep = await exchange(*streams, self.request(attempt, kind))
            self.statuses["packed", kind[0], kind[2], status] += 1
            if not keep:
                streams[1].close()
                streams = None

    async def send_single(self, attempts):
        kinds = self.kinds()
        for attempt in attempts:
            kind = next(kinds)
            reader, writer = await asyncio.open_connection("127.0.0.1", self.proxy.port)
            status, _ = await exchange(reader, writer, self.request(attempt, kind))
            self.statuses["alone", kind[0], kind[2], status] += 1
            writer.close()

    def line(self):
        """For the summary."""
        total = sum(self.variants.values())
        return f"{self.proxy.name:8} {total:,} variants in {self.seconds:.1f} s; {self.arrived:,} requests arrived, {len(self.wrong)} wrong"


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
