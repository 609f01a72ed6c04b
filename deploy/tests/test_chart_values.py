"""Values of every type in a values file reach the service with the same meaning."""

import ssl
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import kubernetes_validate
import pytest
import yaml

from chart import CASES, render
from deployment import DEPLOY, PROGRAMS, check_config, run, succeeded


def checked_config(environment, folder):
    ours = {name: value for name, value in environment.items() if name.startswith("TENANT_AUTH_")}
    return succeeded(check_config(ours, folder=folder))


def test_settings_reach_the_service_unchanged(chart, tmp_path):
    settings = {
        # A float to Helm, which writes 2e+06 for it.
        "TENANT_AUTH_CACHE_KEYS": 2000000,
        "TENANT_AUTH_CACHE_SESSIONS": 100_000_000,
        "TENANT_AUTH_MAX_REQUESTS": 1000000,
        "TENANT_AUTH_USAGE_QUEUE": "1000000",
        "TENANT_AUTH_TRACE_SAMPLE": 0.00001,
        "TENANT_AUTH_CALLER_SHARE": 50,
        "TENANT_AUTH_CACHE_GRACE": "1h",
        # false, in YAML.
        "TENANT_AUTH_FEED_INTERVAL": False,
        "TENANT_AUTH_HEARTBEAT_INTERVAL": "off",
    }
    resources = {"limits": {"memory": 200_000_000_000}}
    environment = render(chart, "minimal", yaml.safe_dump({"settings": settings, "resources": resources})).environment()
    assert environment["TENANT_AUTH_CACHE_KEYS"] == "2000000"
    assert environment["TENANT_AUTH_CACHE_SESSIONS"] == "100000000"
    assert environment["TENANT_AUTH_MAX_REQUESTS"] == "1000000"
    assert environment["TENANT_AUTH_USAGE_QUEUE"] == "1000000"
    assert environment["TENANT_AUTH_TRACE_SAMPLE"] == "0.00001"
    assert environment["TENANT_AUTH_CALLER_SHARE"] == "50"
    assert environment["TENANT_AUTH_FEED_INTERVAL"] == environment["TENANT_AUTH_HEARTBEAT_INTERVAL"] == "off"
    shown = checked_config(environment, tmp_path)
    for name in settings:
        assert any(line.startswith(f"{name} ") and line.endswith("(environment)") for line in shown.splitlines()), name


def test_unquoted_off_is_passed_as_off(chart):
    more = "settings: {TENANT_AUTH_FEED_INTERVAL: off}"
    assert render(chart, "minimal", more).environment()["TENANT_AUTH_FEED_INTERVAL"] == "off"


def test_integers_outside_settings_stay_integers(chart):
    more = """
replicaCount: 1000000
drainDelaySeconds: 300
service: {type: NodePort, port: 50051, nodePort: 32000}
podDisruptionBudget: {maxUnavailable: 1000000}
autoscaling: {enabled: false}
reconcile: {enabled: true, activeDeadlineSeconds: 1000000}
"""
    rendered = render(chart, "minimal", more)
    assert rendered.one("Deployment")["spec"]["replicas"] == 1000000
    assert rendered.pod()["terminationGracePeriodSeconds"] == 325
    assert rendered.one("PodDisruptionBudget")["spec"]["maxUnavailable"] == 1000000
    assert rendered.one("CronJob")["spec"]["jobTemplate"]["spec"]["activeDeadlineSeconds"] == 1000000
    scaled = render(chart, "autoscaling", "autoscaling: {minReplicas: 1000000, maxReplicas: 2000000}")
    spec = scaled.one("HorizontalPodAutoscaler")["spec"]
    assert (spec["minReplicas"], spec["maxReplicas"]) == (1000000, 2000000)


@pytest.mark.parametrize("name", ["a1e3", "on", "null", "yes"])
def test_names_like_yaml_literals_stay_strings(chart, name):
    more = f"""
fullnameOverride: "{name}"
priorityClassName: "1e3"
imagePullSecrets: [{{name: "123"}}]
serviceAccount: {{name: "{name}"}}
database: {{tokenSecret: {{name: "123", key: "456"}}, caConfigMap: {{name: "1e3", key: "0x1"}}}}
denySecret: {{name: "true", key: "no"}}
principal: {{keysSecret: {{name: "1e3", key: "on"}}, issuer: "1e3"}}
serviceMonitor: {{enabled: true, labels: {{release: "1"}}}}
dashboard: {{enabled: true}}
reconcile: {{enabled: true, timeZone: "1"}}
nodeSelector: {{disk: "true"}}
ingress: {{enabled: true, className: "1", hosts: ["123"], tlsSecretName: "1e3"}}
"""
    rendered = render(chart, "minimal", more, release="1e3", namespace="42")
    for each in rendered.objects:
        assert isinstance(each["metadata"]["name"], str)
        assert all(isinstance(value, str) for value in each["metadata"]["labels"].values())
        if each["kind"] != "ServiceMonitor":
            kubernetes_validate.validate(each, "1.37", strict=True)
    assert rendered.one("ServiceMonitor")["spec"]["namespaceSelector"] == {"matchNames": ["42"]}


