"""Front doors in the chart: the HTTP port for proxies, who reaches it, and the keys of principal tokens."""

import http.client
import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request

import pytest

from chart import render
from deployment import PROGRAMS, check_config, principal_key, succeeded
from network_policy import allows, pod

SAME_NAMESPACE_POD = pod("prod", app="api")
PROXY = pod("proxies")
EXTERNAL_ADDRESS = "203.0.113.9"
FORWARD = "forward: {enabled: true}\n"
FROM_PROXIES = "{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: proxies}}}"


def forward_ports(rendered):
    """The port of each Service for proxies, by the Service's name."""
    services = {each["metadata"]["name"]: each["spec"]["ports"] for each in rendered.all("Service")}
    return {name: port for name, ports in services.items() for port in ports if port["name"] == "http-forward"}


def test_front_doors_are_off_by_default(rendered):
    minimal = rendered["minimal"]
    environment = minimal.environment()
    assert environment["TENANT_AUTH_FORWARD_LISTEN"] == "off"
    assert not [name for name in environment if "PRINCIPAL" in name or "TRUSTED_PEERS" in name]
    assert [port["name"] for port in minimal.container()["ports"]] == ["grpc", "ops"]
    assert forward_ports(minimal) == {}
    assert not allows(minimal.policy(), "from", 50053, SAME_NAMESPACE_POD)


def test_forward_port_is_served_by_both_services(chart, rendered):
    everything = rendered["everything-on"]
    assert {"name": "http-forward", "containerPort": 50053} in everything.container()["ports"]
    assert everything.environment()["TENANT_AUTH_FORWARD_LISTEN"] == "0.0.0.0:50053"
    port = {"name": "http-forward", "port": 8443, "targetPort": "http-forward", "appProtocol": "https"}
    # The names of the headless Service resolve to pods, so it has their port.
    pods = {**port, "port": 50053}
    assert forward_ports(everything) == {"auth-tenant-auth": port, "auth-tenant-auth-headless": pods}
    dual_stack = render(chart, "minimal", FORWARD)
    assert dual_stack.environment()["TENANT_AUTH_FORWARD_LISTEN"] == "[::]:50053"
    assert {port["port"] for port in forward_ports(dual_stack).values()} == {50053}


def test_forward_protocol_follows_tls_and_service_type(chart):
    protocols = {
        case: [port.get("appProtocol") for port in forward_ports(render(chart, case, FORWARD)).values()]
        for case in ["minimal", "mesh", "nlb"]
    }
    # A load balancer would probe by it.
    assert protocols == {"minimal": ["https"] * 2, "mesh": ["http"] * 2, "nlb": [None, "https"]}


@pytest.mark.parametrize(
    ("more", "allowed"),
    [
        ("", [SAME_NAMESPACE_POD]),
        (f"networkPolicy: {{proxies: [{FROM_PROXIES}]}}", [PROXY]),
        # Callers of the gRPC port are not proxies.
        (f"networkPolicy: {{callers: [{FROM_PROXIES}]}}", [SAME_NAMESPACE_POD]),
        # Ingress and GRPCRoute lead to the gRPC port only.
        ("ingress: {enabled: true, hosts: [auth.example]}", [SAME_NAMESPACE_POD]),
        ("service: {type: LoadBalancer}", [SAME_NAMESPACE_POD, PROXY, EXTERNAL_ADDRESS]),
        (f"service: {{type: NodePort}}\nnetworkPolicy: {{proxies: [{FROM_PROXIES}]}}", [PROXY]),
    ],
)
def test_policy_admits_proxies_at_the_forward_port(chart, more, allowed):
    spec = render(chart, "minimal", FORWARD + more).policy()
    peers = [SAME_NAMESPACE_POD, PROXY, EXTERNAL_ADDRESS]
    assert [peer for peer in peers if allows(spec, "from", 50053, peer)] == allowed


def test_policy_for_proxies_opens_no_other_port(rendered):
    spec = rendered["everything-on"].policy()
    assert allows(spec, "from", 50053, PROXY)
    for port in [50051, 50052]:
        assert not allows(spec, "from", port, PROXY), port
    assert not allows(spec, "from", 50053, pod("api"))
    # Linkerd's proxies reach every port through this one.
    assert allows(spec, "from", 4143, PROXY)


