"""One recording: starts its processes, drives them through a situation, and keeps every scrape unmodified.

A recording is a folder: `scrapes.jsonl.gz` with a line for each replica and scrape (time, replica, whether it
responded, and the whole text of /metrics), `situation.json` with the marks, and the logs of the processes.
"""

import asyncio
import gzip
import hashlib
import json
import secrets
import shutil
import signal
import time

from processes import Database, Replica, SlowProxy
from traffic import Traffic

# As in prometheus.yaml.
INTERVAL, TIMEOUT = 15, 5
CALLERS = """
[[caller]]
name = "recorder"
roles = ["validator", "sessions", "meter", "reporter", "admin"]
token_sha256 = ["{}"]
"""


class SituationRun:
    """The actions of a situation: wait, set a mark, and switch faults."""

    def __init__(self, situation, folder, binaries, max_minutes=None):
        self.situation, self.folder, self.binaries, self.max_minutes = situation, folder, binaries, max_minutes
        self.marks = {}

    async def __aenter__(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        token = secrets.token_hex(24)
        self.callers = self.folder / "callers.toml"
        self.callers.write_text(CALLERS.format(hashlib.sha256(token.encode()).hexdigest()))
        self.database = Database(self.binaries.database)
        await self.database.start()
        self.proxies = {}
        self.replicas = {}
        for name in "abc"[: self.situation.replicas]:
            port = self.database.port
            if self.situation.proxied:
                self.proxies[name] = SlowProxy(port)
                port = await self.proxies[name].start()
            self.replicas[name] = Replica(name, self.binaries.service, self.folder, port, self.situation.settings)
        try:
            # One after the other: the first creates the schema.
            for replica in self.replicas.values():
                await replica.start()
            self.traffic = Traffic(self.replicas.values(), token)
            await self.traffic.prepare(self.situation.keys)
        except BaseException:
            await self.__aexit__()
            raise
        self.started, self.clock = time.time(), asyncio.get_running_loop().time()
        self.file = gzip.open(self.folder / "scrapes.jsonl.gz", "wt")
        self.scraping = asyncio.create_task(self.scrape())
        return self

    async def __aexit__(self, *_):
        if hasattr(self, "scraping"):
            self.scraping.cancel()
            await asyncio.gather(self.scraping, return_exceptions=True)
            self.file.close()
        if hasattr(self, "traffic"):
            await self.traffic.end()
        await asyncio.gather(*(replica.end() for replica in self.replicas.values()))
        await self.database.end()

    async def scrape(self):
        """Scrapes all replicas every 15 s of the clock, independent of the response times."""
        index = 0
        while True:
            responses = await asyncio.gather(*(replica.get("/metrics", TIMEOUT) for replica in self.replicas.values()))
            for replica, (status, text) in zip(self.replicas.values(), responses, strict=True):
                up = status == 200
                line = {
                    "scrape": index,
                    "at": time.time(),
                    "instance": replica.instance,
                    "up": up,
                    "text": text if up else "",
                }
                self.file.write(json.dumps(line) + "\n")
            self.file.flush()
            index += 1
            await asyncio.sleep(max(0, self.clock + index * INTERVAL - asyncio.get_running_loop().time()))

    async def minutes(self, minutes):
        """Waits for a time, shortened to the maximum of a trial run."""
        await asyncio.sleep(60 * min(minutes, self.max_minutes or minutes))

    def mark(self, name):
        """Names the current time, for the table of expected alerts."""
        self.marks[name] = round(asyncio.get_running_loop().time() - self.clock)
        print(f"{time.strftime('%H:%M:%S')} {self.situation.name}: {name}", flush=True)
        # At each mark: an aborted recording is valid for the phases before it.
        described = {
            "situation": self.situation.name,
            "started": self.started,
            "interval": INTERVAL,
            "marks": self.marks,
        }
        described["codes"] = self.traffic.codes
        (self.folder / "situation.json").write_text(json.dumps(described, indent=2) + "\n")

    async def restart(self, name, signal_number=signal.SIGTERM, *, ready=True):
        """Stops a replica and starts a new process in its place."""
        await self.replicas[name].end(signal_number)
        await self.replicas[name].start(ready=ready)


async def record(situation, folder, binaries, max_minutes=None):
    """Records one situation into its own folder."""
    async with SituationRun(situation, folder / situation.name, binaries, max_minutes) as run:
        run.mark("start")
        run.traffic.start(situation.traffic)
        await situation.script(run)
        run.mark("end")