def test_read_url_and_its_token_reach_the_service(chart):
    more = "database: {readUrl: 'https://near.example', readTokenSecret: {name: near, key: auth}}"
    rendered = render(chart, "minimal", f"{more}\nreconcile: {{enabled: true}}")
    (container,) = rendered.pod()["containers"]
    variables = {each["name"]: each.get("value") for each in container["env"]}
    assert variables["TENANT_AUTH_DATABASE_READ_URL"] == "https://near.example"
    assert variables["TENANT_AUTH_DATABASE_READ_TOKEN_FILE"] == "/run/tenant-auth/database-read/auth"
    assert "near" in [each.get("secret", {}).get("secretName") for each in rendered.pod()["volumes"]]
    (container,) = render(chart, "minimal").pod()["containers"]
    assert not [each for each in container["env"] if "READ_URL" in each["name"]]


def test_long_release_name_yields_valid_names(chart):
    more = "dashboard: {enabled: true}\nreconcile: {enabled: true}"
    for each in render(chart, "minimal", more, release="r" * 53).objects:
        assert len(each["metadata"]["name"]) <= (52 if each["kind"] == "CronJob" else 63), each["metadata"]["name"]


@pytest.mark.parametrize("more", ["", "nameOverride: identity", "fullnameOverride: keys"])
def test_renamed_objects_match_alerts_and_runbooks(chart, more):
    rendered = render(chart, "minimal", f"{more}\nserviceMonitor: {{enabled: true}}\n")
    label = rendered.one("ServiceMonitor")["spec"]["jobLabel"]
    (headless,) = [each for each in rendered.all("Service") if each["metadata"]["name"].endswith("-headless")]
    job = headless["metadata"]["labels"][label]
    rules = (DEPLOY / "observability" / "alerts.yaml").read_text()
    assert f'job="{job}"' in rules
    pods = rendered.one("Deployment")["spec"]["template"]["metadata"]["labels"]
    for page in (DEPLOY / "observability" / "runbooks").glob("*.md"):
        for line in page.read_text().splitlines():
            if " -l app.kubernetes.io/name=" in line:
                assert f" -l app.kubernetes.io/name={pods['app.kubernetes.io/name']} " in line, page.name


def test_every_container_gets_extra_variables_and_volumes(rendered):
    for pod in [rendered["everything-on"].pod(), rendered["everything-on"].job()["spec"]]:
        (container,) = pod["containers"]
        assert {"name": "TZ", "value": "UTC"} in container["env"]
        assert {"name": "scratch", "mountPath": "/tmp"} in container["volumeMounts"]
        assert {"name": "scratch", "emptyDir": {"sizeLimit": "1Mi"}} in pod["volumes"]


