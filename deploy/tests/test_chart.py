"""The Helm chart, rendered by Helm with different values and checked against the schemas of Kubernetes."""

import shutil

import kubernetes_validate
import pytest
import yaml

from chart import ALERTS, CASES, KUBERNETES, OPERATORS, render, template, values
from deployment import SHUTDOWN_SECONDS, TOOLS, check_config, known_variables, run, succeeded


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("case", CASES)
def test_chart_passes_helm_lint_and_kubernetes_schemas(chart, case, version):
    succeeded(run(TOOLS / "helm", "lint", "--strict", "--kube-version", version, chart, *values(case)))
    checked = 0
    for each in render(chart, case, version=version).objects:
        if each["kind"] in OPERATORS:
            continue
        kubernetes_validate.validate(each, version, strict=True)
        checked += 1
    assert checked >= 3


def test_kubernetes_schemas_reject_a_misspelt_field(rendered):
    broken = yaml.safe_load(yaml.safe_dump(rendered["minimal"].one("Deployment")))
    broken["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, "1.37", strict=True)


def test_optional_objects_can_be_enabled_and_disabled(rendered):
    least = ["Deployment", "Service", "Service"]
    usual = ["NetworkPolicy", "PodDisruptionBudget", "ServiceAccount"]
    assert rendered["everything-off"].kinds() == least
    assert rendered["minimal"].kinds() == sorted(least + usual)
    assert rendered["autoscaling"].kinds() == sorted([*least, *usual, "HorizontalPodAutoscaler"])
    outside = ["GRPCRoute", "Ingress"]
    watched = ["ConfigMap", "PrometheusRule", "ServiceMonitor"]
    everything = [*least, *usual, *outside, *watched, "CronJob", "HorizontalPodAutoscaler", "NetworkPolicy"]
    assert rendered["everything-on"].kinds() == sorted(everything)


@pytest.mark.parametrize("case", CASES)
def test_probes_do_not_depend_on_the_database(rendered, case):
    container = rendered[case].container()
    for probe in ["livenessProbe", "startupProbe"]:
        assert container[probe]["httpGet"] == {"path": "/livez", "port": "ops"}, probe
        # An outage of the database must not restart any replica.
        assert not {"grpc", "exec"} & container[probe].keys()
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "ops"}
    assert {"name": "ops", "containerPort": 50052} in container["ports"]
    assert "database" not in str([container[probe] for probe in ["livenessProbe", "readinessProbe"]]).lower()


@pytest.mark.parametrize(("case", "delay"), [("minimal", 5), ("nlb", 30), ("everything-on", 15), ("everything-off", 0)])
def test_grace_period_is_longer_than_the_drain(rendered, case, delay):
    assert rendered[case].environment()["TENANT_AUTH_DRAIN_DELAY"] == f"{delay}s"
    assert rendered[case].pod()["terminationGracePeriodSeconds"] > delay + SHUTDOWN_SECONDS
    assert "lifecycle" not in rendered[case].container(), "the drain delay replaces a preStop hook"


