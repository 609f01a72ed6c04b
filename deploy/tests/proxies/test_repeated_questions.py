"""How often a proxy asks about one request if its question gets no answer."""

import copy
import time

import pytest

from browser import bearer, send
from proxies import NAMES, Proxy, free_port, require
from relay import Relay

# How often a proxy asks if a connection fails before the answer: one that it has kept, or a new one.
QUESTIONS = {"envoy": (1, 1), "nginx": (2, 1), "caddy": (2, 1), "traefik": (2, 1), "haproxy": (2, 2)}
# Seconds after the response in which a proxy might still ask.
AFTERWARDS = 1


@pytest.fixture
def asking(tmp_path, bed, application):
    """Starts a proxy with a relay between it and the service."""
    started = []

    def start(name, edit=lambda text: text):
        require(name)
        relay = Relay(bed.grpc if name == "envoy" else bed.forward)
        started.append(relay)
        relayed = copy.copy(bed)
        relayed.grpc = relayed.forward = relay.address
        proxy = Proxy(name, tmp_path / name, relayed, application.port, edit)
        started.append(proxy)
        return Asking(proxy.start(), relay, bearer(bed.secret("valid")))

    yield start
    for one in reversed(started):
        one.end()


class Asking:
    """A proxy that asks through a relay."""

    def __init__(self, proxy, relay, key):
        self.proxy, self.relay, self.key = proxy, relay, key

    def ask(self):
        """Sends a request; returns the status of the response, and how often the proxy asked."""
        self.relay.questions = 0
        response = send(self.proxy.port, "/orders", [self.key])
        time.sleep(AFTERWARDS)
        return response.status, self.relay.questions

    def keep_connection(self):
        self.relay.treat = lambda number: "pass"
        self.relay.close_connections()
        assert self.ask() == (200, 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_question_is_repeated_as_documented(name, asking):
    asking = asking(name)
    kept, new = QUESTIONS[name]
    asking.keep_connection()
    asking.relay.treat = lambda number: "cut" if number > 1 else "pass"
    assert asking.ask() == (503 if kept == 1 else 200, kept)
    asking.relay.close_connections()
    asking.relay.treat = lambda number: "cut"
    assert asking.ask() == (503, new)
    # Not more often if the repeated question fails too.
    asking.keep_connection()
    asking.relay.treat = lambda number: "cut"
    assert asking.ask() == (503, kept)


@pytest.mark.parametrize("name", NAMES)
def test_a_slow_question_is_not_repeated(name, asking):
    asking = asking(name)
    asking.keep_connection()
    asking.relay.treat = lambda number: "keep"
    assert asking.ask() == (503, 1)


@pytest.mark.parametrize("name", ["nginx", "haproxy"])
def test_another_replica_is_asked_if_one_is_unreachable(name, asking):
    unreachable = f"127.0.0.1:{free_port()}"

    def add_replica(text):
        line = {"nginx": "server 127.0.0.1:50053;", "haproxy": "server tenant_auth 127.0.0.1:50053"}[name]
        other = line.replace("tenant_auth", "other").replace("127.0.0.1:50053", unreachable)
        return text.replace(line, f"{other}\n{line}")

    asking = asking(name, add_replica)
    for _ in range(4):
        assert asking.ask() == (200, 1)
