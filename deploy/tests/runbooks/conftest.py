"""Sets the states up, in parallel, and ends them."""

import collections
import contextlib
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import replay  # noqa: F401
import situations  # noqa: F401
import states_database  # noqa: F401  (registers its states)
import states_expiry  # noqa: F401
import states_service  # noqa: F401
from chart import render
from deployment import CHART
from states import STATES
from watching import Watching
from world import NET, World


@pytest.fixture(scope="session")
def watching(tmp_path_factory):
    folder = tmp_path_factory.mktemp("watching")
    chart = folder / "chart.yaml"
    objects = render(CHART, "minimal").objects
    import yaml

    chart.write_text(yaml.safe_dump_all(objects))
    os.environ["RUNBOOK_CHART"] = str(chart)
    one = Watching(folder, f"{NET}.1")
    try:
        yield one.start(history())
    finally:
        one.end()


def history():
    """The metrics of an hour ago, for the queries that compare with that time."""
    import time

    now = int(time.time())
    lines = ["# TYPE grpc_server_handled counter"]
    labels = 'job="tenant-auth",namespace="handshakes_failing",grpc_service="tenantauth.v1.ValidationService",grpc_method="ValidateKey",grpc_code="OK"'
    lines += [f"grpc_server_handled_total{{{labels}}} {number * 100} {now - 4200 + number * 30}" for number in range(40)]
    return "\n".join([*lines, "# EOF", ""])


# Started before all others: a replica checks once a minute for missing peppers.
SLOW = {"pepper_missing"}


class Worlds:
    """Every state that the selected tests need, each set up once, in the order of the tests, and ended after its last test."""

    def __init__(self, folder, watching, wanted):
        self.watching, self.made, self.lock = watching, {}, threading.Lock()
        self.uses, self.ending = collections.Counter(wanted), []
        # Every running state costs the machine CPU, even without requests.
        self.room = threading.Semaphore(int(os.environ.get("RUNBOOK_STATES_AT_ONCE", "8")))
        self.pool, self.enders = ThreadPoolExecutor(max_workers=5), ThreadPoolExecutor(max_workers=4)
        order = sorted(dict.fromkeys(wanted), key=lambda name: name not in SLOW)
        self.futures = {name: self.pool.submit(self.make, name, folder) for name in order}

    def make(self, name, folder):
        self.room.acquire()
        place = folder / name
        place.mkdir()
        world = World(name, place)
        with self.lock:
            self.made[name] = world
        world.words["ALERTMANAGER"] = self.watching.silenced.url
        world.watching = self.watching
        STATES[name.partition("@")[0]](world)
        self.watching.scrape(name, [one.host for one in world.replicas] + world.targets)
        return world

    @contextlib.contextmanager
    def at(self, name):
        """A state, for one of the tests that need it."""
        try:
            yield self.futures[name].result()
        finally:
            self.uses[name] -= 1
            if not self.uses[name]:
                self.ending.append(self.enders.submit(self.leave, name))

    def leave(self, name):
        try:
            self.watching.forget(name)
            with self.lock:
                world = self.made.pop(name, None)
            if world:
                world.end()
        finally:
            self.room.release()

    def end(self):
        """Ends the remaining states, also when the tests were aborted."""
        for future in self.futures.values():
            future.cancel()
        for name in [name for name, count in self.uses.items() if count and not self.futures[name].cancelled()]:
            self.ending.append(self.enders.submit(self.leave, name))
        self.pool.shutdown()
        for ending in self.ending:
            ending.result()
        with self.lock:
            left = list(self.made.values())
        for world in left:
            world.end()


@pytest.fixture(scope="session")
def worlds(request, tmp_path_factory, watching):
    wanted = [item.callspec.params["situation"] for item in request.session.items if "situation" in getattr(item, "callspec", Empty).params]
    made = Worlds(tmp_path_factory.mktemp("states"), watching, wanted)
    try:
        yield made
    finally:
        made.end()


class Empty:
    params = {}
