"""The Helm chart: rendered by Helm with different values, checked against Kubernetes' own schemas, and looked at."""

import shutil

import kubernetes_validate
import pytest
import yaml
from deployment import CHART, ENDING, TOOLS, check_config, known_variables, run, succeeded

CASES = ["minimal", "everything-on", "everything-off", "autoscaling"]
# The oldest version that Chart.yaml promises and the newest that there are schemas for.
KUBERNETES = ["1.27", "1.37"]
# Kinds that an operator brings along; Kubernetes itself has no schema for them.
OPERATORS = {"PrometheusRule", "ServiceMonitor"}

ALERTS = """\
groups:
  - name: made-up
    rules:
      - alert: Down
        expr: up == 0
        annotations:
          summary: "{{ $labels.instance }} is down"
"""


@pytest.fixture(scope="module")
def chart(tmp_path_factory):
    """A copy of the chart with rules and a dashboard of the test's own."""
    copy = tmp_path_factory.mktemp("chart") / "tenant-auth"
    shutil.copytree(CHART, copy, ignore=shutil.ignore_patterns("files"))
    (copy / "files").mkdir()
    (copy / "files" / "alerts.yaml").write_text(ALERTS)
    (copy / "files" / "dashboard.json").write_text('{\n  "title": "made-up"\n}\n')
    return copy


def template(chart, *args, version="1.37"):
    return run(TOOLS / "helm", "template", "auth", chart, "--namespace", "prod", "--kube-version", version, *args)


def values(case):
    return ["--values", CHART / "ci" / f"{case}.yaml"]


class Rendered:
    """The manifests of one case, by kind."""

    def __init__(self, text):
        self.objects = [each for each in yaml.safe_load_all(text) if each]

    def kinds(self):
        return sorted(each["kind"] for each in self.objects)

    def all(self, kind):
        return [each for each in self.objects if each["kind"] == kind]

    def one(self, kind):
        (only,) = self.all(kind)
        return only

    def pod(self):
        return self.one("Deployment")["spec"]["template"]["spec"]

    def container(self):
        (only,) = self.pod()["containers"]
        return only

    def environment(self):
        return {each["name"]: each["value"] for each in self.container()["env"]}


@pytest.fixture(scope="module")
def rendered(chart):
    return {case: Rendered(succeeded(template(chart, *values(case)))) for case in CASES}


@pytest.mark.parametrize("version", KUBERNETES)
@pytest.mark.parametrize("case", CASES)
def test_helm_lints_it_and_kubernetes_takes_it(chart, case, version):
    succeeded(run(TOOLS / "helm", "lint", "--strict", "--kube-version", version, chart, *values(case)))
    checked = 0
    for each in Rendered(succeeded(template(chart, *values(case), version=version))).objects:
        if each["kind"] in OPERATORS:
            continue
        kubernetes_validate.validate(each, version, strict=True)
        checked += 1
    assert checked >= 3


def test_kubernetes_schemas_notice_a_mistake(rendered):
    broken = yaml.safe_load(yaml.safe_dump(rendered["minimal"].one("Deployment")))
    broken["spec"]["template"]["spec"]["containers"][0]["livenessprobe"] = {}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(broken, "1.37", strict=True)


def test_everything_can_be_switched_on_and_off(rendered):
    least = ["Deployment", "Service", "Service"]
    usual = ["NetworkPolicy", "PodDisruptionBudget", "ServiceAccount"]
    assert rendered["everything-off"].kinds() == least
    assert rendered["minimal"].kinds() == sorted(least + usual)
    assert rendered["autoscaling"].kinds() == sorted([*least, *usual, "HorizontalPodAutoscaler"])
    everything = [*least, *usual, "ConfigMap", "HorizontalPodAutoscaler", "PrometheusRule", "ServiceMonitor"]
    assert rendered["everything-on"].kinds() == sorted(everything)


