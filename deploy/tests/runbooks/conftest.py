"""Sets the states up, in parallel, and ends them."""

import collections
import contextlib
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import states_at_night  # noqa: F401  (registers its states)
import states_database  # noqa: F401
import states_expiry  # noqa: F401
import states_limits  # noqa: F401
import states_service  # noqa: F401
import states_synthetic  # noqa: F401
import yaml
from monitoring import Monitoring
from services import TESTS_ENDED
from states import STATES
from testbed import LOOPBACK_NET, Testbed

from chart import render
from deployment import CHART


@pytest.fixture(scope="session")
def monitoring(tmp_path_factory):
    folder = tmp_path_factory.mktemp("monitoring")
    chart = folder / "chart.yaml"
    chart.write_text(yaml.safe_dump_all(render(CHART, "minimal").objects))
    os.environ["RUNBOOK_CHART"] = str(chart)
    monitoring = Monitoring(folder, f"{LOOPBACK_NET}.1")
    try:
        yield monitoring.start(history())
    finally:
        monitoring.end()


def history():
    """The metrics of an hour ago, for the queries that compare with that time."""
    now = int(time.time())
    lines = ["# TYPE grpc_server_handled counter"]
    labels = (
        'job="tenant-auth",namespace="handshakes_failing",grpc_service="tenantauth.v1.ValidationService",'
        'grpc_method="ValidateKey",grpc_code="OK"'
    )
    lines += [
        f"grpc_server_handled_total{{{labels}}} {number * 100} {now - 4200 + number * 30}" for number in range(40)
    ]
    return "\n".join([*lines, "# EOF", ""])


# Started before all others: a replica checks once a minute for missing peppers.
STARTED_FIRST = {"pepper_missing"}


class Testbeds:
    """The states of the selected tests: each is set up once, in the tests' order, and ends after its last test."""

    def __init__(self, folder, monitoring, state_names):
        self.monitoring, self.running, self.lock = monitoring, {}, threading.Lock()
        self.remaining_tests, self.releases = collections.Counter(state_names), []
        # Every running state costs the machine CPU, even without requests.
        self.state_permits = threading.Semaphore(int(os.environ.get("RUNBOOK_STATES_AT_ONCE", "8")))
        self.setup_pool, self.release_pool = ThreadPoolExecutor(max_workers=5), ThreadPoolExecutor(max_workers=4)
        order = sorted(dict.fromkeys(state_names), key=lambda name: name not in STARTED_FIRST)
        self.futures = {name: self.setup_pool.submit(self.set_up, name, folder) for name in order}

    def set_up(self, name, folder):
        self.state_permits.acquire()
        state_folder = folder / name
        state_folder.mkdir()
        testbed = Testbed(name, state_folder)
        with self.lock:
            self.running[name] = testbed
        testbed.placeholders["ALERTMANAGER"] = self.monitoring.alertmanager.url
        testbed.monitoring = self.monitoring
        STATES[name.partition("@")[0]](testbed)
        self.monitoring.scrape(name, [replica.host for replica in testbed.replicas] + testbed.targets)
        return testbed

    @contextlib.contextmanager
    def use(self, name):
        """A state, for one of the tests that need it."""
        try:
            yield self.futures[name].result()
        finally:
            self.remaining_tests[name] -= 1
            if not self.remaining_tests[name]:
                self.releases.append(self.release_pool.submit(self.release, name))

    def release(self, name):
        try:
            self.monitoring.stop_scraping(name)
            with self.lock:
                testbed = self.running.pop(name, None)
            if testbed:
                testbed.end()
        finally:
            self.state_permits.release()

    def end(self):
        """Ends the remaining states, also when the tests were aborted."""
        TESTS_ENDED.set()
        for future in self.futures.values():
            future.cancel()
        used = [name for name, count in self.remaining_tests.items() if count]
        for name in used:
            if self.futures[name].cancelled():
                continue
            self.releases.append(self.release_pool.submit(self.release, name))
        self.setup_pool.shutdown()
        for release in self.releases:
            release.result()
        with self.lock:
            remaining = list(self.running.values())
        for testbed in remaining:
            testbed.end()


@pytest.fixture(scope="session")
def testbeds(request, tmp_path_factory, monitoring):
    specs = [getattr(item, "callspec", None) for item in request.session.items]
    state_names = [spec.params["state"] for spec in specs if spec and "state" in spec.params]
    testbeds = Testbeds(tmp_path_factory.mktemp("states"), monitoring, state_names)
    try:
        yield testbeds
    finally:
        testbeds.end()
