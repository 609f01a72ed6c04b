"""Network policies in three clusters: minimal values, a connection-level load balancer, a mesh."""

import json
import os
import socket
import subprocess

import kubernetes_validate
import pytest

from chart import OPERATORS, render
from deployment import PROGRAMS, SHUTDOWN_SECONDS, check_config
from network_policy import allows, pod

SAME_NAMESPACE_POD = pod("prod", app="api")
OTHER_NAMESPACE_POD = pod("elsewhere")
PROMETHEUS = pod("monitoring")
# Link-local addresses of a DNS cache on the node, of either family; and a node.
DNS = ["169.254.20.10", "fd00::a", "10.0.0.7"]
EXTERNAL_ADDRESS = "203.0.113.9"


def policy(chart, case, more=""):
    return render(chart, case, more).policy()


def assert_dns_is_allowed(spec):
    for protocol in ["UDP", "TCP"]:
        for address in DNS:
            assert allows(spec, "to", 53, address, protocol), f"a cache on the node at {address}"
        assert allows(spec, "to", 53, pod("kube-system"), protocol)
        assert allows(spec, "to", 5353, pod("openshift-dns"), protocol)


ALL_OTHER_VALUES = """
database: {caSecret: {name: private}}
settings: {TENANT_AUTH_CACHE_SESSIONS: 1000000, TENANT_AUTH_MAX_CONNECTIONS: 2000000}
resources: {limits: {memory: 8Gi}}
service: {type: LoadBalancer, ipFamilyPolicy: SingleStack, ipFamilies: [IPv6]}
ingress: {enabled: true, hosts: [auth.example]}
grpcRoute: {enabled: true, parentRefs: [{name: public}]}
serviceMonitor: {enabled: true}
reconcile: {enabled: true}
extraEnv: [{name: TZ, value: UTC}]
extraVolumes: [{name: scratch, emptyDir: {}}]
extraVolumeMounts: [{name: scratch, mountPath: /tmp}]
"""


@pytest.mark.parametrize("case", ["minimal", "nlb", "mesh"])
def test_every_case_accepts_all_other_values(chart, rendered, case, tmp_path):
    assert_dns_is_allowed(rendered[case].policy())
    more = render(chart, case, ALL_OTHER_VALUES, "--api-versions", "security.openshift.io/v1")
    environment = {name: value for name, value in more.environment().items() if name.startswith("TENANT_AUTH_")}
    assert environment["TENANT_AUTH_CACHE_SESSIONS"] == "1000000"
    assert environment["TENANT_AUTH_MAX_CONNECTIONS"] == "2000000"
    result = check_config(environment, folder=tmp_path)
    # The service's maximum is a million, which has to be passed as a whole number.
    assert "TENANT_AUTH_MAX_CONNECTIONS" in result.stderr and "1000000" in result.stderr
    assert "CACHE" not in result.stderr and "LISTEN" not in result.stderr
    assert environment["TENANT_AUTH_LISTEN"] == "[::]:50051"
    assert more.container()["image"].startswith("example/tenant-auth:")
    assert {"name": "TZ", "value": "UTC"} in more.container()["env"]
    assert {"scratch", "database-ca"} <= {each["name"] for each in more.pod()["volumes"]}
    assert "runAsUser" not in more.pod()["securityContext"]
    for each in more.all("Service"):
        assert each["metadata"]["labels"][more.one("ServiceMonitor")["spec"]["jobLabel"]] == "tenant-auth"
        assert each["spec"]["ipFamilies"] == ["IPv6"]
    assert more.job()["spec"]["containers"][0]["args"] == ["reconcile"]
    for each in more.objects:
        if each["kind"] not in OPERATORS:
            kubernetes_validate.validate(each, "1.37", strict=True)


def test_minimal_policy_allows_callers_and_database(chart, rendered):
    spec = rendered["minimal"].policy()
    assert sorted(spec["policyTypes"]) == ["Egress", "Ingress"]
    assert allows(spec, "from", 50051, SAME_NAMESPACE_POD)
    assert not allows(spec, "from", 50051, OTHER_NAMESPACE_POD)
    assert not allows(spec, "from", 50051, EXTERNAL_ADDRESS)
    assert allows(spec, "from", 50052, PROMETHEUS)
    assert not allows(spec, "from", 50052, EXTERNAL_ADDRESS)
    assert_dns_is_allowed(spec)
    assert allows(spec, "to", 443, EXTERNAL_ADDRESS), "the database, by its URL"
    for port in [80, 8080, 4317, 15012, 6443]:
        assert not allows(spec, "to", port, OTHER_NAMESPACE_POD), port
    service = rendered["minimal"].named("Service", "auth-tenant-auth")["spec"]
    assert (service["type"], service["ports"][0]["appProtocol"]) == ("ClusterIP", "https")
    assert not {"ipFamilyPolicy", "ipFamilies", "loadBalancerClass", "externalTrafficPolicy"} & service.keys()


