"""Paths, and how to run programs. Shared by the tests."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
CHART = DEPLOY / "helm" / "tenant-auth"
# `deploy/check` has installed the tools that are not Python packages here; cargo has put the programs here.
TOOLS = Path(os.environ["DEPLOY_TOOLS"])
PROGRAMS = Path(os.environ["DEPLOY_PROGRAMS"])
# The folder of the interpreter, which has the tools that are Python packages.
VENV = Path(sys.executable).parent

# Seconds from the end of the drain delay after SIGTERM: in-flight requests have 10, queued usage events 5, leases of
# limits, last-used times and the last spans 2 each.
SHUTDOWN_SECONDS = 21


def run(*command, env=None, cwd=ROOT, stdin=""):
    """Runs a command to its end, without any environment variable that the service reads."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("TENANT_AUTH_")}
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=clean | (env or {}),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def succeeded(result):
    """The output of a command, which must have succeeded."""
    assert result.returncode == 0, f"{result.args}\n{result.stdout}\n{result.stderr}"
    return result.stdout


def known_variables():
    """Every variable that the service reads: those of deploy/config/tenant-auth.env, which the service tests check."""
    text = (DEPLOY / "config" / "tenant-auth.env").read_text()
    return set(re.findall(r"^#?((?:TENANT_AUTH|OTEL|SSL)_[A-Z_]+)=", text, re.MULTILINE))


def self_signed(folder):
    """A certificate and its key."""
    files = ["-keyout", folder / "self-signed.key", "-out", folder / "self-signed.crt"]
    curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    succeeded(run("openssl", "req", "-x509", *curve, *files, "-subj", "/CN=tenant-auth", "-days", "1"))
    return (folder / "self-signed.crt").read_text(), (folder / "self-signed.key").read_text()


def principal_key(path):
    """Creates a key that signs principal tokens, as deploy/README.md says."""
    succeeded(run("openssl", "genpkey", "-algorithm", "ed25519", "-out", path))
    return path.read_text()


def check_config(environment, *flags, folder):
    """Has the service check a configuration. The files that it names are created in a folder."""
    example_files = {
        "TENANT_AUTH_CALLERS_FILE": (DEPLOY / "config" / "callers.toml").read_text(),
        "TENANT_AUTH_CONSOLE_PEERS_TOKEN_FILE": "token",
        "TENANT_AUTH_DATABASE_TOKEN_FILE": "token",
        "TENANT_AUTH_DENY_FILE": "# nobody\n",
        "TENANT_AUTH_PEPPER_FILE": f"p1 {'x' * 40}",
    }
    if "TENANT_AUTH_TLS_CERT_FILE" in environment:
        certificate, key = self_signed(folder)
        example_files["TENANT_AUTH_TLS_CERT_FILE"] = example_files["TENANT_AUTH_TLS_CLIENT_CA_FILE"] = certificate
        example_files["TENANT_AUTH_TLS_KEY_FILE"] = key
    if "TENANT_AUTH_PRINCIPAL_KEYS_FILE" in environment:
        example_files["TENANT_AUTH_PRINCIPAL_KEYS_FILE"] = principal_key(folder / "principal.pem")
    for name in environment.keys() & example_files.keys():
        path = folder / name
        path.write_text(example_files[name])
        environment[name] = str(path)
    return run(PROGRAMS / "tenant-auth-svc", "check-config", *flags, env=environment)