@pytest.mark.parametrize("case", CASES)
def test_liveness_asks_about_the_process_and_readiness_about_the_service(rendered, case):
    container = rendered[case].container()
    for probe in ["livenessProbe", "startupProbe"]:
        assert container[probe]["httpGet"] == {"path": "/livez", "port": "ops"}, probe
        # An outage of the database must restart nobody.
        assert not {"grpc", "exec"} & container[probe].keys()
    assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "ops"}
    assert {"name": "ops", "containerPort": 50052} in container["ports"]
    assert "database" not in str([container[probe] for probe in ["livenessProbe", "readinessProbe"]]).lower()


@pytest.mark.parametrize(("case", "delay"), [("minimal", 5), ("everything-on", 15), ("everything-off", 0)])
def test_a_replica_has_the_time_to_drain(rendered, case, delay):
    assert rendered[case].environment()["TENANT_AUTH_DRAIN_DELAY"] == f"{delay}s"
    assert rendered[case].pod()["terminationGracePeriodSeconds"] > delay + ENDING
    assert "lifecycle" not in rendered[case].container(), "the drain delay does what a preStop hook would be for"


@pytest.mark.parametrize("case", CASES)
def test_a_rollout_never_lacks_a_replica(rendered, case):
    strategy = rendered[case].one("Deployment")["spec"]["strategy"]
    assert strategy == {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}


@pytest.mark.parametrize("case", CASES)
def test_it_may_do_nothing_but_serve(rendered, case):
    pod, container = rendered[case].pod(), rendered[case].container()
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "privileged": False,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & pod.keys()


@pytest.mark.parametrize("case", CASES)
def test_secrets_are_files_of_secrets_made_by_others(rendered, case):
    assert not rendered[case].all("Secret"), "the chart holds none"
    pod, container = rendered[case].pod(), rendered[case].container()
    assert all("value" in each and "valueFrom" not in each for each in container["env"])
    assert "envFrom" not in container
    mounts = {each["mountPath"]: each for each in container.get("volumeMounts", [])}
    volumes = {each["name"]: each["secret"] for each in pod.get("volumes", [])}
    files = {name: value for name, value in rendered[case].environment().items() if value.startswith("/")}
    for name, path in files.items():
        folder, _, key = path.rpartition("/")
        mount = mounts[folder]
        assert mount["readOnly"] is True
        assert "subPath" not in mount, "it would not follow a rotation"
        assert {"key": key, "path": key} in volumes[mount["name"]]["items"], name
    assert {mount["name"] for mount in mounts.values()} == volumes.keys()
    everything = {
        "TENANT_AUTH_CALLERS_FILE",
        "TENANT_AUTH_DATABASE_TOKEN_FILE",
        "TENANT_AUTH_DENY_FILE",
        "TENANT_AUTH_PEPPER_FILE",
        "TENANT_AUTH_TLS_CERT_FILE",
        "TENANT_AUTH_TLS_CLIENT_CA_FILE",
        "TENANT_AUTH_TLS_KEY_FILE",
    }
    if case == "everything-on":
        assert files.keys() == everything


@pytest.mark.parametrize("case", CASES)
def test_the_service_knows_every_variable_and_takes_its_value(rendered, case, tmp_path):
    environment = rendered[case].environment()
    assert environment.keys() <= known_variables()
    shown = succeeded(check_config(environment, folder=tmp_path))
    drain = environment["TENANT_AUTH_DRAIN_DELAY"]
    (line,) = [line for line in shown.splitlines() if line.startswith("TENANT_AUTH_DRAIN_DELAY")]
    assert line.split()[1:] == [drain, "(environment)"]


