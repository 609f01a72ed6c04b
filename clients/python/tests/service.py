"""Runs the real service in subprocesses."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fake import EVENT_TIMEOUT

BINARY = os.environ.get("TENANT_AUTH_SVC_BIN")
STARTUP_LINE = re.compile(r"^\s+(endpoint|tenant|key)\s+(\S+)")


CALLER = """
[[caller]]
name = "tests"
roles = ["validator", "meter"]
token_sha256 = [{hashes}]
dns = ["client.test"]
"""


@dataclass(frozen=True)
class Service:
    endpoint: str
    tenant: str
    key: str


@contextlib.contextmanager
def dev(folder: Path) -> Iterator[Service]:
    """`tenant-auth-svc dev` with its own database, once it is ready."""
    if not BINARY:
        pytest.skip("TENANT_AUTH_SVC_BIN names no tenant-auth-svc: NOTHING IS TESTED AGAINST THE REAL SERVICE")
    command = [BINARY, "dev", "--data-dir", str(folder), "--listen", "127.0.0.1:0"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            printed: dict[str, str] = {}
            for line in process.stdout:
                if match := STARTUP_LINE.match(line):
                    printed[match[1]] = match[2]
                if len(printed) == 3:
                    break
            assert len(printed) == 3, (folder / "log").read_text()
            yield Service(printed["endpoint"], printed["tenant"], printed["key"])
        finally:
            process.kill()


class Replica:
    """One `tenant-auth-svc serve` process. It starts when it is created."""

    def __init__(self, folder: Path, listen: str, **environment: str) -> None:
        self._log = folder / f"log-{time.monotonic_ns()}"
        command = [str(BINARY), "serve", "--listen", listen, "--database-url", f"file:{folder}/dev.db"]
        # The service rejects unknown variables with its prefix.
        given = {name: value for name, value in os.environ.items() if not name.startswith("TENANT_AUTH_")}
        own = {"TENANT_AUTH_OPS_LISTEN": "127.0.0.1:0", "TENANT_AUTH_LOG_FORMAT": "json"}
        variables = given | own | environment
        with self._log.open("w") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, env=variables)
        self.endpoint: str = self._until("serving")["address"]
        self._until("ready")

    @property
    def port(self) -> int:
        return int(self.endpoint.rpartition(":")[2])

    def hang(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def terminate(self) -> None:
        """Stops the service gracefully, as a deployment does."""
        self.process.terminate()
        self.process.wait()

    def kill(self) -> None:
        self.resume()
        self.process.kill()
        self.process.wait()

    def _until(self, beginning: str) -> dict[str, Any]:
        """Returns the first log entry whose message starts with this text."""
        for _ in range(int(EVENT_TIMEOUT / 0.02)):
            for line in self._log.read_text().splitlines():
                with contextlib.suppress(ValueError):
                    entry = json.loads(line)
                    if str(entry.get("message", "")).startswith(beginning):
                        return dict(entry)
            assert self.process.poll() is None, self._log.read_text()
            time.sleep(0.02)
        raise AssertionError(self._log.read_text())


class Fleet:
    """Replicas with the same tenant and key. Each has a copy of one database, because an embedded database belongs to
    one process.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._replicas: list[Replica] = []
        (folder / "first").mkdir()
        with dev(folder / "first") as service:
            self.tenant, self.key = service.tenant, service.key

    def start(self, listen: str = "127.0.0.1:0", **environment: str) -> Replica:
        folder = self._folder / f"copy-{time.monotonic_ns()}"
        shutil.copytree(self._folder / "first", folder)
        replica = Replica(folder, listen, **environment)
        self._replicas.append(replica)
        return replica

    def stop(self) -> None:
        for replica in self._replicas:
            replica.kill()


@contextlib.contextmanager
def fleet_in(folder: Path) -> Iterator[Fleet]:
    fleet = Fleet(folder)
    try:
        yield fleet
    finally:
        fleet.stop()


def callers(folder: Path, *tokens: str) -> str:
    """A callers file with these tokens and the certificate of client.test."""
    hashes = ", ".join(f'"{hashlib.sha256(token.encode()).hexdigest()}"' for token in tokens)
    (folder / "callers.toml").write_text(CALLER.format(hashes=hashes))
    return str(folder / "callers.toml")
