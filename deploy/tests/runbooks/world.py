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
from deployment import PROGRAMS, ROOT, TOOLS, VENV, run, succeeded
from services import Database, Replica, until

sys.path.insert(0, str(ROOT / "clients/python/src"))
# Imported here, and not where they are used: two threads that import a package at the same time may see it half
# initialised.
from tenant_auth.proto import (  # noqa: E402
    admin_pb2_grpc,
    session_pb2_grpc,
    usage_pb2_grpc,
    validation_pb2,
    validation_pb2_grpc,
    verdict_pb2,
)

# Parallel runs must not use the same addresses: loopback addresses depend on the process id.
NET = f"127.{os.getpid() // 200 % 200 + 20}.{os.getpid() % 200 + 20}"
HOSTS = itertools.count(2)
TOKEN = "the-databases-token"


class World:
    """Everything that a state sets up, which ends with it."""

    def __init__(self, name, folder):
        self.name, self.folder = name, folder
        # The shell's working directory.
        self.place = folder
        self.databases, self.replicas, self.traffic = [], [], []
        self.words, self.more, self.stopping = {}, {}, threading.Event()
        # A call without a reference is cancelled.
        self.calls = collections.deque(maxlen=2_000)
        # Addresses to scrape in addition to the replicas.
        self.targets = []
        # Further resources to close, in reverse order.
        self.ends = []
        self.files()

    # --- Parts

    def files(self):
        token = succeeded(run(PROGRAMS / "tenant-auth-svc", "caller-token"))
        secret, digest = re.search(r"tac_\S+", token)[0], re.search(r"\b[0-9a-f]{64}\b", token)[0]
        roles = '["admin", "auditor", "validator", "sessions", "meter", "reporter"]'
        self.operator_token = secret
        self.callers = self.write("callers.toml", f'[[caller]]\nname = "operator"\nroles = {roles}\ntoken_sha256 = ["{digest}"]\n')
        self.token_file = self.write("token", secret)
        self.database_token = self.write("database-token", TOKEN + "\n")

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
        usual = {
            "TENANT_AUTH_DATABASE_URL": url or database.copy_url or database.url,
            "TENANT_AUTH_DATABASE_TOKEN_FILE": str(self.database_token),
            "TENANT_AUTH_CALLERS_FILE": str(self.callers),
            "TENANT_AUTH_CREATE_SCHEMA": "true",
        }
        more = {f"TENANT_AUTH_{key}": str(value) for key, value in variables.items()}
        host = f"{NET}.{next(HOSTS)}"
        replica = Replica(name, host, self.folder, usual | more, program or PROGRAMS / "tenant-auth-svc")
        self.replicas.append(replica)
        if start:
            replica.start()
        return replica

    def ready(self, **variables):
        """A database and one healthy replica."""
        replica = self.replica(**variables)
        replica.says("process ready", "reads works", "feed live")
        return replica

    # --- Callers

    def tenantctl(self, *words, replica=None, stdin=""):
        """Runs the tool, and returns its JSON output."""
        host = (replica or self.replicas[0]).host
        options = ["--endpoint", f"http://{host}:50051", "--token-file", self.token_file, "--json"]
        return json.loads(succeeded(run(PROGRAMS / "tenantctl", *options, *words, stdin=stdin)))

    def issue(self, *options, tenant="ten_acme"):
        """Issues a key for a tenant; returns its id and the key."""
        replica = self.replicas[0]
        options = ["--tenant", tenant, "--name", "orders", "--scope", "orders:read", *options]
        self.tenantctl("tenant", "create", "--id", tenant, "--name", "Acme", "--plan", "pro", replica=replica)
        issued = self.tenantctl("key", "issue", *options, replica=replica)
        key = issued.get("key", issued)
        secret = issued.get("plaintext") or key.get("plaintext")
        self.words.setdefault("KEY_ID", key["key_id"])
        self.words.setdefault("KEY", secret)
        self.words.setdefault("ID", tenant)
        return key["key_id"], secret

    def stub(self, service, replica=None):
        modules = [admin_pb2_grpc, session_pb2_grpc, usage_pb2_grpc, validation_pb2_grpc]
        (maker,) = [getattr(module, f"{service}Stub") for module in modules if hasattr(module, f"{service}Stub")]
        channel = grpc.insecure_channel(f"{(replica or self.replicas[0]).host}:50051")
        return maker(channel)

    def authorization(self):
        return (("authorization", f"Bearer {self.operator_token}"),)

    def validate(self, key, replica=None, deadline=2.0):
        """One validation, with any result: the response or the status code."""
        stub = self.stub("ValidationService", replica)
        try:
            return stub.ValidateKey(validation_pb2.ValidateKeyRequest(key=key), timeout=deadline, metadata=self.authorization())
        except grpc.RpcError as error:
            return error.code()

    def learn(self, key, replica=None):
        """Has a replica validate a good key, so that it is cached."""
        def good():
            answer = self.validate(key, replica, deadline=10.0)
            return getattr(answer, "verdict", None) == verdict_pb2.VERDICT_VALID

        until(f"{self.name}: the key is found", good)

    def keep(self, call, pause=0.05):
        """Calls repeatedly, until the world ends."""
        def loop():
            while not self.stopping.wait(pause):
                call()

        thread = threading.Thread(target=loop, daemon=True)
        thread.start()
        self.traffic.append(thread)

    def validating(self, make_key, replica=None, pause=0.05, deadline=2.0):
        """A caller that keeps validating keys over one connection."""
        stub = self.stub("ValidationService", replica)

        def call():
            request = validation_pb2.ValidateKeyRequest(key=make_key())
            # Some states are about rejections.
            self.calls.append(stub.ValidateKey.future(request, timeout=deadline, metadata=self.authorization()))

        self.keep(call, pause)

    def watched(self):
        """Waits for a scrape of the current values, so that later changes show as changes."""
        self.watching.scrape(self.name, [one.host for one in self.replicas])

    # --- The shell

    def environment(self):
        """The variables of an on-call engineer, and of the stubs."""
        first = self.replicas[0]
        database = self.databases[0]
        state = {
            "pods": [
                {"name": one.name, "ip": one.host, "log": str(one.log), "previous": str(one.previous), "environment": one.variables,
                 "running": one.process is not None and one.process.poll() is None}
                for one in self.replicas
            ],
            "tools": str(TOOLS),
        }
        (self.folder / "cluster.json").write_text(json.dumps(state))
        return {
            "OPS": f"{first.host}:50052",
            "GRPC": f"{first.host}:50051",
            "REPLICAS": " ".join(one.host for one in self.replicas),
            "DATABASE_HTTPS_URL": database.copy_url or database.url,
            "TENANT_AUTH_DATABASE_TOKEN_FILE": str(self.database_token),
            "TENANTCTL_TOKEN_FILE": str(self.token_file),
            "TENANTCTL_ENDPOINT": f"http://{first.host}:50051",
            "RUNBOOK_CLUSTER": str(self.folder / "cluster.json"),
            # The stubs run in this interpreter.
            "PATH": f"{Path(__file__).parent / 'stand_ins'}:{VENV}:{TOOLS}:{PROGRAMS}:{os.environ['PATH']}",
        } | self.more

    def substitutions(self):
        """Words in capitals that a page asks its reader to replace."""
        first = self.replicas[0]
        return {
            "POD": first.name,
            "INSTANCE": f"{first.host}:50052",
            "RELEASE": "auth-tenant-auth",
            "SERIES": "tenant_auth_feed_lag_seconds",
            "RPC": "tenantauth.v1.ValidationService/ValidateKey",
            "key_…": self.words.get("KEY_ID", "key_…"),
        } | self.words

    def filled(self, text):
        for word, value in self.substitutions().items():
            text = re.sub(rf"(?<![\w$-]){re.escape(word)}(?![\w=-])", lambda _, value=value: value, text)
        return text

    def shell(self, command, assignments=(), patience=60):
        """Runs one command as pasted, after its words are filled in. If it does not end in time, its exit code is None."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("TENANT_AUTH_", "TENANTCTL_"))}
        script = "\n".join([*assignments, self.filled(command)])
        process = subprocess.Popen(
            ["bash", "-uc", script], cwd=self.place, env=clean | self.environment() | self.words_of_alertmanager(),
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        )
        try:
            printed, complaint = process.communicate(timeout=patience)
            code = process.returncode
        except subprocess.TimeoutExpired:
            # With all of its child processes.
            os.killpg(process.pid, signal.SIGKILL)
            (printed, complaint), code = process.communicate(), None
        return subprocess.CompletedProcess(script, code, printed, complaint)

    def words_of_alertmanager(self):
        return {"ALERTMANAGER": self.words["ALERTMANAGER"]} if "ALERTMANAGER" in self.words else {}

    def end(self):
        self.stopping.set()
        for thread in self.traffic:
            thread.join(10)
        for end in reversed(self.ends):
            end()
        for replica in self.replicas:
            replica.end()
        for database in self.databases:
            database.end()
