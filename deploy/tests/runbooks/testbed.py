"""One state: a database, its replicas, their keys and callers, and the operator's shell."""

import collections
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path

import grpc
from services import Database, Replica, wait_until

from deployment import PROGRAMS, ROOT, TOOLS, VENV, run, succeeded

sys.path.insert(0, str(ROOT / "clients/python/src"))
# Imported here, and not where they are used: two threads that import a package at the same time may see it half
# initialised.
from tenant_auth.proto import (  # noqa: E402
    admin_pb2_grpc,
    limit_pb2,  # noqa: F401
    limit_pb2_grpc,
    session_pb2_grpc,
    usage_pb2_grpc,
    validation_pb2,
    validation_pb2_grpc,
    verdict_pb2,
)

# Parallel runs must not use the same addresses: loopback addresses depend on the process id.
LOOPBACK_NET = f"127.{os.getpid() // 200 % 200 + 20}.{os.getpid() % 200 + 20}"
HOSTS = itertools.count(2)
TOKEN = "the-databases-token"


class Testbed:
    """Everything that a state sets up, and stops when it ends."""

    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        # The shell's working directory.
        self.working_folder = folder
        self.databases, self.replicas, self.traffic = [], [], []
        self.placeholders, self.extra_environment, self.stopping = {}, {}, threading.Event()
        # A call without a reference is cancelled.
        self.calls = collections.deque(maxlen=2_000)
        # Addresses to scrape in addition to the replicas.
        self.targets = []
        # Called when the state ends, in reverse order.
        self.cleanups = []
        self.write_files()

    # --- Processes and files

    def write_files(self):
        secret, digest = self.caller_token()
        roles = '["admin", "auditor", "validator", "sessions", "meter", "reporter"]'
        self.operator_token = secret
        self.callers = self.write(
            "callers.toml", f'[[caller]]\nname = "operator"\nroles = {roles}\ntoken_sha256 = ["{digest}"]\n'
        )
        self.token_file = self.write("token", secret)
        self.database_token = self.write("database-token", TOKEN + "\n")

    def caller_token(self):
        """A new token of a caller, and its hash."""
        token = succeeded(run(PROGRAMS / "tenant-auth-svc", "caller-token"))
        return re.search(r"tac_\S+", token)[0], re.search(r"\b[0-9a-f]{64}\b", token)[0]

    def write(self, name, text):
        path = self.folder / name
        # Replaced atomically, like a mounted Secret.
        new = self.folder / f"{name}.new"
        new.write_text(text)
        new.rename(path)
        return path

    def database(self, *flags):
        database = Database("--token", TOKEN, "--read-only-token", "may-only-read", *flags)
        self.databases.append(database)
        return database

    def replica(self, database=None, url=None, program=None, start=True, **variables):
        database = database or (self.databases or [self.database()])[0]
        name = f"auth-tenant-auth-{len(self.replicas)}"
        defaults = {
            "TENANT_AUTH_DATABASE_URL": url or database.read_replica_url or database.url,
            "TENANT_AUTH_DATABASE_TOKEN_FILE": str(self.database_token),
            "TENANT_AUTH_CALLERS_FILE": str(self.callers),
            "TENANT_AUTH_CREATE_SCHEMA": "true",
        }
        overrides = {f"TENANT_AUTH_{key}": str(value) for key, value in variables.items()}
        host = f"{LOOPBACK_NET}.{next(HOSTS)}"
        replica = Replica(name, host, self.folder, defaults | overrides, program or PROGRAMS / "tenant-auth-svc")
        self.replicas.append(replica)
        if start:
            replica.start()
        return replica

    def healthy_replica(self, **variables):
        """A database and one healthy replica."""
        replica = self.replica(**variables)
        replica.wait_for_status("process ready", "reads works", "feed live")
        return replica

    # --- Callers

    def tenantctl(self, *arguments, replica=None, stdin=""):
        """Runs the tool, and returns its JSON output."""
        host = (replica or self.replicas[0]).host
        options = ["--endpoint", f"http://{host}:50051", "--token-file", self.token_file, "--json"]
        return json.loads(succeeded(run(PROGRAMS / "tenantctl", *options, *arguments, stdin=stdin)))

    def issue(self, *options, tenant="ten_acme"):
        """Issues a key for a tenant; returns its id and the key."""
        replica = self.replicas[0]
        options = ["--tenant", tenant, "--name", "orders", "--scope", "orders:read", *options]
        self.tenantctl("tenant", "create", "--id", tenant, "--name", "Acme", "--plan", "pro", replica=replica)
        issued = self.tenantctl("key", "issue", *options, replica=replica)
        key = issued.get("key", issued)
        secret = issued.get("plaintext") or key.get("plaintext")
        self.placeholders.setdefault("KEY_ID", key["key_id"])
        self.placeholders.setdefault("KEY", secret)
        self.placeholders.setdefault("ID", tenant)
        return key["key_id"], secret

    def stub(self, service, replica=None):
        modules = [admin_pb2_grpc, limit_pb2_grpc, session_pb2_grpc, usage_pb2_grpc, validation_pb2_grpc]
        (stub_type,) = [getattr(module, f"{service}Stub") for module in modules if hasattr(module, f"{service}Stub")]
        channel = grpc.insecure_channel(f"{(replica or self.replicas[0]).host}:50051")
        return stub_type(channel)

    def authorization(self):
        return (("authorization", f"Bearer {self.operator_token}"),)

    def validate(self, key, replica=None, deadline=2.0):
        """One validation, with any result: the response or the status code."""
        stub = self.stub("ValidationService", replica)
        try:
            return stub.ValidateKey(
                validation_pb2.ValidateKeyRequest(key=key), timeout=deadline, metadata=self.authorization()
            )
        except grpc.RpcError as error:
            return error.code()

    def cache_key(self, key, replica=None):
        """Has a replica validate a good key, so that it caches the key."""

        def is_valid():
            response = self.validate(key, replica, deadline=10.0)
            return getattr(response, "verdict", None) == verdict_pb2.VERDICT_VALID

        wait_until(f"{self.name}: the key is valid", is_valid)

    def call_repeatedly(self, call, pause=0.05):
        """Calls a function repeatedly, in a thread, until the state ends."""

        def loop():
            while not self.stopping.wait(pause):
                call()

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        self.traffic.append(thread)

    def validate_repeatedly(self, make_key, replica=None, pause=0.05, deadline=2.0):
        """Validates keys repeatedly, over one connection."""
        stub = self.stub("ValidationService", replica)

        def call():
            request = validation_pb2.ValidateKeyRequest(key=make_key())
            # Some states are about rejections.
            self.calls.append(stub.ValidateKey.future(request, timeout=deadline, metadata=self.authorization()))

        self.call_repeatedly(call, pause)

    def wait_for_scrape(self):
        """Waits for a scrape of the current values, so that later changes show as changes."""
        self.monitoring.scrape(self.name, [replica.host for replica in self.replicas])

    # --- The shell

    def environment(self):
        """The variables of an on-call engineer, and of the stubs."""
        first = self.replicas[0]
        database = self.databases[0]
        state = {
            "pods": [
                {
                    "name": replica.name,
                    "ip": replica.host,
                    "log": str(replica.log),
                    "previous": str(replica.previous),
                    "environment": replica.variables,
                    "running": replica.process is not None and replica.process.poll() is None,
                }
                for replica in self.replicas
            ],
            "tools": str(TOOLS),
        }
        (self.folder / "cluster.json").write_text(json.dumps(state))
        return {
            "OPS": f"{first.host}:50052",
            "GRPC": f"{first.host}:50051",
            "REPLICAS": " ".join(replica.host for replica in self.replicas),
            "DATABASE_HTTPS_URL": database.read_replica_url or database.url,
            "TENANT_AUTH_DATABASE_TOKEN_FILE": str(self.database_token),
            "TENANTCTL_TOKEN_FILE": str(self.token_file),
            "TENANTCTL_ENDPOINT": f"http://{first.host}:50051",
            "RUNBOOK_CLUSTER": str(self.folder / "cluster.json"),
            # The stubs run in this interpreter.
            "PATH": f"{Path(__file__).parent / 'stubs'}:{VENV}:{TOOLS}:{PROGRAMS}:{os.environ['PATH']}",
        } | self.extra_environment

    def all_placeholders(self):
        """The placeholders of a page: words in capitals, and their values here."""
        first = self.replicas[0]
        return {
            "POD": first.name,
            "INSTANCE": f"{first.host}:50052",
            "RELEASE": "auth-tenant-auth",
            "SERIES": "tenant_auth_feed_lag_seconds",
            "RPC": "tenantauth.v1.ValidationService/ValidateKey",
            "key_…": self.placeholders.get("KEY_ID", "key_…"),
        } | self.placeholders

    def substitute(self, text):
        for placeholder, value in self.all_placeholders().items():
            text = re.sub(rf"(?<![\w$-]){re.escape(placeholder)}(?![\w=-])", lambda _, value=value: value, text)
        return text

    def shell(self, command, assignments=(), timeout=60):
        """Runs a pasted command, with its placeholders replaced. Its exit code is None if it does not end in time."""
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("TENANT_AUTH_", "TENANTCTL_"))
        }
        script = "\n".join([*assignments, self.substitute(command)])
        process = subprocess.Popen(
            ["bash", "-uc", script],
            cwd=self.working_folder,
            env=inherited | self.environment() | self.alertmanager_variable(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        try:
            stdout, stderr = process.communicate(timeout=timeout)
            code = process.returncode
        except subprocess.TimeoutExpired:
            # With all of its child processes.
            os.killpg(process.pid, signal.SIGKILL)
            (stdout, stderr), code = process.communicate(), None
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGKILL)
            raise
        return subprocess.CompletedProcess(script, code, stdout, stderr)

    def alertmanager_variable(self):
        return {"ALERTMANAGER": self.placeholders["ALERTMANAGER"]} if "ALERTMANAGER" in self.placeholders else {}

    def end(self):
        self.stopping.set()
        for thread in self.traffic:
            thread.join(10)
        for cleanup in reversed(self.cleanups):
            cleanup()
        for replica in self.replicas:
            replica.end()
        for database in self.databases:
            database.end()
