"""The real service, as a subprocess."""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

BINARY = os.environ.get("TENANT_AUTH_SVC_BIN")
ANNOUNCED = re.compile(r"^\s+(endpoint|tenant|key)\s+(\S+)")


@dataclass(frozen=True)
class Service:
    endpoint: str
    tenant: str
    key: str


@contextlib.contextmanager
def dev(folder: Path) -> Iterator[Service]:
    """`tenant-auth-svc dev` with a database of its own, once it is ready."""
    if not BINARY:
        pytest.skip("TENANT_AUTH_SVC_BIN names no tenant-auth-svc: NOTHING IS TESTED AGAINST THE REAL SERVICE")
    command = [BINARY, "dev", "--data-dir", str(folder), "--listen", "127.0.0.1:0"]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True) as process,
    ):
        try:
            assert process.stdout is not None
            facts: dict[str, str] = {}
            for line in process.stdout:
                if match := ANNOUNCED.match(line):
                    facts[match[1]] = match[2]
                if len(facts) == 3:
                    break
            assert len(facts) == 3, (folder / "log").read_text()
            yield Service(facts["endpoint"], facts["tenant"], facts["key"])
        finally:
            process.kill()
