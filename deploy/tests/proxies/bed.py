"""The service behind the proxies: a database with injected faults, one replica, and keys with every kind of answer."""

import itertools
import json
import os
import re
import signal
from pathlib import Path

from services import Database, Replica, wait_until

from deployment import PROGRAMS, run, succeeded

# Parallel runs must not use the same addresses: loopback addresses depend on the process id.
HOSTS = (f"127.{os.getpid() // 200 % 200 + 20}.{os.getpid() % 200 + 20}.{number}" for number in itertools.count(2))
# As many scopes as there may be, of the greatest length.
LONG_SCOPES = [f"{'orders' * 9}{number:02}:readall" for number in range(32)]
TENANT, SUSPENDED, NAME = "ten_acme", "ten_late", "Acme Größe"


class Bed:
    """A database and a replica, with its front doors. Takes other variables of the service; an empty one is unset."""

    def __init__(self, folder, **settings):
        self.folder, self.host, self.settings = folder, next(HOSTS), settings
        folder.mkdir()
        self.grpc, self.forward = f"{self.host}:50051", f"{self.host}:50053"
        self.operator_token, operator = self.caller_token()
        self.proxy_token, proxy = self.caller_token()
        (folder / "token").write_text(self.operator_token)
        (folder / "callers.toml").write_text(
            f'[[caller]]\nname = "operator"\nroles = ["admin", "validator"]\ntoken_sha256 = ["{operator}"]\n'
            f'[[caller]]\nname = "proxy"\nroles = ["proxy"]\ntoken_sha256 = ["{proxy}"]\n'
        )
        succeeded(run("openssl", "genpkey", "-algorithm", "ed25519", "-out", folder / "principal.pem"))
        self.database = Database()
        self.replica = Replica("replica", self.host, folder, self.variables())
        self.keys = {}

    def caller_token(self):
        printed = succeeded(run(PROGRAMS / "tenant-auth-svc", "caller-token"))
        return re.search(r"tac_\S+", printed)[0], re.search(r"\b[0-9a-f]{64}\b", printed)[0]

    def variables(self):
        variables = {
            "TENANT_AUTH_DATABASE_URL": self.database.url,
            "TENANT_AUTH_CREATE_SCHEMA": "true",
            "TENANT_AUTH_CALLERS_FILE": str(self.folder / "callers.toml"),
            "TENANT_AUTH_FORWARD_LISTEN": self.forward,
            "TENANT_AUTH_PRINCIPAL_KEYS_FILE": str(self.folder / "principal.pem"),
            "TENANT_AUTH_PRINCIPAL_ISSUER": "https://auth.example.com",
        }
        return {name: value for name, value in (variables | self.settings).items() if value}

    def start(self):
        self.replica.start()
        self.replica.wait_for_status("process ready", "reads works", "feed live")
        for tenant in (TENANT, SUSPENDED):
            self.tenantctl("tenant", "create", "--id", tenant, "--name", NAME, "--plan", "pro")
        issue = self.issue
        self.keys = {
            "valid": issue(),
            "second": issue(),
            "elsewhere": issue("--network", "203.0.113.0/24"),
            "expired": issue("--expires-in", "1s"),
            "suspended": issue(tenant=SUSPENDED),
            "revoked": issue(),
            "disabled": issue(),
        }
        ids = {name: key_id for name, (key_id, _) in self.keys.items()}
        self.tenantctl("key", "revoke", ids["revoked"], "--reason", "leaked")
        self.tenantctl("key", "pause", ids["disabled"], "--reason", "leaked")
        self.tenantctl("tenant", "suspend", SUSPENDED, "--reason", "unpaid")
        for name, verdict in {"expired": "EXPIRED", "revoked": "REVOKED", "disabled": "DISABLED"}.items():
            wait_until(f"{name} is {verdict}", lambda name=name, verdict=verdict: verdict in self.verdict_on(name))
        return self

    def tenantctl(self, *arguments):
        options = ["--endpoint", f"http://{self.grpc}", "--token-file", self.folder / "token", "--json"]
        return json.loads(succeeded(run(PROGRAMS / "tenantctl", *options, *arguments)))

    def issue(self, *options, tenant=TENANT):
        issued = self.tenantctl(
            "key", "issue", "--tenant", tenant, "--name", "shop", "--scope", "orders:read", *options
        )
        return issued["key"]["key_id"], issued["plaintext"]

    def verdict_on(self, name):
        options = ["--endpoint", f"http://{self.grpc}", "--token-file", self.folder / "token", "--json"]
        return run(PROGRAMS / "tenantctl", *options, "validate", stdin=self.keys[name][1]).stdout

    def secret(self, name):
        return self.keys[name][1]

    def pause_service(self):
        """Stops all threads of the service, as if it were very slow."""
        self.replica.process.send_signal(signal.SIGSTOP)
        threads = list(Path(f"/proc/{self.replica.process.pid}/task").iterdir())
        wait_until("the service stops", lambda: all(") T " in (thread / "stat").read_text() for thread in threads))

    def continue_service(self):
        self.replica.process.send_signal(signal.SIGCONT)

    def end(self):
        if self.replica.process:
            self.continue_service()
        self.replica.end(signal.SIGKILL)
        self.database.end()
