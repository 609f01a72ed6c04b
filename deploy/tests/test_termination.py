"""A terminated test run leaves no process behind."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

WAITING = """\
import pathlib
import subprocess
import time

import pytest


@pytest.fixture
def service():
    with subprocess.Popen(["sleep", "300"]) as process:
        pathlib.Path(__file__).with_name("pid").write_text(f"{process.pid}\\n")
        try:
            yield
        finally:
            process.kill()


def test_waiting(service):
    time.sleep(300)
"""


def test_sigterm_stops_the_processes_of_fixtures(tmp_path):
    (tmp_path / "test_waiting.py").write_text(WAITING)
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "termination", tmp_path]
    with subprocess.Popen(command, cwd=Path(__file__).parent, stdout=subprocess.DEVNULL) as tests:
        pid = started_process(tmp_path / "pid")
        tests.terminate()
        assert tests.wait(60) == pytest.ExitCode.INTERRUPTED
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def started_process(file):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        if file.exists() and (text := file.read_text()).endswith("\n"):
            return int(text)
        time.sleep(0.1)
    raise AssertionError("the fixture did not start its process")
