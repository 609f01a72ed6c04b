"""Sets the states up, side by side, and ends them."""

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
    """What Prometheus had an hour ago, for the queries that compare with then."""
    import time

    now = int(time.time())
    lines = ["# TYPE tenant_auth_requests counter"]
    labels = 'job="tenant-auth",namespace="handshakes_failing",rpc="tenantauth.v1.ValidationService/ValidateKey",code="OK"'
    lines += [f"tenant_auth_requests_total{{{labels}}} {number * 100} {now - 4200 + number * 30}" for number in range(40)]
    return "\n".join([*lines, "# EOF", ""])


class Worlds:
    """Every state that the chosen tests need, each set up once."""

    def __init__(self, folder, watching, names):
        self.watching, self.made, self.lock = watching, [], threading.Lock()
        # Each is two processes that mostly wait; setting them up is what costs.
        self.pool = ThreadPoolExecutor(max_workers=int(os.environ.get("RUNBOOK_STATES_AT_ONCE", "6")))
        self.futures = {name: self.pool.submit(self.make, name, folder) for name in names}

    def make(self, name, folder):
        place = folder / name
        place.mkdir()
        world = World(name, place)
        with self.lock:
            self.made.append(world)
        world.words["ALERTMANAGER"] = self.watching.silenced.url
        world.watching = self.watching
        STATES[name.partition("@")[0]](world)
        self.watching.scrape(name, [one.host for one in world.replicas] + world.targets)
        return world

    def end(self):
        self.pool.shutdown(cancel_futures=True)
        with ThreadPoolExecutor(max_workers=8) as pool:
            list(pool.map(World.end, self.made))


@pytest.fixture(scope="session")
def worlds(request, tmp_path_factory, watching):
    wanted = [item.callspec.params["situation"] for item in request.session.items if "situation" in getattr(item, "callspec", Empty).params]
    made = Worlds(tmp_path_factory.mktemp("states"), watching, dict.fromkeys(wanted))
    try:
        yield made
    finally:
        made.end()


class Empty:
    params = {}