def test_nlb_probes_readiness_and_reaches_the_pods(rendered):
    nlb = rendered["nlb"]
    service = nlb.named("Service", "auth-tenant-auth")
    spec = service["spec"]
    assert (spec["type"], spec["loadBalancerClass"]) == ("LoadBalancer", "service.k8s.aws/nlb")
    assert spec["loadBalancerSourceRanges"] == ["203.0.113.0/24"]
    assert spec["ports"] == [{"name": "grpc", "port": 443, "targetPort": "grpc"}], (
        "no appProtocol, which a balancer would probe by"
    )
    for each in nlb.all("Service"):
        assert (each["spec"]["ipFamilyPolicy"], each["spec"]["ipFamilies"]) == ("RequireDualStack", ["IPv4", "IPv6"])
    prefix = "service.beta.kubernetes.io/aws-load-balancer-"
    annotations = {name.removeprefix(prefix): value for name, value in service["metadata"]["annotations"].items()}
    assert annotations["nlb-target-type"] == "ip"
    # The load balancer probes readiness, and the policy allows it.
    ops = {each["name"]: each["containerPort"] for each in nlb.container()["ports"]}["ops"]
    probe = nlb.container()["readinessProbe"]["httpGet"]
    assert (annotations["healthcheck-port"], annotations["healthcheck-path"]) == (str(ops), probe["path"])
    detection_time = int(annotations["healthcheck-interval"]) * int(annotations["healthcheck-unhealthy-threshold"])
    drain = int(nlb.environment()["TENANT_AUTH_DRAIN_DELAY"].removesuffix("s"))
    assert drain > detection_time, "the balancer stops new connections before the drain delay ends"
    for address in [EXTERNAL_ADDRESS, "10.1.2.3", "2001:db8::9"]:
        assert allows(nlb.policy(), "from", 50051, address)
        assert allows(nlb.policy(), "from", 50052, address)
    assert_dns_is_allowed(nlb.policy())
    assert nlb.environment()["TENANT_AUTH_CACHE_KEYS"] == "2000000"
    assert nlb.environment()["TENANT_AUTH_LISTEN"] == "[::]:50051"


def test_mesh_policy_allows_sidecars_and_control_plane(rendered):
    mesh = rendered["mesh"]
    spec = mesh.policy()
    # The database and the collector, which are named, and the sidecar's control plane.
    assert allows(spec, "to", 8080, pod("data"))
    assert allows(spec, "to", 4317, pod("observability"))
    assert allows(spec, "to", 15012, pod("istio-system"))
    assert not allows(spec, "to", 15012, OTHER_NAMESPACE_POD)
    assert allows(spec, "to", 15008, pod("data"))
    assert not allows(spec, "to", 443, EXTERNAL_ADDRESS)
    assert_dns_is_allowed(spec)
    for port in [50051, 15008]:
        assert allows(spec, "from", port, pod("api"))
    assert not allows(spec, "from", 50051, OTHER_NAMESPACE_POD)
    for port in [50052, 15020, 15021, 15090]:
        assert allows(spec, "from", port, PROMETHEUS), port
    annotations = mesh.one("Deployment")["spec"]["template"]["metadata"]["annotations"]
    ops = {each["name"]: each["containerPort"] for each in mesh.container()["ports"]}["ops"]
    assert annotations["traffic.sidecar.istio.io/excludeInboundPorts"] == str(ops), "Prometheus has no certificate"
    config = json.loads(annotations["proxy.istio.io/config"])
    seconds = int(config["terminationDrainDuration"].removesuffix("s"))
    assert 5 + SHUTDOWN_SECONDS < seconds < mesh.pod()["terminationGracePeriodSeconds"], "the sidecar runs as long as the service"
    # Another name, and the alerts still select it.
    (headless,) = [each for each in mesh.all("Service") if each["metadata"]["name"] == "auth-identity-headless"]
    assert headless["metadata"]["labels"][mesh.one("ServiceMonitor")["spec"]["jobLabel"]] == "tenant-auth"
    # The Job reaches the database, nothing reaches the Job, and no sidecar keeps it from completing.
    reconcile = mesh.named("NetworkPolicy", "auth-identity-reconcile")["spec"]
    labels = mesh.job()["metadata"]["labels"]
    assert reconcile["podSelector"]["matchLabels"].items() <= labels.items()
    assert not spec["podSelector"]["matchLabels"].items() <= labels.items()
    assert labels["sidecar.istio.io/inject"] == "false"
    assert allows(reconcile, "to", 8080, pod("data"))
    assert_dns_is_allowed(reconcile)
    assert not allows(reconcile, "from", 50051, pod("api"))
    assert mesh.named("Service", "auth-identity")["spec"]["ports"][0]["appProtocol"] == "kubernetes.io/h2c"


