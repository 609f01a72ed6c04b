"""States with a fault of the service, its configuration or its callers."""

import contextlib
import itertools
import signal
import socket
import urllib.request

import grpc
from states import state
from states_database import cached_key, record_usage_repeatedly, uncached_key
from testbed import validation_pb2

from deployment import PROGRAMS, run, self_signed, succeeded


@state
def healthy(testbed):
    """Two healthy replicas, with a caller."""
    replica = testbed.healthy_replica()
    testbed.replica().wait_for_status("process ready", "feed live")
    _, secret = cached_key(testbed)
    testbed.validate_repeatedly(lambda: secret)
    replica.wait_for_metric("tenant_auth_verdicts_total", lambda count: count > 3, verdict="valid")


@state
def replica_killed(testbed):
    """The only replica was killed."""
    replica = testbed.healthy_replica()
    cached_key(testbed)
    replica.end(signal.SIGKILL)


@state
def restarting(testbed):
    """Killed and started again, three times."""
    replica = testbed.healthy_replica()
    for _ in range(3):
        replica.end(signal.SIGKILL)
        replica.start()
    replica.wait_for_status("process ready")


@state
def not_ready(testbed):
    """Without a schema, and not configured to create one."""
    replica = testbed.replica(CREATE_SCHEMA="false", MIGRATE="false")
    replica.wait_for_status("process waiting for the database")
    replica.wait_for_log("has no schema")


@state
def mixed_builds(testbed):
    """Two different builds run at the same time: the second one's commit differs."""
    replica = testbed.healthy_replica()
    build = succeeded(run(PROGRAMS / "tenant-auth-svc", "--version"))
    commit = next(word for word in build.replace("(", " ").replace(")", " ").split() if len(word) == 40)
    patched_bytes, other = testbed.folder / "other-build.bytes", testbed.folder / "other-build"
    patched_bytes.write_bytes(
        (PROGRAMS / "tenant-auth-svc").read_bytes().replace(commit.encode(), commit[::-1].encode())
    )
    # Copied by another process: while this process has a file open for writing, a child forked by another thread
    # inherits it, and the file is busy.
    succeeded(run("install", "-m", "755", patched_bytes, other))
    testbed.replica(program=other).wait_for_status("process ready", "feed live")
    replica.wait_for_status("process ready")
    checkout(testbed)


def checkout(testbed):
    """A clone of a repository whose main has a commit, for the page's git commands."""
    author = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    remote = testbed.folder / "remote"
    succeeded(run("git", "init", "--quiet", "--initial-branch=main", remote))
    succeeded(run("git", *author, "commit", "--quiet", "--allow-empty", "--message=one", cwd=remote))
    testbed.placeholders["COMMIT"] = succeeded(run("git", "rev-parse", "HEAD", cwd=remote)).strip()
    testbed.working_folder = testbed.folder / "checkout"
    succeeded(run("git", "clone", "--quiet", remote, testbed.working_folder))


@state
def cache_too_small(testbed):
    """More keys in use than fit into the cache."""
    replica = testbed.healthy_replica(CACHE_KEYS="2", LOG_BURST="0")
    keys = [testbed.issue()[1] for _ in range(6)]
    next_key = iter(lambda: keys.append(keys.pop(0)) or keys[-1], None)
    testbed.validate_repeatedly(lambda: next(next_key))
    replica.wait_for_metric("tenant_auth_cache_evictions_total", lambda count: count > 0)


@state
def requests_cancelled(testbed):
    """Callers that cancel before they have a response."""
    replica = testbed.healthy_replica()
    cached_key(testbed)
    testbed.databases[0].command("fault reads latency 250")
    stub = testbed.stub("ValidationService")

    def cancel():
        call = stub.ValidateKey.future(
            validation_pb2.ValidateKeyRequest(key=uncached_key()), metadata=testbed.authorization()
        )
        testbed.stopping.wait(0.05)
        call.cancel()

    testbed.call_repeatedly(cancel)
    replica.wait_for_metric("grpc_server_handled_total", lambda count: count > 10, grpc_code="Canceled")


def connect(testbed, replica, count):
    """One connection for each caller."""
    for _ in range(count):
        channel = grpc.insecure_channel(f"{replica.host}:50051", options=[("grpc.use_local_subchannel_pool", 1)])
        grpc.channel_ready_future(channel).result(timeout=30)
        testbed.calls.append(channel)


@state
def connections_full(testbed):
    """The connection limit is reached, and more clients connect."""
    replica = testbed.healthy_replica(MAX_CONNECTIONS="8")
    connect(testbed, replica, 8)

    def connect_once():
        with socket.create_connection((replica.host, 50051)) as one:
            one.settimeout(1)
            with contextlib.suppress(OSError):
                one.recv(1)

    testbed.call_repeatedly(connect_once)
    replica.wait_for_metric("tenant_auth_connections_refused_total", lambda count: count > 0)


@state
def near_limits(testbed):
    """Nine tenths of the connection limit are in use."""
    replica = testbed.healthy_replica(MAX_CONNECTIONS="20")
    connect(testbed, replica, 18)
    replica.wait_for_metric("tenant_auth_connections", lambda count: count >= 17)


