"""The chart rejects values that cannot work, before anything is rolled out, and names the remedy."""

import pytest

from chart import template

IMAGE = "image: {repository: example/tenant-auth}\n"
DATABASE = "database: {url: 'http://sqld:8080'}\n"
FORWARD = "forward: {enabled: true}\n"
CALLERS = "networkPolicy: {callers: [{podSelector: {}}]}\n"
ANONYMOUS = "callersSecret: {name: ''}\nallowAnonymous: true\n"


@pytest.mark.parametrize(
    ("case", "more", "reason"),
    [
        (None, "", "database.url must be set"),
        (None, "database: {url: 'libsql://db.example'}", "database.tokenSecret.name must be set"),
        (None, DATABASE, "TLS is required"),
        (None, f"{DATABASE}allowPlaintext: true\nallowAnonymous: true\n", "image.repository must be set"),
        ("minimal", "image: {repository: ''}", "image.repository must be set"),
        ("minimal", "image: {tag: 1.10}", "tag"),
        ("minimal", "image: {digest: latest}", "digest"),
        ("minimal", "callersSecret: {name: ''}", "callers must be known"),
        ("minimal", "tls: {secretName: ''}", "TLS is required"),
        ("everything-on", "callersSecret: {name: ''}\nallowAnonymous: true", "tls.clientCaSecret needs callersSecret"),
        ("everything-off", "tls: {clientCaSecret: {name: ca}}", "needs tls.secretName"),
        (None, "database: {url: 'libsql://db.example?authToken=hush'}", "hold no credentials"),
        (None, "database: {url: 'https://user:hush@db.example'}", "hold no credentials"),
        (None, "database: {url: 'file:auth.db'}", "must begin with libsql://"),
        ("minimal", "database: {readUrl: 'https://user:hush@near.example'}", "hold no credentials"),
        ("minimal", "database: {readUrl: 'libsql://db.example/', url: 'libsql://db.example'}", "must not be database.url"),
        ("minimal", "database: {readTokenSecret: {name: near}}", "not used without database.readUrl"),
        ("everything-on", "database: {caConfigMap: {name: ca}}", "exclude each other"),
        # Anonymous callers from outside could administer.
        ("minimal", f"{ANONYMOUS}service: {{type: LoadBalancer}}", "let anybody administer"),
        ("minimal", f"{ANONYMOUS}ingress: {{enabled: true, hosts: [auth.example]}}", "let anybody administer"),
        ("minimal", f"{ANONYMOUS}grpcRoute: {{enabled: true, parentRefs: [{{name: g}}]}}", "let anybody administer"),
        ("everything-off", "service: {type: NodePort}", "let anybody administer"),
        ("minimal", f"{ANONYMOUS}{CALLERS}service: {{type: NodePort}}\n{FORWARD}", "let anybody try keys"),
        # Front doors.
        ("minimal", "forward: {enabled: true, port: 50051}", "forward.port must differ"),
        ("minimal", "console: {enabled: true}", "console.peersTokenSecret.name must be set"),
        ("minimal", "forward: {enabled: true, trustedPeers: [proxy]}", "/forward/trustedPeers/0"),
        ("minimal", "forward: {trusted: [10.0.0.0/8]}", "trusted"),
        ("minimal", "principal: {keysSecret: {name: keys}}", "principal.issuer must be set"),
        ("minimal", "principal: {issuer: 'https://auth.example'}", "principal.keysSecret.name must be set"),
        ("minimal", "principal: {keysSecret: {name: keys}, issuer: two words}", "/principal/issuer"),
        ("minimal", "grpcRoute: {services: [envoy.service.auth.v2.Authorization]}", "/grpcRoute/services/0"),
        ("minimal", "ingress: {enabled: true}", "ingress.hosts must name"),
        ("minimal", "grpcRoute: {enabled: true}", "grpcRoute.parentRefs must name"),
        # The same variable set twice.
        ("minimal", "settings: {TENANT_AUTH_LISTEN: '[::]:1'}", "settings.TENANT_AUTH_LISTEN is set by another value"),
        ("minimal", "settings: {TENANT_AUTH_FORWARD_LISTEN: '[::]:1'}", "settings.TENANT_AUTH_FORWARD_LISTEN is set"),
        ("minimal", "extraEnv: [{name: TENANT_AUTH_LISTEN, value: x}]", "extraEnv: TENANT_AUTH_LISTEN is set already"),
        ("nlb", "extraEnv: [{name: TENANT_AUTH_CACHE_KEYS, value: '1'}]", "extraEnv: TENANT_AUTH_CACHE_KEYS is set"),
        ("everything-on", "extraEnv: [{name: SSL_CERT_DIR, value: /x}]", "extraEnv: SSL_CERT_DIR is set already"),
        ("minimal", "extraEnv: [{name: A, value: x}, {name: A, value: y}]", "extraEnv: A is set already"),
        ("minimal", "extraVolumes: [{name: tls, emptyDir: {}}]", "extraVolumes: tls is the name of a volume"),
        # Labels by which alert rules, runbooks, Services and policies select the pods.
        ("minimal", "podLabels: {app.kubernetes.io/name: x}", "podLabels must not set app.kubernetes.io/name"),
        (
            "minimal",
            "reconcile: {podLabels: {app.kubernetes.io/name: tenant-auth}}",
            "reconcile.podLabels must not set",
        ),
        ("minimal", "serviceMonitor: {labels: {app.kubernetes.io/name: x}}", "serviceMonitor.labels must not set"),
        ("minimal", "serviceMonitor: {interval: 1m}", "/serviceMonitor/interval"),
        ("minimal", "fullnameOverride: '1e3'", "cannot be the name of a Service"),
        ("minimal", "nameOverride: Identity", "cannot be the name of a Service"),
        # Misspelt, or out of range.
        ("minimal", "settings: {GRACE: 1h}", "GRACE"),
        ("minimal", "replicas: 4", "replicas"),
        ("minimal", "drainDelaySeconds: 301", "drainDelaySeconds"),
        ("minimal", "service: {type: ExternalName}", "/service/type"),
        ("minimal", "listenAddress: localhost", "listenAddress"),
        ("minimal", "networkPolicy: {mesh: {kind: consul}}", "/networkPolicy/mesh/kind"),
        ("autoscaling", "autoscaling: {minReplicas: 11}", "minReplicas must not be more"),
        # A memory limit that is too small.
        ("minimal", "settings: {TENANT_AUTH_CACHE_KEYS: 2000000}", "Set resources.limits.memory to 2366Mi or more"),
        ("minimal", "settings: {TENANT_AUTH_CACHE_SESSIONS: '1000000'}", "Set resources.limits.memory to"),
        ("minimal", "settings: {TENANT_AUTH_CACHE_NEGATIVE_ENTRIES: 1000000}", "Set resources.limits.memory to"),
        ("minimal", "settings: {TENANT_AUTH_USAGE_QUEUE: 1000000}", "Set resources.limits.memory to"),
        ("minimal", "resources: {limits: {memory: 500Mi}}", 'resources.limits.memory is "500Mi", which is 500 MiB'),
        ("minimal", "resources: {limits: {memory: 512}}", 'resources.limits.memory is "512", which is 0 MiB'),
        ("minimal", "resources: {limits: {memory: 512MB}}", "not a quantity"),
    ],
)
def test_invalid_values_are_refused_before_rollout(chart, case, more, reason):
    result = template(chart, case, more)
    assert result.returncode != 0
    assert reason in result.stderr, result.stderr
    assert "hush" not in result.stderr, "a secret is not repeated"


@pytest.mark.parametrize(
    ("memory", "keys"),
    [
        ("512Mi", 100000),
        ("536870912", 100000),
        (536870912, 100000),
        ("1e9", 500000),
        ("0.5Gi", 100000),
        ("524288Ki", 100000),
        ("600M", 100000),
        ("536870912000m", 100000),
        ("3Gi", 2000000),
        ("1Ti", 100000000),
    ],
)
def test_sufficient_memory_is_accepted_in_any_notation(chart, memory, keys):
    more = f"resources: {{limits: {{memory: {memory!r}}}}}\nsettings: {{TENANT_AUTH_CACHE_KEYS: {keys}}}"
    assert template(chart, "minimal", more).returncode == 0


def test_missing_memory_limit_is_accepted(chart):
    more = "resources: {limits: {memory: null}}\nsettings: {TENANT_AUTH_CACHE_KEYS: 2000000}"
    assert template(chart, "minimal", more).returncode == 0