def test_ambient_and_linkerd_use_their_own_ports(chart):
    ambient = policy(chart, "mesh", "networkPolicy: {mesh: {kind: istio-ambient}}")
    assert allows(ambient, "to", 15008, pod("data")) and allows(ambient, "from", 15008, pod("api"))
    for probe in ["169.254.7.127", "fd16:9254:7127:1337:ffff:ffff:ffff:ffff"]:
        assert allows(ambient, "from", 50052, probe), "the kubelet's probes, as Istio forwards them"
        assert not allows(ambient, "from", 50051, probe)
    linkerd = policy(chart, "mesh", "networkPolicy: {mesh: {kind: linkerd, controlPlane: null}}")
    for port in [8080, 8086, 8090]:
        assert allows(linkerd, "to", port, pod("linkerd")), port
    assert allows(linkerd, "to", 4143, pod("data")) and allows(linkerd, "from", 4143, pod("api"))
    assert allows(linkerd, "from", 4191, PROMETHEUS)
    none = policy(chart, "mesh", "networkPolicy: {mesh: {kind: ''}}")
    for port in [15008, 15012, 4143]:
        assert not allows(none, "to", port, OTHER_NAMESPACE_POD), port


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("libsql://db.example", 443),
        ("https://db.example/", 443),
        ("https://db.example:8443", 8443),
        ("http://sqld", 80),
        ("http://sqld:8080", 8080),
        ("http://[fd00::1]:8080", 8080),
        ("http://[fd00::1]", 80),
        ("libsql://sqld?tls=0", 80),
        ("libsql://sqld:8081?tls=0", 8081),
    ],
)
def test_database_egress_follows_the_url(chart, url, port):
    spec = policy(chart, "minimal", f"database: {{url: '{url}'}}")
    assert {each for each in [80, 443, 8080, 8081, 8443] if allows(spec, "to", each, EXTERNAL_ADDRESS)} == {port}


def test_database_egress_follows_both_urls(chart):
    spec = policy(chart, "minimal", "database: {readUrl: 'https://near.example:8443'}")
    assert {each for each in [80, 443, 8080, 8443] if allows(spec, "to", each, EXTERNAL_ADDRESS)} == {443, 8443}


@pytest.mark.parametrize(("endpoint", "port"), [("http://c:4317", 4317), ("http://c", 80), ("https://c.example", 443)])
def test_collector_egress_follows_the_endpoint(chart, endpoint, port):
    spec = policy(
        chart,
        "minimal",
        f"otlpEndpoint: '{endpoint}'\ndatabase: {{url: 'http://sqld:8080', tokenSecret: {{name: ''}}}}",
    )
    assert {each for each in [80, 443, 4317] if allows(spec, "to", each, OTHER_NAMESPACE_POD)} == {port}