@state
def handshakes_failing(testbed):
    """A client without TLS connects to a TLS port."""
    self_signed(testbed.folder)
    certificate, key = testbed.folder / "self-signed.crt", testbed.folder / "self-signed.key"
    replica = testbed.replica(TLS_CERT_FILE=certificate, TLS_KEY_FILE=key)
    replica.wait_for_status("process ready")

    def connect_without_tls():
        with socket.create_connection((replica.host, 50051)) as one:
            one.sendall(b"GET / HTTP/1.1\r\n\r\n")

    testbed.call_repeatedly(connect_without_tls)
    replica.wait_for_metric("tenant_auth_tls_handshakes_failed_total", lambda count: count > 5)


@state
def front_door_rejected(testbed):
    """Proxies with a wrong token, without a role, with a misspelt setting, and at a wrong path; and one that works."""
    token, digest = testbed.caller_token()
    proxy = f'[[caller]]\nname = "edge"\nroles = ["proxy"]\ntoken_sha256 = ["{digest}"]\n'
    testbed.write("callers.toml", testbed.callers.read_text() + proxy)
    testbed.placeholders["PROXY_TOKEN_FILE"] = str(testbed.write("proxy-token", token + "\n"))
    testbed.placeholders["CALLERS_FILE"] = str(testbed.callers)
    replica = testbed.replica(start=False)
    replica.variables["TENANT_AUTH_FORWARD_LISTEN"] = f"{replica.host}:50053"
    replica.start().wait_for_status("process ready", "feed live")
    asked = itertools.cycle(
        [("tac_wrong", ""), (testbed.operator_token, ""), (token, "?scope=x"), (token, "/other"), (token, "")]
    )
    testbed.call_repeatedly(lambda: ask_door(replica, *next(asked)))
    ask_as_envoy(testbed, replica, token)
    for door in ("forward_auth", "ext_authz"):
        for code in ("UNKNOWN_CALLER", "PROXY_MISCONFIGURED"):
            name = "tenant_auth_front_door_requests_total"
            replica.wait_for_metric(name, lambda count: count > 5, door=door, code=code)


def ask_door(replica, token, rest):
    """Asks as a proxy does; any answer is one."""
    url = f"http://{replica.host}:50053/forward-auth{rest}"
    request = urllib.request.Request(url, headers={"X-Tenant-Auth-Token": token})
    # HTTPError is one of these.
    with contextlib.suppress(OSError), urllib.request.urlopen(request, timeout=5):
        pass


def ask_as_envoy(testbed, replica, token):
    """Asks with a wrong token, and with a misspelt setting, repeatedly."""
    path = "/envoy.service.auth.v3.Authorization/Check"
    check = grpc.insecure_channel(f"{replica.host}:50051").unary_unary(path)
    # A CheckRequest: attributes, context_extensions, and the entry scope: x.
    asked = itertools.cycle([("tac_wrong", b""), (token, b"\x0a\x0c\x52\x0a\x0a\x05scope\x12\x01x")])

    def ask():
        sent, message = next(asked)
        testbed.calls.append(check.future(message, timeout=2, metadata=(("authorization", f"Bearer {sent}"),)))

    testbed.call_repeatedly(ask)


@state
def reload_refused(testbed):
    """The callers file was changed to invalid content."""
    replica = testbed.healthy_replica()
    cached_key(testbed)
    testbed.write("callers.toml", "[[caller]\nname = broken\n")
    replica.process.send_signal(signal.SIGHUP)
    replica.wait_for_metric("tenant_auth_reload_failed", lambda value: value == 1, file="callers")
    replica.wait_for_log("reload refused")


@state
def pepper_missing(testbed):
    """One replica issues under a pepper that another one does not have."""
    testbed.write("one", "issue p1 " + "s" * 40 + "\n")
    testbed.write("other", "issue p0 " + "o" * 40 + "\n")
    without_pepper = testbed.replica(PEPPER_FILE=testbed.folder / "other")
    without_pepper.wait_for_status("process ready", "feed live")
    with_pepper = testbed.replica(PEPPER_FILE=testbed.folder / "one")
    with_pepper.wait_for_status("process ready", "feed live")
    testbed.replicas.reverse()
    testbed.issue()
    testbed.replicas.reverse()
    without_pepper.wait_for_metric("tenant_auth_pepper_missing", lambda value: value == 1)


@state
def spans_failing(testbed):
    """No collector listens at the OTLP endpoint."""
    replica = testbed.healthy_replica(
        OTLP_ENDPOINT=f"http://{testbed.replicas[0].host if testbed.replicas else '127.0.0.1'}:1", TRACE_SAMPLE="1"
    )
    _, secret = cached_key(testbed)
    testbed.validate_repeatedly(lambda: secret)
    replica.wait_for_metric("tenant_auth_otlp_spans_total", lambda count: count > 0, outcome="failed")


@state
def usage_queue_full(testbed):
    """Usage arrives faster than it is committed."""
    replica = testbed.healthy_replica(USAGE_QUEUE="500")
    cached_key(testbed)
    record_usage_repeatedly(testbed, pause=0.02, events=25)
    replica.wait_for_metric("tenant_auth_usage_events_total", lambda count: count > 0)
    testbed.databases[0].command("fault writes latency 4000")
    replica.wait_for_metric("tenant_auth_usage_queue_events", lambda count: count > 400)


@state
def requests_failing(testbed):
    """Requests and decisions fail: a database that does not respond, and keys that are not cached."""
    replica = testbed.healthy_replica()
    cached_key(testbed)
    testbed.databases[0].command("stop")
    testbed.validate_repeatedly(uncached_key)
    record_usage_repeatedly(testbed)
    replica.wait_for_metric("grpc_server_handled_total", lambda count: count > 10, grpc_code="Unavailable")
    replica.wait_for_log("UNAVAILABLE")