def test_settings_are_handed_on_as_they_are(chart):
    large = ["--set", "settings.TENANT_AUTH_CACHE_KEYS=10000000", "--set", "settings.TENANT_AUTH_FEED_INTERVAL=off"]
    environment = Rendered(succeeded(template(chart, *values("minimal"), *large))).environment()
    assert environment["TENANT_AUTH_CACHE_KEYS"] == "10000000"
    assert environment["TENANT_AUTH_FEED_INTERVAL"] == "off"


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        ([], "database.url must be set"),
        (["--set", "database.url=libsql://db.example"], "database.tokenSecret.name must be set"),
        (["--set", "database.url=http://sqld:8080"], "it must be encrypted"),
        ([*values("minimal"), "--set", "callersSecret.name="], "callers must be known"),
        ([*values("minimal"), "--set", "tls.secretName="], "it must be encrypted"),
        (
            [*values("everything-on"), "--set", "callersSecret.name=", "--set", "allowAnonymous=true"],
            "tls.clientCaSecret needs callersSecret",
        ),
        (["--set", "database.url=libsql://db.example?authToken=hush"], "hold no credentials"),
        (["--set", "database.url=https://user:hush@db.example"], "hold no credentials"),
        (["--set", "database.url=file:auth.db"], "must begin with libsql://"),
        ([*values("everything-off"), "--set", "tls.clientCaSecret.name=ca"], "needs tls.secretName"),
        ([*values("minimal"), "--set", "settings.TENANT_AUTH_LISTEN=[::]:1"], "settings.TENANT_AUTH_LISTEN"),
        ([*values("minimal"), "--set", "settings.GRACE=1h"], "GRACE"),
        ([*values("minimal"), "--set", "replicas=4"], "replicas"),
        ([*values("minimal"), "--set", "drainDelaySeconds=301"], "drainDelaySeconds"),
        ([*values("minimal"), "--set", "image.digest=latest"], "digest"),
        ([*values("autoscaling"), "--set", "autoscaling.minReplicas=11"], "minReplicas must not be more"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_rolled_out(chart, args, reason):
    result = template(chart, *args)
    assert result.returncode != 0
    assert reason in result.stderr, result.stderr
    assert "hush" not in result.stderr, "a secret is not repeated"


def test_rules_are_refused_where_there_are_none(chart, tmp_path):
    bare = tmp_path / "tenant-auth"
    shutil.copytree(chart, bare, ignore=shutil.ignore_patterns("files"))
    for switch, file in [("prometheusRule", "alerts.yaml"), ("dashboard", "dashboard.json")]:
        result = template(bare, *values("minimal"), "--set", f"{switch}.enabled=true")
        assert result.returncode != 0
        assert f"files/{file}" in result.stderr


def test_rules_and_dashboard_arrive_unchanged(rendered):
    assert rendered["everything-on"].one("PrometheusRule")["spec"] == yaml.safe_load(ALERTS)
    assert rendered["everything-on"].one("ConfigMap")["data"] == {"tenant-auth.json": '{\n  "title": "made-up"\n}'}


@pytest.mark.parametrize("case", CASES)
def test_selectors_meet_the_pods(rendered, case):
    labels = rendered[case].one("Deployment")["spec"]["template"]["metadata"]["labels"]
    selectors = [rendered[case].one("Deployment")["spec"]["selector"]["matchLabels"]]
    selectors += [each["spec"]["selector"] for each in rendered[case].all("Service")]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in rendered[case].all("PodDisruptionBudget")]
    selectors += [each["spec"]["podSelector"]["matchLabels"] for each in rendered[case].all("NetworkPolicy")]
    for selector in selectors:
        assert selector.items() <= labels.items()
        assert "helm.sh/chart" not in selector, "a new version of the chart must not lose its pods"


def test_the_headless_service_is_what_clients_balance_over_and_prometheus_scrapes(rendered):
    services = {each["metadata"]["name"]: each for each in rendered["everything-on"].all("Service")}
    headless = services["auth-tenant-auth-headless"]
    assert headless["spec"]["clusterIP"] == "None"
    assert [port["name"] for port in headless["spec"]["ports"]] == ["grpc", "ops"]
    monitor = rendered["everything-on"].one("ServiceMonitor")["spec"]
    wanted = monitor["selector"]["matchLabels"].items()
    met = [name for name, each in services.items() if wanted <= each["metadata"]["labels"].items()]
    assert met == ["auth-tenant-auth-headless"], "each replica once"
    assert monitor["endpoints"] == [{"port": "ops", "path": "/metrics", "interval": "15s"}]
    assert monitor["namespaceSelector"] == {"matchNames": ["prod"]}


