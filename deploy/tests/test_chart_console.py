"""The console in the chart: off by default, at a port that only `kubectl port-forward` reaches, and its way to the replicas."""

from chart import render
from network_policy import allows, pod

CONSOLE = "console: {enabled: true, peersTokenSecret: {name: console}}\n"
PORT = 50054
OTHER_POD = pod("prod", app="api")


def replica(rendered):
    """A pod of the release, as a peer."""
    return pod("prod", **rendered.one("Deployment")["spec"]["selector"]["matchLabels"])


def test_console_is_off_by_default(rendered):
    minimal = rendered["minimal"]
    assert not [name for name in minimal.environment() if "CONSOLE" in name]
    assert not allows(minimal.policy(), "to", 50051, replica(minimal))


def test_console_is_reached_by_port_forwarding_only(rendered):
    everything = rendered["everything-on"]
    assert everything.environment()["TENANT_AUTH_CONSOLE_LISTEN"] == f"127.0.0.1:{PORT}"
    assert PORT not in [port["containerPort"] for port in everything.container()["ports"]]
    ports = [port for each in everything.all("Service") for port in each["spec"]["ports"]]
    assert PORT not in [port["port"] for port in ports]
    for peer in [OTHER_POD, replica(everything), pod("proxies"), "203.0.113.9"]:
        assert not allows(everything.policy(), "from", PORT, peer), peer


def test_console_asks_the_replicas_by_the_headless_service(chart):
    environment = render(chart, "minimal", CONSOLE).environment()
    url = environment["TENANT_AUTH_CONSOLE_PEERS"]
    assert url.startswith("https://") and url.endswith("-headless.prod.svc:50051")
    assert environment["TENANT_AUTH_CONSOLE_PEERS_TOKEN_FILE"] == "/run/tenant-auth/console-peers/token"
    assert render(chart, "everything-off", CONSOLE).environment()["TENANT_AUTH_CONSOLE_PEERS"].startswith("http://")


def test_policy_lets_replicas_reach_each_other(chart):
    callers = "networkPolicy: {callers: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: api}}}]}\n"
    without, with_console = render(chart, "minimal", callers), render(chart, "minimal", CONSOLE + callers)
    for direction in ["from", "to"]:
        assert not allows(without.policy(), direction, 50051, replica(without))
        assert allows(with_console.policy(), direction, 50051, replica(with_console))
        assert not allows(with_console.policy(), direction, 50051, OTHER_POD)