@pytest.mark.parametrize("kind", ["secret", "configMap"])
def test_private_ca_verifies_the_database(chart, tmp_path, kind):
    """With the chart's settings and mounts the service connects to such a database; without them it does not."""
    name = "caSecret" if kind == "secret" else "caConfigMap"
    rendered = render(chart, "minimal", f"database: {{{name}: {{name: private}}}}\nreconcile: {{enabled: true}}")
    for pod in [rendered.pod(), rendered.job()["spec"]]:
        (volume,) = [each for each in pod["volumes"] if each["name"] == "database-ca"]
        assert volume[kind]["items"] == [{"key": "ca.crt", "path": "ca.crt"}]
        mount = {"name": "database-ca", "mountPath": "/run/tenant-auth/database-ca", "readOnly": True}
        assert mount in pod["containers"][0]["volumeMounts"]
    # In the kubelet's layout.
    mounted = tmp_path / "database-ca"
    (mounted / "..2026").mkdir(parents=True)
    succeeded(
        run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
            "-days", "1", "-subj", "/CN=private", "-addext", "subjectAltName=IP:127.0.0.1",
            "-addext", "basicConstraints=critical,CA:FALSE", "-keyout", tmp_path / "key",
            "-out", mounted / "..2026" / "ca.crt")
    )  # fmt: skip
    (mounted / "..data").symlink_to("..2026")
    (mounted / "ca.crt").symlink_to("..data/ca.crt")
    folders = rendered.environment()["SSL_CERT_DIR"].replace("/run/tenant-auth/database-ca", str(mounted))
    assert folders.startswith("/etc/ssl/certs:"), "public CAs stay trusted"

    class Database(BaseHTTPRequestHandler):
        def do_POST(self):
            requests.append(self.path)
            self.send_error(401)

        def log_message(self, *_):
            pass

    requests = []
    server = HTTPServer(("127.0.0.1", 0), Database)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(mounted / "ca.crt", tmp_path / "key")
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    (tmp_path / "token").write_text("token")
    environment = {
        "TENANT_AUTH_DATABASE_URL": f"https://127.0.0.1:{server.server_port}",
        "TENANT_AUTH_DATABASE_TOKEN_FILE": str(tmp_path / "token"),
    }
    try:
        assert run(PROGRAMS / "tenant-auth-svc", "migrate", env=environment).returncode == 1
        assert not requests, "the certificate's CA is not trusted"
        result = run(PROGRAMS / "tenant-auth-svc", "migrate", env=environment | {"SSL_CERT_DIR": folders})
        assert requests and "HTTP 401" in result.stderr, result.stderr
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("case", CASES)
def test_openshift_assigns_the_user(chart, rendered, case):
    ids = {"runAsUser", "runAsGroup", "fsGroup"}
    there = ["--api-versions", "security.openshift.io/v1"]
    found = render(chart, case, "", *there)
    jobs = [each["spec"]["jobTemplate"]["spec"]["template"] for each in found.all("CronJob")]
    for pod in [found.pod(), *(job["spec"] for job in jobs)]:
        assert not ids & pod["securityContext"].keys()
        assert pod["securityContext"]["runAsNonRoot"] is True
    forced = render(chart, case, "openshift: 'no'", *there)
    assert ids <= forced.pod()["securityContext"].keys()
    assert ids & rendered["everything-on"].pod()["securityContext"].keys() == set(), "OpenShift assigns the user"


def test_default_listen_address_is_dual_stack(chart, tmp_path):
    environment = render(chart, "minimal").environment()
    assert environment["TENANT_AUTH_LISTEN"] == "[::]:50051"
    assert environment["TENANT_AUTH_OPS_LISTEN"] == "[::]:50052"
    assert "[::]:50051" in checked_config(environment, tmp_path)
    old = render(chart, "minimal", "listenAddress: 0.0.0.0").environment()
    assert old["TENANT_AUTH_LISTEN"] == "0.0.0.0:50051"


def test_reconcile_job_uses_the_database_of_the_replicas(rendered, tmp_path):
    for case in ["mesh", "everything-on"]:
        job = rendered[case].job()
        (container,) = job["spec"]["containers"]
        assert container["args"][0] == "reconcile"
        environment = {each["name"]: each.get("value") for each in container["env"]}
        replica = rendered[case].environment()
        assert environment.items() <= {**replica, "TOKIO_WORKER_THREADS": None}.items()
        for name in replica:
            if name.startswith(("TENANT_AUTH_DATABASE_", "TENANT_AUTH_USAGE_")) or name == "SSL_CERT_DIR":
                assert name in environment, name
        checked_config(environment, tmp_path)
        for service in rendered[case].all("Service"):
            assert not service["spec"]["selector"].items() <= job["metadata"]["labels"].items(), (
                "no Service selects the Job"
            )
        spec = rendered[case].one("CronJob")["spec"]
        assert (spec["concurrencyPolicy"], spec["jobTemplate"]["spec"]["backoffLimit"]) == ("Forbid", 0)
    assert rendered["everything-on"].job()["spec"]["containers"][0]["args"] == ["reconcile", "--tenant", "ten_1"]


def test_reconcile_job_has_a_valid_command_line(rendered, tmp_path):
    """It exits with 1 because the database is empty, not with 2 because of an invalid command line."""
    environment = {"TENANT_AUTH_DATABASE_URL": "http://127.0.0.1:1"}
    args = rendered["everything-on"].job()["spec"]["containers"][0]["args"]
    assert run(PROGRAMS / "tenant-auth-svc", *args, env=environment).returncode == 1