def test_explicit_policy_values_override_the_defaults(chart, rendered):
    spec = rendered["everything-on"].policy()
    assert allows(spec, "from", 50051, pod("api")) and not allows(spec, "from", 50051, OTHER_NAMESPACE_POD)
    assert allows(spec, "from", 50052, PROMETHEUS) and not allows(spec, "from", 50052, OTHER_NAMESPACE_POD)
    assert allows(spec, "to", 53, "169.254.20.10", "UDP") and not allows(spec, "to", 53, "10.0.0.10", "UDP")
    # Through a proxy: the proxy's port.
    assert allows(spec, "to", 3128, EXTERNAL_ADDRESS) and not allows(spec, "to", 3128, "198.51.100.1")
    assert allows(spec, "to", 443, "198.51.100.1") and not allows(spec, "to", 443, EXTERNAL_ADDRESS)
    assert allows(spec, "from", 9999, OTHER_NAMESPACE_POD) and allows(spec, "to", 123, OTHER_NAMESPACE_POD, "UDP")
    # Behind a Service of the cluster the pods' port counts.
    moved = policy(chart, "mesh", "networkPolicy: {database: {port: 8081}, otlp: {port: 14317}}")
    assert allows(moved, "to", 8081, pod("data")) and not allows(moved, "to", 8080, pod("data"))
    assert allows(moved, "to", 14317, OTHER_NAMESPACE_POD) and not allows(moved, "to", 4317, OTHER_NAMESPACE_POD)


@pytest.mark.parametrize(
    "more",
    [
        "service: {type: NodePort}",
        "ingress: {enabled: true, hosts: [auth.example]}",
        "grpcRoute: {enabled: true, parentRefs: [{name: public}]}",
    ],
)
def test_external_exposure_opens_the_policy(chart, more):
    spec = policy(chart, "minimal", more)
    for peer in [OTHER_NAMESPACE_POD, EXTERNAL_ADDRESS]:
        assert allows(spec, "from", 50051, peer) and allows(spec, "from", 50052, peer)
    narrowed = policy(chart, "minimal", f"{more}\nnetworkPolicy: {{callers: [{{ipBlock: {{cidr: 10.0.0.0/8}}}}]}}")
    assert allows(narrowed, "from", 50051, "10.1.2.3") and not allows(narrowed, "from", 50051, EXTERNAL_ADDRESS)


def test_routes_target_the_service(rendered):
    port = rendered["everything-on"].named("Service", "auth-tenant-auth")["spec"]["ports"][0]
    route = rendered["everything-on"].one("GRPCRoute")
    assert route["apiVersion"] == "gateway.networking.k8s.io/v1"
    assert route["spec"]["parentRefs"] == [{"name": "public", "namespace": "gateways"}]
    assert route["spec"]["hostnames"] == ["auth.example"]
    (rule,) = route["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": "auth-tenant-auth", "port": port["port"]}]
    services = [match["method"]["service"] for match in rule["matches"]]
    assert services == ["tenantauth.v1.ValidationService", "tenantauth.v1.SessionService"]
    ingress = rendered["everything-on"].one("Ingress")
    assert ingress["metadata"]["annotations"] == {"nginx.ingress.kubernetes.io/backend-protocol": "GRPCS"}
    assert ingress["spec"]["ingressClassName"] == "nginx"
    assert ingress["spec"]["tls"] == [{"secretName": "auth-example", "hosts": ["auth.example"]}]
    (rule,) = ingress["spec"]["rules"]
    (path,) = rule["http"]["paths"]
    assert path["path"] == "/tenantauth.v1.ValidationService/"
    assert path["backend"]["service"] == {"name": "auth-tenant-auth", "port": {"name": port["name"]}}


def test_listen_address_accepts_ipv4_and_ipv6(rendered):
    """Tested with a running service; a machine without IPv6 cannot test it."""
    if not _listens_on_ipv6():
        pytest.skip("SKIPPED: this machine has no IPv6")
    address = rendered["minimal"].environment()["TENANT_AUTH_LISTEN"].replace(":50051", ":0")
    environment = {
        "TENANT_AUTH_DATABASE_URL": "http://127.0.0.1:1",
        "TENANT_AUTH_LISTEN": address,
        "TENANT_AUTH_OPS_LISTEN": address,
        "TENANT_AUTH_LOG_FORMAT": "json",
        "TENANT_AUTH_ALLOW_PLAINTEXT": "true",
        "TENANT_AUTH_ALLOW_ANONYMOUS": "true",
        "PATH": os.environ["PATH"],
    }
    command = [PROGRAMS / "tenant-auth-svc", "serve"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as serve:
        try:
            log_line = next(line for line in map(json.loads, serve.stderr) if "ops" in line)
            for address in [log_line["address"], log_line["ops"]]:
                for host in ["127.0.0.1", "::1"]:
                    socket.create_connection((host, int(address.rpartition(":")[2])), timeout=10).close()
        finally:
            serve.kill()


def _listens_on_ipv6():
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True
