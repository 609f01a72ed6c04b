"""Sends every situation through every proxy, and keeps what became of it."""

import itertools
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from browser import Response, send
from proxies import NAMES, require
from situations import SITUATIONS
from upstream import Received

NUMBERS = itertools.count()


@dataclass
class Outcome:
    """What the client got, and what the application saw; None if the request did not reach it."""

    proxy: str
    response: Response
    seen: Received | None
    seconds: float

    def cell(self):
        """For the table."""
        code, headers = self.response.code(), self.response.headers
        marks = [mark for mark, name in (("W", "www-authenticate"), ("R", "retry-after")) if name in headers]
        parts = [str(self.response.status), code or ("application" if self.seen else "-"), "".join(marks)]
        return " ".join(part for part in parts if part)


class Matrix:
    """All outcomes, by proxy and situation."""

    def __init__(self, bed):
        self.bed, self.outcomes = bed, {}
        self.received, self.lock = {}, threading.Lock()
        # Keys that no cache knows, two for each proxy.
        self.not_cached = []

    def record(self, received):
        for number in received.values("x-number"):
            self.received[number] = received

    def run(self, proxies):
        self.not_cached = [self.bed.issue()[1] for _ in range(2 * len(proxies))]
        with ThreadPoolExecutor(len(proxies)) as pool:
            for situation in SITUATIONS:
                self.set_up(situation.fault)
                list(pool.map(lambda proxy, situation=situation: self.send(proxy, situation), proxies))
        return self

    def set_up(self, fault):
        match fault:
            case "database hung":
                self.bed.database.command("fault all hang")
            case "database gone":
                self.bed.database.command("stop")
            case "service slow":
                self.bed.pause_service()
            case "service continued":
                self.bed.continue_service()
            case "service gone":
                self.bed.replica.end(signal.SIGKILL)

    def send(self, proxy, situation):
        keys = {name: secret for name, (_, secret) in self.bed.keys.items()}
        if situation.key == "not cached":
            with self.lock:
                keys["not cached"] = self.not_cached.pop()
        number, start = str(next(NUMBERS)), time.monotonic()
        response = send(proxy.port, situation.path, [*situation.headers(keys), ("X-Number", number)])
        outcome = Outcome(proxy.name, response, self.received.get(number), time.monotonic() - start)
        self.outcomes[proxy.name, situation.name] = outcome

    def of(self, name, situation):
        """The outcome behind a proxy."""
        require(name)
        return self.outcomes[name, situation.name]

    def table(self):
        """One line for each situation, one column for each proxy."""
        names = [name for name in NAMES if (name, SITUATIONS[0].name) in self.outcomes]
        rows = [["", *names]]
        for situation in SITUATIONS:
            outcomes = [self.outcomes.get((name, situation.name)) for name in names]
            rows.append([situation.name, *(outcome.cell() if outcome else "" for outcome in outcomes)])
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