def test_mesh_port_admits_proxies_only_if_enabled(chart):
    more = f"networkPolicy: {{monitoring: [{{podSelector: {{}}}}], proxies: [{FROM_PROXIES}]}}\n"
    assert not allows(render(chart, "mesh", more).policy(), "from", 15008, PROXY)
    enabled = render(chart, "mesh", FORWARD + more).policy()
    assert allows(enabled, "from", 15008, PROXY)
    assert not allows(enabled, "from", 15008, EXTERNAL_ADDRESS)
    # Proxies outside of the cluster come through the mesh's port too.
    outside = "callersSecret: {name: callers}\nallowAnonymous: false\nservice: {type: LoadBalancer}\n"
    more = "networkPolicy: {monitoring: [{podSelector: {}}]}\n"
    assert not allows(render(chart, "mesh", outside + more).policy(), "from", 15008, EXTERNAL_ADDRESS)
    assert allows(render(chart, "mesh", FORWARD + outside + more).policy(), "from", 15008, EXTERNAL_ADDRESS)


def test_peers_and_issuer_reach_the_service(rendered, tmp_path):
    environment = {
        name: value for name, value in rendered["everything-on"].environment().items() if name.startswith("TENANT_")
    }
    shown = succeeded(check_config(environment, folder=tmp_path))
    lines = {line.split()[0]: line.split()[1:] for line in shown.splitlines() if line.startswith("TENANT_")}
    assert lines["TENANT_AUTH_FORWARD_TRUSTED_PEERS"] == ["10.1.0.0/16,fd00::/8", "(environment)"]
    assert lines["TENANT_AUTH_PRINCIPAL_ISSUER"] == ["https://auth.example", "(environment)"]


def test_principal_tokens_do_not_need_the_forward_port(chart):
    """Envoy asks over gRPC."""
    more = "principal: {keysSecret: {name: keys}, issuer: 'https://auth.example'}"
    environment = render(chart, "minimal", more).environment()
    assert environment["TENANT_AUTH_FORWARD_LISTEN"] == "off"
    assert environment["TENANT_AUTH_PRINCIPAL_KEYS_FILE"] == "/run/tenant-auth/principal/principal.pem"


def test_grpc_route_can_expose_envoys_service(chart):
    more = "grpcRoute: {enabled: true, parentRefs: [{name: g}], services: [envoy.service.auth.v3.Authorization]}"
    (rule,) = render(chart, "minimal", more).one("GRPCRoute")["spec"]["rules"]
    assert rule["matches"] == [{"method": {"service": "envoy.service.auth.v3.Authorization"}}]


def test_service_serves_proxies_and_rotates_keys(chart, tmp_path):
    """A running service with the chart's variables, at free ports of this machine."""
    more = "listenAddress: 127.0.0.1\nprincipal: {keysSecret: {name: keys}, issuer: 'https://auth.example'}\n"
    environment = render(chart, "everything-off", FORWARD + more).environment()
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = "127.0.0.1:{}".format(free.getsockname()[1])
    keys = tmp_path / "principal.pem"
    first = principal_key(keys)
    environment |= {
        "TENANT_AUTH_DATABASE_URL": "http://127.0.0.1:1",
        "TENANT_AUTH_LISTEN": "127.0.0.1:0",
        "TENANT_AUTH_OPS_LISTEN": "127.0.0.1:0",
        "TENANT_AUTH_FORWARD_LISTEN": address,
        "TENANT_AUTH_PRINCIPAL_KEYS_FILE": str(keys),
        "PATH": os.environ["PATH"],
    }
    with subprocess.Popen([PROGRAMS / "tenant-auth-svc", "serve"], env=environment, stderr=subprocess.DEVNULL) as serve:
        try:
            (published,) = wait_for_keys(address, 1)
            assert (published["kty"], published["alg"]) == ("OKP", "EdDSA")
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(f"http://{address}/forward-auth", timeout=10)
            assert (refused.value.code, json.load(refused.value)["code"]) == (401, "NO_CREDENTIALS")
            # The next key is published before it signs, without a restart.
            following = principal_key(tmp_path / "following.pem")
            keys.write_text(first + following)
            serve.send_signal(signal.SIGHUP)
            assert wait_for_keys(address, 2)[0] == published
            # At the end, a key is no longer published.
            keys.write_text(following)
            serve.send_signal(signal.SIGHUP)
            (last,) = wait_for_keys(address, 1)
            assert last != published
        finally:
            serve.kill()


def wait_for_keys(address, count):
    """Returns the published keys, once there are as many."""
    deadline = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(f"http://{address}/.well-known/jwks.json", timeout=10) as answer:
                keys = json.load(answer)["keys"]
            if len(keys) == count:
                return keys
        except (OSError, http.client.HTTPException):
            keys = None
        assert time.monotonic() < deadline, keys
        time.sleep(0.05)
