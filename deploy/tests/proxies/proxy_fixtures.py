"""The service, the application and the proxies of the tests, and the tables at the end."""

import pytest

from bed import Bed
from matrix import Matrix
from proxies import NAMES, Proxy, program_of, require
from smuggling import ALONE, SEED, VARIANTS, Run
from upstream import Upstream


class Report:
    """What is printed at the end, also when all tests pass."""

    def __init__(self):
        self.matrix, self.runs = None, []

    def pytest_terminal_summary(self, terminalreporter):
        if self.matrix:
            terminalreporter.section("what the client gets (W: WWW-Authenticate, R: Retry-After)")
            for line in self.matrix.table():
                terminalreporter.write_line(line)
        if self.runs:
            terminalreporter.section(f"smuggled identities (seed {SEED})")
            for run in self.runs:
                terminalreporter.write_line(run.line())


def pytest_configure(config):
    config.pluginmanager.register(Report(), "report")


@pytest.fixture(scope="session")
def report(pytestconfig):
    return pytestconfig.pluginmanager.get_plugin("report")


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
def matrix(tmp_path_factory, report):
    """All situations, through all proxies, with a service of their own: it is gone at the end."""
    folder = tmp_path_factory.mktemp("matrix")
    bed = Bed(folder / "bed")
    matrix = report.matrix = Matrix(bed)
    application = Upstream(matrix.record)
    proxies = [Proxy(name, folder / name, bed, application.port) for name in NAMES if program_of(name)]
    try:
        bed.start()
        yield matrix.run([proxy.start() for proxy in proxies])
    finally:
        for ended in (*proxies, bed, application):
            ended.end()


@pytest.fixture(scope="session", params=NAMES)
def fuzzed(request, tmp_path_factory, bed, report):
    """All attempts to smuggle, through one proxy."""
    require(request.param)
    application = Upstream()
    proxy = Proxy(request.param, tmp_path_factory.mktemp("fuzzed") / request.param, bed, application.port)
    run = Run(proxy, bed, SEED)
    report.runs.append(run)
    try:
        proxy.start()
        application.record = run.judge
        run.all(VARIANTS, ALONE)
        yield run
    finally:
        proxy.end()
        application.end()
