"""The service, the application and the proxies of the tests, and the table at the end."""

import os
import sys
import typing
from pathlib import Path

import pytest

# `deploy/check` collects this folder too, without the proxies: these tests are those of `deploy/proxies/check`.
if "PROXIES_UNPACKED" not in os.environ:
    collect_ignore_glob = ["test_*.py"]
else:
    TESTS = Path(__file__).resolve().parents[1]
    sys.path[:0] = [str(TESTS), str(TESTS / "runbooks")]

    from bed import Bed
    from matrix import Matrix
    from proxies import NAMES, Proxy, program_of
    from smuggling import ALONE, SEED, VARIANTS, Run
    from upstream import Upstream

    @pytest.fixture(scope="session")
    def bed(tmp_path_factory):
        """A service without faults."""
        bed = Bed(tmp_path_factory.mktemp("healthy") / "bed")
        try:
            yield bed.start()
        finally:
            bed.end()

    @pytest.fixture(scope="session")
    def application():
        application = Upstream()
        yield application
        application.end()

    @pytest.fixture(scope="session", params=NAMES)
    def proxy(request, tmp_path_factory, bed, application):
        """A proxy in front of a service without faults."""
        require(request.param)
        proxy = Proxy(request.param, tmp_path_factory.mktemp("proxy") / request.param, bed, application.port)
        try:
            yield proxy.start()
        finally:
            proxy.end()

    @pytest.fixture(scope="session")
    def matrix(tmp_path_factory):
        """All situations, through all proxies, with a service of their own: it is gone at the end."""
        folder = tmp_path_factory.mktemp("matrix")
        bed = Bed(folder / "bed")
        matrix = REPORT.matrix = Matrix(bed)
        application = Upstream(matrix.record)
        proxies = [Proxy(name, folder / name, bed, application.port) for name in NAMES if program_of(name)]
        try:
            bed.start()
            yield matrix.run([proxy.start() for proxy in proxies])
        finally:
            for ended in (*proxies, bed, application):
                ended.end()

    @pytest.fixture(scope="session", params=NAMES)
    def fuzzed(request, tmp_path_factory, bed):
        """All attempts to smuggle, through one proxy."""
        require(request.param)
        application = Upstream()
        proxy = Proxy(request.param, tmp_path_factory.mktemp("fuzzed") / request.param, bed, application.port)
        run = Run(proxy, bed, SEED)
        application.record = run.judge
        REPORT.runs.append(run)
        try:
            proxy.start()
            run.all(VARIANTS, ALONE)
            yield run
        finally:
            proxy.end()
            application.end()

    @pytest.fixture(scope="session")
    def install():
        return require

    def require(name):
        """Skips the tests of a proxy that could not be installed, except in CI."""
        if not program_of(name):
            report = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
            report(f"{name} could not be installed")

    class Report:
        """What is printed at the end, also when all tests pass."""

        matrix = None
        runs: typing.ClassVar = []

    REPORT = Report()

    def pytest_terminal_summary(terminalreporter):
        if REPORT.matrix:
            terminalreporter.section("what the client gets (W: WWW-Authenticate, R: Retry-After)")
            for line in REPORT.matrix.table():
                terminalreporter.write_line(line)
        if REPORT.runs:
            terminalreporter.section(f"smuggled identities (seed {SEED})")
            for run in REPORT.runs:
                terminalreporter.write_line(run.line())
