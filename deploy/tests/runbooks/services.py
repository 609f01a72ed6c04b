"""The processes of a state: a database with injected faults, and replicas of the service."""

import json
import os
import re
import signal
import subprocess
import threading
import time
import urllib.error
import urllib.request

from deployment import PROGRAMS

# Seconds for a start, a stop or an expected change. A machine that builds at the same time is slow.
TIMEOUT = 60
# Set when the tests end, or are terminated: then no thread waits any longer.
TESTS_ENDED = threading.Event()


def wait_until(condition, poll, timeout=TIMEOUT):
    """Polls until the condition holds; the error names the last value seen."""
    deadline, seen = time.monotonic() + timeout, None
    while time.monotonic() < deadline:
        try:
            seen = poll()
        except (OSError, urllib.error.URLError) as error:
            seen = error
        else:
            if seen:
                return seen
        if TESTS_ENDED.wait(0.1):
            raise AssertionError(f"the tests ended before: {condition}")
    raise AssertionError(f"not within {timeout} s: {condition}; last seen: {seen!r}")


class Database:
    """A `hrana-test-server`: takes fault commands on its standard input."""

    def __init__(self, *flags):
        command = [str(PROGRAMS / "hrana-test-server"), "--listen", "127.0.0.1:0", *flags]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.lock = threading.Lock()
        self.url = self.process.stdout.readline().strip()
        self.read_replica_url = self.process.stdout.readline().strip() if "--replica" in flags else None

    def command(self, line):
        """Sends a command, and waits until it has run."""
        with self.lock:
            self.process.stdin.write(line + "\n")
            response = self.process.stdout.readline()
        assert response.startswith("ok"), f"{line}: {response}"
        return json.loads(response[3:] or "true")

    def sql(self, text):
        """Runs statements in the database's own shell; returns the rows as lines."""
        lines = []
        for statement in re.sub(r"--[^\n]*", "", text).split(";"):
            statement = " ".join(statement.split())
            if statement.upper().startswith("SELECT"):
                rows = self.command(f"query {statement}")
                lines += ["|".join(str(cell.get("value")) for cell in row) for row in rows]
            elif statement:
                lines.append(f"{self.command(f'execute {statement}')} rows changed")
        return "\n".join(lines)

    def end(self):
        # Otherwise it waits for its input. It keeps no data.
        self.process.kill()
        self.process.wait(TIMEOUT)


class Replica:
    """A `tenant-auth-svc serve` on the usual ports of its own address."""

    def __init__(self, name, host, folder, variables, program=PROGRAMS / "tenant-auth-svc"):
        self.name, self.host, self.program = name, host, program
        self.variables = {
            "TENANT_AUTH_LISTEN": f"{host}:50051",
            "TENANT_AUTH_OPS_LISTEN": f"{host}:50052",
            "TENANT_AUTH_DRAIN_DELAY": "0s",
            "TENANT_AUTH_LOG_FORMAT": "json",
            "TENANT_AUTH_WORKERS": "1",
        } | variables
        self.log, self.previous = folder / f"{name}.log", folder / f"{name}.previous.log"
        self.process = None

    def start(self):
        if self.log.exists():
            self.log.rename(self.previous)
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("TENANT_AUTH_", "OTEL_"))
        }
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                [str(self.program), "serve"], env=inherited | self.variables, stderr=log, stdout=log
            )
        wait_until(f"{self.name} is alive", lambda: self.check_running() or self.alive())
        return self

    def check_running(self):
        assert self.process.poll() is None, f"{self.name} exited: {self.log.read_text()}"

    def alive(self):
        return self.get("/livez")

    def get(self, path):
        try:
            with urllib.request.urlopen(f"http://{self.host}:50052{path}", timeout=5) as response:
                return response.read().decode()
        except urllib.error.HTTPError as error:
            # A response that says not ready is a response too.
            return error.read().decode()

    def status(self):
        return self.get("/readyz?verbose")

    def wait_for_status(self, *texts):
        """Waits until `/readyz?verbose` contains all of these texts."""

        def poll():
            status = " ".join(self.status().split())
            return all(" ".join(text.split()) in status for text in texts)

        try:
            wait_until(f"{self.name} reports {texts}", poll)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.status()}\n{self.log.read_text()[-3000:]}") from None

    def metric(self, name, **labels):
        """The sum of a metric's series that have these labels; None if there are none."""
        values = []
        for line in self.get("/metrics").splitlines():
            match = re.fullmatch(rf"{name}(?:\{{(.*)\}})? (\S+)", line)
            if match and all(f'{label}="{value}"' in (match[1] or "") for label, value in labels.items()):
                values.append(float(match[2]))
        return sum(values) if values else None

    def wait_for_metric(self, name, condition, **labels):
        """Waits until a metric meets a condition."""

        def poll():
            value = self.metric(name, **labels)
            return value is not None and condition(value)

        try:
            wait_until(f"{self.name} has {name} {labels}", poll)
        except AssertionError as error:
            raise AssertionError(f"{error}; {self.metric(name, **labels)}\n{self.status()}") from None

    def wait_for_log(self, text):
        wait_until(f"{self.name} logs {text!r}", lambda: text in self.log.read_text())

    def end(self, signal_number=signal.SIGINT):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal_number)
            try:
                self.process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