@pytest.mark.parametrize("case", CASES)
def test_rollout_keeps_all_replicas_available(rendered, case):
    strategy = rendered[case].one("Deployment")["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


@pytest.mark.parametrize("case", CASES)
def test_pod_has_minimal_privileges(rendered, case):
    pod, container = rendered[case].pod(), rendered[case].container()
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"].get("runAsUser", 1) > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "privileged": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()


@pytest.mark.parametrize("case", CASES)
def test_secrets_are_mounted_and_not_created(rendered, case):
    assert not rendered[case].all("Secret"), "the chart contains no Secret"
    pod, container = rendered[case].pod(), rendered[case].container()
    ours = [each for each in container["env"] if each["name"].startswith("TENANT_AUTH_")]
    assert all("value" in each and "valueFrom" not in each for each in ours)
    assert "envFrom" not in container
    mounts = {each["mountPath"]: each for each in container.get("volumeMounts", []) if each["name"] != "scratch"}
    volumes = {each["name"]: each["secret"] for each in pod.get("volumes", []) if each["name"] != "scratch"}
    environment = rendered[case].environment()
    files = {name: value for name, value in environment.items() if value.startswith("/run/tenant-auth/")}
    if "SSL_CERT_DIR" in environment:
        files["SSL_CERT_DIR"] = f"{environment['SSL_CERT_DIR'].rpartition(':')[2]}/ca.crt"
    for name, path in files.items():
        folder, _, key = path.rpartition("/")
        mount = mounts[folder]
        assert mount["readOnly"] is True
        assert "subPath" not in mount, "it would not follow a rotation"
        assert {"key": key, "path": key} in volumes[mount["name"]]["items"], name
    assert {mount["name"] for mount in mounts.values()} == volumes.keys()
    everything = {
        "SSL_CERT_DIR",
        "TENANT_AUTH_CALLERS_FILE",
        "TENANT_AUTH_CONSOLE_PEERS_TOKEN_FILE",
        "TENANT_AUTH_DATABASE_TOKEN_FILE",
        "TENANT_AUTH_DENY_FILE",
        "TENANT_AUTH_PEPPER_FILE",
        "TENANT_AUTH_PRINCIPAL_KEYS_FILE",
        "TENANT_AUTH_TLS_CERT_FILE",
        "TENANT_AUTH_TLS_CLIENT_CA_FILE",
        "TENANT_AUTH_TLS_KEY_FILE",
    }
    if case == "everything-on":
        assert files.keys() == everything


@pytest.mark.parametrize("case", CASES)
def test_service_accepts_every_rendered_variable(rendered, case, tmp_path):
    environment = {
        name: value for name, value in rendered[case].environment().items() if name.startswith("TENANT_AUTH_")
    }
    assert environment.keys() <= known_variables()
    shown = succeeded(check_config(environment, folder=tmp_path))
    drain = environment["TENANT_AUTH_DRAIN_DELAY"]
    (line,) = [line for line in shown.splitlines() if line.startswith("TENANT_AUTH_DRAIN_DELAY")]
    assert line.split()[1:] == [drain, "(environment)"]


def test_rules_missing_from_the_chart_are_reported(chart, tmp_path):
    bare = tmp_path / "tenant-auth"
    shutil.copytree(chart, bare, ignore=shutil.ignore_patterns("files"))
    for switch, file in [("prometheusRule", "alerts.yaml"), ("dashboard", "dashboard.json")]:
        result = template(bare, "minimal", f"{switch}: {{enabled: true}}")
        assert result.returncode != 0
        assert f"files/{file}" in result.stderr


def test_rules_and_dashboard_are_rendered_unchanged(rendered):
    assert rendered["everything-on"].one("PrometheusRule")["spec"] == yaml.safe_load(ALERTS)
    assert rendered["everything-on"].one("ConfigMap")["data"] == {"tenant-auth.json": '{\n  "title": "test"\n}'}


@pytest.mark.parametrize("case", CASES)
def test_selectors_match_the_pods(rendered, case):
    labels = rendered[case].one("Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [rendered[case].one("Deployment")["spec"]["selector"]["matchLabels"]]
    selectors += [each["spec"]["selector"] for each in rendered[case].all("Service")]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in rendered[case].all("PodDisruptionBudget")]
    if rendered[case].all("NetworkPolicy"):
        selectors.append(rendered[case].policy()["podSelector"]["matchLabels"])
    for selector in selectors:
        assert selector.items() <= labels.items()
        assert "helm.sh/chart" not in selector, "a new version of the chart must not lose its pods"


def test_headless_service_has_all_ports_and_is_scraped(rendered):
    services = {each["metadata"]["name"]: each for each in rendered["everything-on"].all("Service")}
    headless = services["auth-tenant-auth-headless"]
    assert headless["spec"]["clusterIP"] == "None"
    # Its names resolve to pods, so a Service's port would reach nothing.
    ports = {port["name"]: port["port"] for port in headless["spec"]["ports"]}
    assert ports == {each["name"]: each["containerPort"] for each in rendered["everything-on"].container()["ports"]}
    assert rendered["nlb"].named("Service", "auth-tenant-auth-headless")["spec"]["ports"][0]["port"] == 50051
    monitor = rendered["everything-on"].one("ServiceMonitor")["spec"]
    selector = monitor["selector"]["matchLabels"].items()
    matching = [name for name, each in services.items() if selector <= each["metadata"]["labels"].items()]
    assert matching == ["auth-tenant-auth-headless"], "each replica is scraped once"
    assert monitor["endpoints"] == [{"port": "ops", "path": "/metrics", "interval": "15s"}]
    assert monitor["namespaceSelector"] == {"matchNames": ["prod"]}


def test_autoscaler_alone_sets_the_replica_count(rendered):
    scaler = rendered["autoscaling"].one("HorizontalPodAutoscaler")["spec"]
    deployment = rendered["autoscaling"].one("Deployment")
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert [metric["resource"]["name"] for metric in scaler["metrics"]] == ["cpu"]
    assert "replicas" not in deployment["spec"], "an upgrade would override the autoscaler"
    assert rendered["autoscaling"].container()["resources"]["requests"]["cpu"], (
        "utilisation is relative to the CPU request"
    )
    assert rendered["minimal"].one("Deployment")["spec"]["replicas"] == 3


def test_replicas_are_spread_over_zones_and_nodes(rendered):
    keys = [each["topologyKey"] for each in rendered["minimal"].pod()["topologySpreadConstraints"]]
    assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    (only,) = rendered["everything-on"].pod()["topologySpreadConstraints"]
    assert only["maxSkew"] == 2


def test_canonical_build_is_required_by_default(rendered):
    required = {case: rendered[case].environment()["TENANT_AUTH_REQUIRE_CANONICAL_BUILD"] for case in CASES}
    assert required == dict.fromkeys(CASES, "true") | {"everything-off": "false"}


def test_image_digest_overrides_the_tag(chart, rendered):
    assert rendered["minimal"].container()["image"] == "example/tenant-auth:0.1.0"
    assert rendered["everything-on"].container()["image"].startswith("example/tenant-auth@sha256:")
    tagged = render(chart, "minimal", "image: {tag: 1.2.3}")
    assert tagged.container()["image"] == "example/tenant-auth:1.2.3"


def test_notes_warn_about_missing_protection(chart, tmp_path):
    # `helm template` shows no notes, and `helm install` asks a cluster; so an extra manifest quotes them.
    quoting = tmp_path / "tenant-auth"
    shutil.copytree(chart, quoting)
    notes = '{{ include (print .Template.BasePath "/NOTES.txt") . | toJson }}'
    manifest = f"{{apiVersion: v1, kind: ConfigMap, metadata: {{name: notes}}, data: {{notes: {notes}}}}}\n"
    (quoting / "templates" / "notes.yaml").write_text(manifest)

    def rendered_notes(case, more=""):
        return render(quoting, case, more).named("ConfigMap", "notes")["data"]["notes"]

    assert rendered_notes("everything-off").count("WARNING") == 3
    assert "WARNING" not in rendered_notes("minimal")
    for case in ["minimal", "nlb"]:
        assert "dns:///auth-tenant-auth-headless.prod.svc:50051" in rendered_notes(case)
    assert "https://auth-tenant-auth.prod.svc:8443/forward-auth" in rendered_notes("everything-on")
    assert "WARNING: forward.trustedPeers is empty" in rendered_notes("minimal", "forward: {enabled: true}")
