"""With `TENANT_AUTH_ENVOY_ERROR_RESPONSE`, Envoy counts undecided requests as errors, and the client gets the same."""

import copy
import re
import signal
import urllib.request
from collections import Counter

import pytest

from bed import Bed
from browser import TIMEOUT, bearer, send
from identity import check_identity
from proxies import Proxy, free_port, require
from upstream import seen

# Envoy counts for its listener, and for the cluster that the request was meant for.
COUNTER = re.compile(r"^(?:http\.door|cluster\.app)\.ext_authz\.(ok|denied|error): (\d+)$", re.MULTILINE)


@pytest.fixture(scope="module")
def erring(tmp_path_factory):
    """A service that says `error_response`, for this file alone: its database is gone at the end."""
    require("envoy")
    bed = Bed(tmp_path_factory.mktemp("erring") / "bed", TENANT_AUTH_ENVOY_ERROR_RESPONSE="true")
    try:
        yield bed.start()
    finally:
        bed.end()


@pytest.fixture
def envoy(tmp_path, erring, application):
    """Starts Envoy, with its address for administration."""
    started = []

    def start(edit=lambda text: text, token=erring.proxy_token):
        asking = copy.copy(erring)
        asking.proxy_token = token
        started.append(Envoy(tmp_path / "envoy", asking, application.port, edit))
        return started[0].start()

    yield start
    for one in started:
        one.end()


class Envoy(Proxy):
    """An Envoy that shows its counters."""

    def __init__(self, folder, bed, app_port, edit):
        self.admin = free_port()
        address = f"{{address: 127.0.0.1, port_value: {self.admin}}}"
        super().__init__(
            "envoy",
            folder,
            bed,
            app_port,
            lambda text: f"admin: {{address: {{socket_address: {address}}}}}\n{edit(text)}",
        )

    def counted(self):
        """How often it has counted each outcome."""
        counts = Counter()
        with urllib.request.urlopen(f"http://127.0.0.1:{self.admin}/stats?filter=ext_authz", timeout=TIMEOUT) as stats:
            for outcome, count in COUNTER.findall(stats.read().decode()):
                counts[outcome] += int(count)
        return counts

    def ask(self, *headers, path="/orders"):
        """Sends a request; returns the response, and how it was counted."""
        before = self.counted()
        response = send(self.port, path, headers)
        return response, dict(self.counted() - before)


def check(response, code, detail=""):
    """Checks a 503: each of its headers is there once."""
    assert (response.status, response.code()) == (503, code)
    assert detail in response.json()["detail"]
    for name in ("retry-after", "cache-control", "content-type", "content-length"):
        assert len(response.headers.get_all(name)) == 1, (name, response.headers)
    assert "www-authenticate" not in response.headers


def test_decided_requests_are_no_errors(envoy, erring):
    envoy = envoy()
    response, counted = envoy.ask(bearer(erring.secret("valid")))
    check_identity(seen(response), erring, "valid")
    assert counted == {"ok": 2}
    response, counted = envoy.ask(bearer(erring.secret("revoked")))
    assert (response.status, response.code()) == (401, "REVOKED")
    assert counted == {"denied": 2}


def test_a_misspelt_setting_keeps_its_code(envoy, erring):
    envoy = envoy(lambda text: text.replace('scopes: "billing', 'scope: "billing'))
    response, _ = envoy.ask(bearer(erring.secret("valid")), path="/billing/")
    check(response, "PROXY_MISCONFIGURED")


def test_an_unknown_token_keeps_its_code(envoy, erring):
    response, _ = envoy(token="tac_wrong").ask(bearer(erring.secret("valid")))
    check(response, "UNKNOWN_CALLER")


def test_undecided_is_an_error_of_the_service(envoy, erring):
    """From here on, the database stays away, as in the matrix."""
    envoy, key = envoy(), erring.issue()[1]
    erring.database.command("fault all hang")
    response, counted = envoy.ask(bearer(key))
    check(response, "UNDECIDED", "The key cannot be checked now.")
    assert counted == {"error": 2}


def test_without_an_answer_envoy_has_its_own(envoy, erring):
    envoy, key = envoy(), bearer(erring.secret("valid"))
    erring.pause_service()
    try:
        slow = envoy.ask(key)
    finally:
        erring.continue_service()
    erring.replica.end(signal.SIGKILL)
    for response, counted in (slow, envoy.ask(key)):
        check(response, "UNDECIDED", "The key could not be checked. Repeat the request.")
        assert counted == {"error": 2}
