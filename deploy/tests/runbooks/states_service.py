"""States with a fault of the service, its configuration or its callers."""

import contextlib
import signal
import socket

import grpc
from deployment import PROGRAMS, run, self_signed, succeeded
from states import state
from states_database import known, stranger, usage
from world import validation_pb2


@state
def healthy(world):
    """Two healthy replicas, with a caller."""
    replica = world.ready()
    world.replica().says("process ready", "feed live")
    _, secret = known(world)
    world.validating(lambda: secret)
    replica.tells("tenant_auth_verdicts_total", lambda count: count > 3, verdict="valid")


@state
def killed(world):
    """The only replica was killed."""
    replica = world.ready()
    known(world)
    world.scraped_before = True
    replica.end(signal.SIGKILL)


@state
def restarting(world):
    """Killed and started again, three times."""
    replica = world.ready()
    for _ in range(3):
        replica.end(signal.SIGKILL)
        replica.start()
    replica.says("process ready")


@state
def unready(world):
    """Without a schema, and not configured to create one."""
    replica = world.replica(CREATE_SCHEMA="false", MIGRATE="false")
    replica.says("process waiting for the database")
    replica.logged("has no schema")


@state
def mixed_builds(world):
    """Two different builds run at the same time: the second one's commit differs."""
    replica = world.ready()
    build = succeeded(run(PROGRAMS / "tenant-auth-svc", "--version"))
    commit = next(word for word in build.replace("(", " ").replace(")", " ").split() if len(word) == 40)
    bytes_of_it, other = world.folder / "other-build.bytes", world.folder / "other-build"
    bytes_of_it.write_bytes((PROGRAMS / "tenant-auth-svc").read_bytes().replace(commit.encode(), commit[::-1].encode()))
    # Copied by another process: while this process has a file open for writing, a child forked by another thread
    # inherits it, and the file is busy.
    succeeded(run("install", "-m", "755", bytes_of_it, other))
    world.replica(program=other).says("process ready", "feed live")
    replica.says("process ready")
    checkout(world)


def checkout(world):
    """A clone of a repository whose main has a commit, for the page's git commands."""
    author = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    remote = world.folder / "remote"
    succeeded(run("git", "init", "--quiet", "--initial-branch=main", remote))
    succeeded(run("git", *author, "commit", "--quiet", "--allow-empty", "--message=one", cwd=remote))
    world.words["COMMIT"] = succeeded(run("git", "rev-parse", "HEAD", cwd=remote)).strip()
    world.place = world.folder / "checkout"
    succeeded(run("git", "clone", "--quiet", remote, world.place))


@state
def cache_small(world):
    """More keys in use than fit into the cache."""
    replica = world.ready(CACHE_KEYS="2", LOG_BURST="0")
    keys = [world.issue()[1] for _ in range(6)]
    turn = iter(lambda: keys.append(keys.pop(0)) or keys[-1], None)
    world.validating(lambda: next(turn))
    replica.tells("tenant_auth_cache_evictions_total", lambda count: count > 0)


@state
def impatient(world):
    """Callers that cancel before they have a response."""
    replica = world.ready()
    known(world)
    world.databases[0].do("fault reads latency 250")
    stub = world.stub("ValidationService")

    def leave():
        call = stub.ValidateKey.future(validation_pb2.ValidateKeyRequest(key=stranger()), metadata=world.authorization())
        world.stopping.wait(0.05)
        call.cancel()

    world.keep(leave)
    replica.tells("grpc_server_handled_total", lambda count: count > 10, grpc_code="Canceled")


def connect(world, replica, count):
    """One connection for each caller."""
    for _ in range(count):
        channel = grpc.insecure_channel(f"{replica.host}:50051", options=[("grpc.use_local_subchannel_pool", 1)])
        grpc.channel_ready_future(channel).result(timeout=30)
        world.calls.append(channel)


@state
def connections_full(world):
    """The connection limit is reached, and more clients connect."""
    replica = world.ready(MAX_CONNECTIONS="8")
    connect(world, replica, 8)

    def knock():
        with socket.create_connection((replica.host, 50051)) as one:
            one.settimeout(1)
            with contextlib.suppress(OSError):
                one.recv(1)

    world.keep(knock)
    replica.tells("tenant_auth_connections_refused_total", lambda count: count > 0)


@state
def near_limits(world):
    """Nine tenths of the connection limit are in use."""
    replica = world.ready(MAX_CONNECTIONS="20")
    connect(world, replica, 18)
    replica.tells("tenant_auth_connections", lambda count: count >= 17)


@state
def handshakes_failing(world):
    """A client without TLS connects to a TLS port."""
    self_signed(world.folder)
    certificate, key = world.folder / "self-signed.crt", world.folder / "self-signed.key"
    replica = world.replica(TLS_CERT_FILE=certificate, TLS_KEY_FILE=key)
    replica.says("process ready")

    def garbage():
        with socket.create_connection((replica.host, 50051)) as one:
            one.sendall(b"GET / HTTP/1.1\r\n\r\n")

    world.keep(garbage)
    replica.tells("tenant_auth_tls_handshakes_failed_total", lambda count: count > 5)


@state
def reload_refused(world):
    """The callers file was changed to invalid content."""
    replica = world.ready()
    known(world)
    world.write("callers.toml", "[[caller]\nname = broken\n")
    replica.process.send_signal(signal.SIGHUP)
    replica.tells("tenant_auth_reload_failed", lambda value: value == 1, file="callers")
    replica.logged("reload refused")


@state
def pepper_missing(world):
    """One replica issues under a pepper that another one does not have."""
    world.write("one", "issue p1 " + "s" * 40 + "\n")
    world.write("other", "issue p0 " + "o" * 40 + "\n")
    lacking = world.replica(PEPPER_FILE=world.folder / "other")
    lacking.says("process ready", "feed live")
    having = world.replica(PEPPER_FILE=world.folder / "one")
    having.says("process ready", "feed live")
    world.replicas.reverse()
    world.issue()
    world.replicas.reverse()
    lacking.tells("tenant_auth_pepper_missing", lambda value: value == 1)


@state
def spans_failing(world):
    """No collector listens at the OTLP endpoint."""
    replica = world.ready(OTLP_ENDPOINT=f"http://{world.replicas[0].host if world.replicas else '127.0.0.1'}:1", TRACE_SAMPLE="1")
    _, secret = known(world)
    world.validating(lambda: secret)
    replica.tells("tenant_auth_otlp_spans_total", lambda count: count > 0, outcome="failed")


@state
def usage_queue_full(world):
    """Usage arrives faster than it is committed."""
    replica = world.ready(USAGE_QUEUE="500")
    known(world)
    usage(world, pause=0.02, events=25)
    replica.tells("tenant_auth_usage_events_total", lambda count: count > 0)
    world.databases[0].do("fault writes latency 4000")
    replica.tells("tenant_auth_usage_queue_events", lambda count: count > 400)


@state
def errors(world):
    """Requests and decisions fail: a database that does not respond, and keys that are not cached."""
    replica = world.ready()
    known(world)
    world.databases[0].do("stop")
    world.validating(stranger)
    usage(world)
    replica.tells("grpc_server_handled_total", lambda count: count > 10, grpc_code="Unavailable")
    replica.logged("UNAVAILABLE")