def test_autoscaling_decides_alone(rendered):
    scaler = rendered["autoscaling"].one("HorizontalPodAutoscaler")["spec"]
    deployment = rendered["autoscaling"].one("Deployment")
    assert scaler["scaleTargetRef"]["name"] == deployment["metadata"]["name"]
    assert [metric["resource"]["name"] for metric in scaler["metrics"]] == ["cpu"]
    assert "replicas" not in deployment["spec"], "an upgrade would undo what it decided"
    assert rendered["autoscaling"].container()["resources"]["requests"]["cpu"], "a percentage of nothing"
    assert rendered["minimal"].one("Deployment")["spec"]["replicas"] == 3


def test_the_network_lets_in_whom_it_was_told_to(rendered):
    usual = rendered["minimal"].one("NetworkPolicy")["spec"]
    assert sorted(usual["policyTypes"]) == ["Egress", "Ingress"]
    grpc, ops = usual["ingress"]
    assert grpc == {"ports": [{"port": "grpc", "protocol": "TCP"}], "from": [{"podSelector": {}}]}
    assert ops["ports"] == [{"port": "ops", "protocol": "TCP"}]
    assert [rule["ports"][0]["port"] for rule in usual["egress"]] == [53, 443]
    told = rendered["everything-on"].one("NetworkPolicy")["spec"]
    names = [rule["from"][0]["namespaceSelector"]["matchLabels"] for rule in told["ingress"]]
    assert names == [{"kubernetes.io/metadata.name": "api"}, {"kubernetes.io/metadata.name": "monitoring"}]
    assert told["egress"][1]["to"] == [{"ipBlock": {"cidr": "203.0.113.0/24"}}]
    assert told["egress"][2] == {"ports": [{"port": 4317, "protocol": "TCP"}]}


def test_replicas_are_spread(rendered):
    keys = [each["topologyKey"] for each in rendered["minimal"].pod()["topologySpreadConstraints"]]
    assert keys == ["topology.kubernetes.io/zone", "kubernetes.io/hostname"]
    (only,) = rendered["everything-on"].pod()["topologySpreadConstraints"]
    assert only["maxSkew"] == 2


def test_production_runs_only_what_was_released_unless_told_otherwise(rendered):
    required = {case: rendered[case].environment()["TENANT_AUTH_REQUIRE_CANONICAL_BUILD"] for case in CASES}
    assert required == {"minimal": "true", "everything-on": "true", "everything-off": "false", "autoscaling": "true"}


def test_a_digest_wins_over_a_tag(chart, rendered):
    assert rendered["minimal"].container()["image"] == "tenant-auth:0.1.0"
    assert rendered["everything-on"].container()["image"].startswith("tenant-auth@sha256:")
    tagged = Rendered(succeeded(template(chart, *values("minimal"), "--set", "image.tag=1.2.3")))
    assert tagged.container()["image"] == "tenant-auth:1.2.3"


def test_a_long_release_name_still_makes_valid_names(chart):
    name = "r" * 53
    text = succeeded(run(TOOLS / "helm", "template", name, chart, "--kube-version", "1.37", *values("minimal")))
    assert all(len(each["metadata"]["name"]) <= 63 for each in Rendered(text).objects)


def test_the_notes_warn_of_what_is_open(chart, tmp_path):
    # `helm template` shows no notes, and `helm install` asks a cluster; so a manifest of the test's own quotes them.
    quoting = tmp_path / "tenant-auth"
    shutil.copytree(chart, quoting)
    notes = '{{ include (print .Template.BasePath "/NOTES.txt") . | toJson }}'
    manifest = f"{{apiVersion: v1, kind: ConfigMap, metadata: {{name: notes}}, data: {{notes: {notes}}}}}\n"
    (quoting / "templates" / "notes.yaml").write_text(manifest)

    def told(case):
        return Rendered(succeeded(template(quoting, *values(case)))).one("ConfigMap")["data"]["notes"]

    assert told("everything-off").count("WARNING") == 3
    assert "WARNING" not in told("minimal")
    assert "dns:///auth-tenant-auth-headless.prod.svc:50051" in told("minimal")
