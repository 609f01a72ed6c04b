"""The conformance program, started as the driver starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import status_pb2

from certificates import CertificateAuthority
from fake import Fake
from limit_replies import QUOTA_EXCEEDED, cancelled, consumed, exceeded, reserved, settled, state_of_hourly
from replies import Failure, answer
from service import Fleet, callers, fleet_in
from tenant_auth.proto import usage_pb2

CONFORMANCE = Path(__file__).parent.parent / "conformance"


class Runner:
    def __init__(self, endpoint: str, **environment: str) -> None:
        path = [str(CONFORMANCE), *filter(None, [os.environ.get("PYTHONPATH")])]
        variables = os.environ | {"TENANT_AUTH_ENDPOINTS": endpoint, "PYTHONPATH": os.pathsep.join(path)} | environment
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tenant_auth_conformance"],
            env=variables,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def read(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def send(self, **command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def call(self, **command: Any) -> dict[str, Any]:
        self.send(id=7, **command)
        answer = self.read()
        assert answer.pop("id") == 7
        return answer

    def stop(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextmanager
def running(endpoint: str, **environment: str) -> Iterator[Runner]:
    runner = Runner(endpoint, **environment)
    try:
        assert runner.read() == {"ready": True}
        yield runner
    finally:
        runner.stop()


@pytest.fixture
def runner(fake: Fake) -> Iterator[Runner]:
    with running(fake.endpoint) as runner:
        yield runner


def test_key_commands_return_verdicts(runner: Runner, fake: Fake) -> None:
    fake.keys |= {"k": answer(scopes=["a"]), "b": status_pb2.Status(code=14)}
    result = runner.call(op="validate_key", key="k", scopes=["b"], timeout_ms=5_000)
    known = {"tenant_id": "acme", "plan": "pro", "key_id": "key_1"}
    assert result == {"verdict": "INSUFFICIENT_SCOPE", **known, "missing_scopes": ["b"], "source": "DATABASE"}
    assert runner.call(op="validate_key", key="k")["source"] == "NEAR"
    items = runner.call(op="validate_keys", keys=["k", "b"], scopes=[])["items"]
    assert [items[0]["verdict"], items[1]["error"]] == ["VALID", "UNAVAILABLE"]
    assert runner.call(op="validate_key_concurrently", key="new", times=1_000, timeout_ms=20_000) == {
        "verdicts": {"UNKNOWN": 1_000},
        "errors": {},
    }
    assert fake.calls["ValidateKey"] == 2


def test_commands_pass_the_client_address(runner: Runner, fake: Fake) -> None:
    fake.keys["k"] = answer(allowed_networks=["192.0.2.0/24"])
    for address, verdict in (
        ("192.0.2.7:443", "VALID"),
        ("192.0.3.7", "ADDRESS_NOT_ALLOWED"),
        (None, "ADDRESS_REQUIRED"),
    ):
        command = {"key": "k"} | ({} if address is None else {"client_address": address})
        assert runner.call(op="validate_key", **command)["verdict"] == verdict
        required = runner.call(op="require_key", **command)
        assert required.get("denied", "VALID") == verdict
    runner.call(op="validate_keys", keys=["k", "k"], client_address="192.0.2.7")
    assert [one.client_address for one in fake.requests[-1].requests] == ["192.0.2.7", "192.0.2.7"]
    runner.call(op="bind_session", session_id="s", key="k", ttl_ms=60_000, client_address="::1")
    runner.call(op="validate_session", session_id="s", client_address="[::1]:80")
    assert [request.client_address for request in fake.requests[-2:]] == ["::1", "::1"]
    invalid = {"error": "INVALID_ARGUMENT", "reason": None, "fields": ["client_address"]}
    assert runner.call(op="validate_key", key="k", client_address="x") == invalid
    assert runner.call(op="validate_keys", keys=["k"], client_address="x") == {"items": [invalid]}


def test_error_answers_have_code_reason_and_fields(runner: Runner, fake: Fake) -> None:
    fake.permanent_failure = Failure(
        grpc.StatusCode.INVALID_ARGUMENT, reason="WRONG", violations=[("key", "is invalid")]
    )
    failed = {"error": "INVALID_ARGUMENT", "reason": "WRONG", "fields": ["key"]}
    assert runner.call(op="validate_key", key="k") == failed
    assert runner.call(op="server_info") == failed
    assert runner.call(op="unknown_operation") == {"error": "UNSUPPORTED"}
    assert runner.call(op="validate_key")["error"] == "BAD_COMMAND"


def test_session_commands_return_bindings(runner: Runner, fake: Fake) -> None:
    fake.keys["k"] = answer()
    bind = {"op": "bind_session", "session_id": "s", "key": "k", "ttl_ms": 60_000, "attributes": {"a": "b"}}
    bound = {"verdict": "VALID", "tenant_id": "acme", "key_id": "key_1"}
    assert runner.call(**bind) == bound | {"already_bound": False}
    assert runner.call(**bind) == bound | {"already_bound": True}
    assert runner.call(op="validate_session", session_id="s", key="k")["attributes"] == {"a": "b"}
    assert runner.call(op="unbind_session", session_id="s", tenant_id="acme") == {"was_bound": True}
    assert runner.call(op="validate_session", session_id="s")["verdict"] == "UNBOUND"


def test_usage_commands_return_receipts_and_sums(runner: Runner, fake: Fake) -> None:
    fake.rejected_metrics = {"bad"}
    events = [{"tenant_id": "acme", "metric": metric, "quantity": 1} for metric in ("bad", "good")]
    assert runner.call(op="record_usage", request_id="r", events=events) == {
        "accepted": 1,
        "rejected": [{"index": 0, "error": "NOT_FOUND"}],
        "already_recorded": False,
    }
    fake.pages = [[usage_pb2.UsageSum(metric="good", bucket_start=Timestamp(seconds=3_600), quantity=4)]]
    query = {"op": "query_usage", "tenant_id": "acme", "metric": "good", "start_ms": 0, "end_ms": 9, "bucket": "HOUR"}
    assert runner.call(**query) == {"sums": [{"metric": "good", "bucket_start_ms": 3_600_000, "quantity": 4}]}


def test_answers_may_be_out_of_order_and_close_ends_the_program(runner: Runner, fake: Fake) -> None:
    fake.keys["k"] = answer()
    fake.responding.clear()
    runner.send(id="slow", op="validate_key", key="k", timeout_ms=60_000)
    fake.until(lambda: fake.calls["ValidateKey"] == 1)
    state = runner.call(op="watch_state")
    assert state == {"live": False, "revision": 0}
    fake.responding.set()
    assert runner.read()["id"] == "slow"
    runner.send(op="close")
    assert runner.read() == {"closed": True}
    assert runner.process.wait() == 0


@pytest.mark.parametrize(
    ("variable", "sources", "watch_enabled"),
    [
        ("TENANT_AUTH_NEAR_CACHE", ["DATABASE"] * 2, 0),
        ("TENANT_AUTH_WATCH", ["DATABASE", "NEAR"], 0),
        ("X", ["DATABASE", "NEAR"], 1),
    ],
)
def test_environment_turns_near_cache_and_watch_off(
    fake: Fake, variable: str, sources: list[str], watch_enabled: int
) -> None:
    fake.keys["k"] = answer()
    with running(fake.endpoint, **{variable: "off"}) as runner:
        assert [runner.call(op="validate_key", key="k")["source"] for _ in range(2)] == sources
        fake.until(lambda: fake.calls["Watch"] == watch_enabled)


def test_require_key_command_returns_principal_or_denial(runner: Runner, fake: Fake) -> None:
    fake.keys |= {"k": answer(scopes=["a"]), "old": answer(5)}
    principal = {"tenant_id": "acme", "key_id": "key_1"}
    assert runner.call(op="require_key", key="k", scopes=["a"]) == {"principal": principal}
    denied = {"denied": "INSUFFICIENT_SCOPE", "missing_scopes": ["b"]}
    assert runner.call(op="require_key", key="k", scopes=["b"], timeout_ms=0) == denied
    assert runner.call(op="require_key", key="old") == {"denied": "REVOKED", "missing_scopes": []}
    fake.permanent_failure = Failure(grpc.StatusCode.UNAUTHENTICATED)
    assert runner.call(op="require_key", key="new")["error"] == "UNAUTHENTICATED"


def test_limit_commands_return_decisions_and_settlements(runner: Runner, fake: Fake) -> None:
    fake.limits |= {
        "Consume": consumed(QUOTA_EXCEEDED, exceeded()),
        "BatchConsume": Failure(grpc.StatusCode.UNAVAILABLE, reason="LIMIT_UNDECIDED"),
        "Reserve": reserved(1, expires_in=60.0),
        "Settle": settled(),
        "Cancel": cancelled(),
        "GetLimitState": state_of_hourly(),
    }
    costs = [{"metric": "requests", "amount": 1}, {"metric": "requests", "amount": 2}]
    denied = runner.call(op="consume", key="k", scopes=["a"], client_address="::1", costs=costs, consume_id="c")
    assert [denied[name] for name in ("verdict", "allowed", "key_id", "already_consumed")] == [
        "QUOTA_EXCEEDED",
        False,
        "key_1",
        False,
    ]
    assert denied["limits"] == [
        {
            "name": "hourly",
            "metric": "requests",
            "limit": 100,
            "remaining": 0,
            "window_ms": 3_600_000,
            "reset_after_ms": 1_800_000,
            "retry_after_ms": 90_500,
            "decided_by": "LEASE",
            "exceeded": True,
            "shadow": False,
        }
    ]
    assert [(one.metric, one.amount) for one in fake.requests[-1].costs] == [("requests", 1), ("requests", 2)]
    many = runner.call(op="consume_many", requests=[{"session_id": "s", "key": "k", "costs": costs}])
    assert (many["error"], many["reason"]) == ("UNAVAILABLE", "LIMIT_UNDECIDED")
    made = runner.call(op="reserve", key="k", costs=costs, reservation_id="r", expires_in_ms=60_000, on_expiry="CHARGE")
    assert [made[name] for name in ("allowed", "reservation_id", "expires_in_ms", "already_reserved")] == [
        True,
        "r",
        60_000,
        False,
    ]
    actual = [{"metric": "tokens", "amount": 4}]
    settlement = runner.call(op="settle", reservation_id="r", actual=actual)
    assert (settlement["state"], settlement["already_settled"], settlement["limits"][0]["charged"]) == (
        "SETTLED",
        False,
        4,
    )
    assert runner.call(op="cancel", reservation_id="r") == {"state": "CANCELLED"}
    (state,) = runner.call(op="limit_state", tenant_id="acme")["limits"]
    assert (state["name"], state["unaccounted"], state["reset_after_ms"]) == ("hourly", 4, 60_000)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet_in(tmp_path_factory.mktemp("conformance")) as fleet:
        yield fleet


def test_program_uses_all_environment_variables(fleet: Fleet, tmp_path: Path) -> None:
    authority = CertificateAuthority(tmp_path)
    cert, key = authority.issue("server", ("tenant-auth.test",))
    token = tmp_path / "token"
    token.write_text("a-token\n")
    service = {
        "TENANT_AUTH_TLS_CERT_FILE": str(cert),
        "TENANT_AUTH_TLS_KEY_FILE": str(key),
        "TENANT_AUTH_CALLERS_FILE": callers(tmp_path, "a-token"),
    }
    replicas = [fleet.start(**service) for _ in range(2)]
    endpoints = ",".join(f"https://{replica.endpoint}" for replica in replicas)
    client = {
        "TENANT_AUTH_TLS_CA_FILE": str(authority.file),
        "TENANT_AUTH_TLS_SERVER_NAME": "tenant-auth.test",
        "TENANT_AUTH_TIMEOUT_MS": "5000",
        "TENANT_AUTH_NEAR_CACHE": "off",
    }
    for token_variable in ({"TENANT_AUTH_TOKEN_FILE": str(token)}, {"TENANT_AUTH_TOKEN": "a-token"}):
        with running(endpoints, **client, **token_variable) as runner:
            load = runner.call(op="load", key=fleet.key, scopes=["demo:read"], calls=20, interval_ms=1, concurrency=5)
            assert (load["ok"], load["verdicts"], load["errors"]) == (20, {"VALID": 20}, {})
            assert len(load["latency_ms"]) == 20
            recorded = runner.call(op="record_many", tenant_id=fleet.tenant, metric="m", count=700)
            assert recorded == {"accepted": 700, "rejected": 0}
            bound = runner.call(op="validate_session", session_id="s", key=fleet.key)
            assert (bound["verdict"], bound["presented_key_id"]) == ("UNBOUND", "")


@pytest.mark.parametrize(
    ("endpoint", "environment", "message"),
    [
        ("grpc://a:1", {}, "unknown scheme grpc://"),
        ("", {}, "endpoints is empty"),
        ("http://a:1", {"TENANT_AUTH_TLS_SERVER_NAME": "a"}, "http:// means plaintext"),
        ("a:1", {"TENANT_AUTH_TOKEN": "two words"}, "token contains whitespace"),
        ("a:1", {"TENANT_AUTH_TIMEOUT_MS": "0"}, "timeout is 0.0"),
        ("a:1", {"TENANT_AUTH_TLS_CA_FILE": "/nowhere"}, "/nowhere cannot be read"),
    ],
)
def test_invalid_configuration_is_reported_and_ends_the_program(
    endpoint: str, environment: dict[str, str], message: str
) -> None:
    runner = Runner(endpoint, **environment)
    answer = runner.read()
    assert answer["ready"] is False
    assert message in answer["error"]
    assert runner.process.wait() == 2
    runner.stop()
