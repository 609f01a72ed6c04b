"""The compose stack: read as Docker Compose reads it, and its seed script run against a real service."""

import json
import os
import stat
import subprocess

import pytest
import yaml

from deployment import DEPLOY, PROGRAMS, ROOT, SHUTDOWN_SECONDS, TOOLS, check_config, known_variables, run, succeeded

COMPOSE = DEPLOY / "compose"
REPLICAS = ["tenant-auth-1", "tenant-auth-2"]


def load(**environment):
    return run(TOOLS / "compose", COMPOSE / "compose.yaml", env=environment)


@pytest.fixture(scope="module")
def stack():
    return json.loads(succeeded(load(SQLD_IMAGE="sqld:test")))["services"]


def binds(service):
    return [volume for volume in service.get("volumes", []) if volume["type"] == "bind"]


def test_stack_has_all_services(stack):
    others = ["alertmanager", "grafana", "prometheus", "seed", "sqld"]
    assert sorted(stack) == sorted(REPLICAS + others)
    assert stack["sqld"]["image"] == "sqld:test"


def test_missing_sqld_image_is_reported():
    result = load(SQLD_IMAGE="")
    assert result.returncode != 0
    assert "SQLD_IMAGE" in result.stderr and "README" in result.stderr


def test_replicas_differ_only_in_ports(stack):
    first, second = ({key: value for key, value in stack[name].items() if key != "ports"} for name in REPLICAS)
    assert first == second


@pytest.mark.parametrize("name", REPLICAS)
def test_service_accepts_the_configuration(stack, name, tmp_path):
    environment = stack[name]["environment"]
    assert environment.keys() <= known_variables()
    # Set by the image.
    beyond = {"TENANT_AUTH_LISTEN": "0.0.0.0:50051", "TENANT_AUTH_OPS_LISTEN": "0.0.0.0:50052"}
    shown = succeeded(check_config(environment | beyond, folder=tmp_path))
    assert "http://sqld:8080" in shown


@pytest.mark.parametrize("name", REPLICAS)
def test_replica_is_stateless_and_has_time_to_drain(stack, name):
    assert stack[name]["read_only"] is True
    assert stack[name]["cap_drop"] == ["ALL"]
    assert not stack[name].get("volumes")
    assert stack[name]["stop_grace_period"] == "30s" and 30 > 5 + SHUTDOWN_SECONDS


def test_ports_are_published_on_loopback_only(stack):
    ports = [port for service in stack.values() for port in service.get("ports") or []]
    assert len(ports) == 7
    assert {port["host_ip"] for port in ports} == {"127.0.0.1"}
    assert len({port["published"] for port in ports}) == len(ports)


def test_logs_are_rotated(stack):
    units = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
    for name, service in stack.items():
        assert service["logging"]["driver"] == "json-file", name
        options = service["logging"]["options"]
        size = int(options["max-size"][:-1]) * units[options["max-size"][-1]]
        assert size * int(options["max-file"]) <= 50 * units["m"], name


def test_bind_mounts_are_read_only_and_never_created(stack):
    for name, service in stack.items():
        for bind in binds(service):
            assert bind["read_only"] is True, name
            assert bind["bind"]["create_host_path"] is False, name


def test_rules_and_dashboard_come_from_observability(stack):
    observability = DEPLOY / "observability"
    mounted = {bind["source"]: bind["target"] for service in stack.values() for bind in binds(service)}
    assert mounted[str(observability / "prometheus.yaml")] == "/etc/prometheus/prometheus.yaml"
    assert mounted[str(observability / "alerts.yaml")] == "/etc/prometheus/alerts.yaml"
    dashboard = mounted[str(observability / "dashboard.json")]
    (provider,) = yaml.safe_load((COMPOSE / "grafana/dashboards/tenant-auth.yaml").read_text())["providers"]
    assert dashboard.startswith(provider["options"]["path"] + "/")
    assert stack["grafana"]["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == dashboard


def test_grafana_and_seed_reference_existing_services(stack):
    (source,) = yaml.safe_load((COMPOSE / "grafana/datasources/prometheus.yaml").read_text())["datasources"]
    assert source["url"] == "http://prometheus:9090" and "prometheus" in stack
    assert stack["seed"]["environment"]["TENANTCTL_ENDPOINT"] == "http://tenant-auth-1:50051"
    assert {name: each["condition"] for name, each in stack["seed"]["depends_on"].items()} == dict.fromkeys(
        REPLICAS, "service_healthy"
    )
    # It exits; restarting it repeatedly would issue keys without limit.
    assert stack["seed"]["restart"] == "no"


def test_alert_route_has_an_existing_receiver():
    config = yaml.safe_load((COMPOSE / "alertmanager.yaml").read_text())
    assert config["route"]["receiver"] in [receiver["name"] for receiver in config["receivers"]]


@pytest.fixture
def service(tmp_path):
    """A separate service on a free port, with an embedded database. Yields its address."""
    command = [PROGRAMS / "tenant-auth-svc", "dev", "--listen", "127.0.0.1:0", "--data-dir", tmp_path / "data"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as dev:
        try:
            for line in dev.stdout:
                words = line.split()
                if words[:1] == ["endpoint"]:
                    yield f"http://{words[1]}"
                    break
            else:
                pytest.fail("the service did not start")
        finally:
            dev.terminate()


def test_seed_issues_one_key(service, tmp_path):
    kept = tmp_path / "demo-key"
    # As in the image: tenantctl, and almost nothing else.
    environment = {
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "SEED_KEY_FILE": str(kept),
        "TENANTCTL_ENDPOINT": service,
    }

    def seed():
        return succeeded(run("/bin/sh", COMPOSE / "seed.sh", env=environment))

    assert "a demo key was issued" in seed()
    key = kept.read_text()
    assert key.startswith("ta_")
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert key.strip() not in seed(), "the log must not contain the key"
    assert kept.read_text() == key, "the second run keeps the key"
    validate = [PROGRAMS / "tenantctl", "validate", "--scope", "demo:read"]
    succeeded(run(*validate, env=environment, stdin=key))

    # A missing answer is not a denial.
    environment["TENANTCTL_ENDPOINT"] = "http://127.0.0.1:1"
    assert run("/bin/sh", COMPOSE / "seed.sh", env=environment).returncode != 0
    assert kept.read_text() == key
    environment["TENANTCTL_ENDPOINT"] = service

    # A new database does not know the kept key.
    kept.write_text(key.replace("ta_", "tb_"))
    assert "a demo key was issued" in seed()
    succeeded(run(*validate, env=environment, stdin=kept.read_text()))
