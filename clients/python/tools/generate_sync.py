"""Generates the client for threads from the one for asyncio, with unasync and ruff.

The folder to write to may be given as an argument.
"""

from __future__ import annotations

import argparse
import ast
import subprocess
import sys
import tempfile
from pathlib import Path

import unasync

HERE = Path(__file__).resolve().parent.parent
PACKAGE = HERE / "src" / "tenant_auth"
GENERATED = {
    "async_client.py": "client.py",
    "async_local_limiter.py": "local_limiter.py",
    "async_recorder.py": "recorder.py",
    "async_reservation.py": "reservation.py",
    "async_verifier.py": "verifier.py",
    "_async_limit_calls.py": "_limit_calls.py",
}
"""The generated modules by their sources."""
NAMES = {
    "AsyncClient": "Client",
    "AsyncEngine": "Engine",
    "AsyncLimitCalls": "LimitCalls",
    "AsyncLocalLimiter": "LocalLimiter",
    "AsyncPrincipalVerifier": "PrincipalVerifier",
    "AsyncProgress": "Progress",
    "AsyncRaw": "Raw",
    "AsyncReservation": "Reservation",
    "AsyncSend": "Send",
    "AsyncUsageRecorder": "UsageRecorder",
    "AsyncWorker": "Worker",
    "_async_engine": "_engine",
    "_async_limit_calls": "_limit_calls",
    "_async_worker": "_worker",
    "async_local_limiter": "local_limiter",
    "async_recorder": "recorder",
    "async_reservation": "reservation",
    "async_verifier": "verifier",
}
"""Besides the names of the standard library, which unasync knows. Docstrings and comments do not change."""
WITHOUT_TWIN = {"guard"}
"""Methods that only make sense in an event loop: a thread that waits for an item cannot be interrupted."""
HEADER = "# Generated from {source} by tools/generate_sync.py. Do not edit.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=PACKAGE)
    folder: Path = parser.parse_args().folder
    with tempfile.TemporaryDirectory() as made:
        rule = unasync.Rule(f"{made}/", f"{made}/", NAMES)
        for source, target in GENERATED.items():
            Path(made, source).write_text(with_twin(PACKAGE / source))
            unasync.unasync_files([str(Path(made, source))], [rule])
            text = HEADER.format(source=source) + Path(made, source).read_text()
            (folder / target).write_text(formatted(text, PACKAGE / target))


def with_twin(path: Path) -> str:
    """Returns a module without the methods that have no twin."""
    text = path.read_text()
    lines = text.splitlines(keepends=True)
    methods = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef)]
    for method in (method for method in methods if method.name in WITHOUT_TWIN):
        lines[method.lineno - 1 : method.end_lineno] = [""] * ((method.end_lineno or 0) - method.lineno + 1)
    return "".join(lines)


def formatted(text: str, path: Path) -> str:
    """Formats a module as this package is formatted, because its names have other lengths and another order."""
    for command in (["check", "--select", "F401,I", "--fix", "--quiet"], ["format", "--quiet"]):
        ruff = [sys.executable, "-m", "ruff", *command, "--stdin-filename", str(path), "-"]
        text = subprocess.run(ruff, cwd=HERE, input=text, check=True, capture_output=True, text=True).stdout
    return text


if __name__ == "__main__":
    main()
