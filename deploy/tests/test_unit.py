"""The systemd unit. systemd checks it where available; the remaining tests read the file."""

import os
import re
import shlex
import shutil
import socket
import subprocess

import pytest

from deployment import DEPLOY, PROGRAMS, SHUTDOWN_SECONDS, check_config, known_variables, run, succeeded

UNIT = DEPLOY / "systemd" / "tenant-auth.service"
TOKEN = "/etc/tenant-auth/database-token"
systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="SKIPPED: systemd-analyze is missing")


@pytest.fixture
def settings():
    """The settings of the service, by name; repeated ones in order."""
    found = {}
    section = None
    for line in UNIT.read_text().splitlines():
        if match := re.fullmatch(r"\[(\w+)\]", line):
            section = match[1]
        elif line and not line.startswith("#"):
            name, _, value = line.partition("=")
            assert section in {"Unit", "Service", "Install"} and re.fullmatch(r"[A-Z]\w*", name), line
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def staged(tmp_path):
    """The unit with an existing program."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/tenant-auth-svc", str(PROGRAMS / "tenant-auth-svc")))
    return unit


@systemd
def test_systemd_accepts_every_line(staged, tmp_path):
    result = run("systemd-analyze", "--man=no", "verify", staged)
    assert (result.returncode, result.stderr) == (0, "")
    # systemd does report a wrong line.
    broken = tmp_path / "broken.service"
    broken.write_text(staged.read_text().replace("ProtectHome=yes", "ProtectHomes=yes"))
    assert "ProtectHomes" in run("systemd-analyze", "--man=no", "verify", broken).stderr


@systemd
def test_systemd_exposure_is_low(staged):
    # From 0, nothing exposed, to 10, everything; in tenths.
    succeeded(run("systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=20", staged))


def test_service_accepts_the_command_line_of_the_unit(settings, tmp_path):
    program, command, *flags = shlex.split(settings["ExecStart"][0])
    assert (program, command) == ("/usr/local/bin/tenant-auth-svc", "serve")
    (tmp_path / "token").write_text("token")
    flags = [str(tmp_path / "token") if flag == TOKEN else flag for flag in flags]
    # The example configuration, unmodified.
    (file,) = settings["EnvironmentFile"]
    assert file == "/etc/tenant-auth/tenant-auth.env"
    example = (DEPLOY / "config" / "tenant-auth.env").read_text()
    environment = dict(re.findall(r"^(TENANT_AUTH_[A-Z_]+)=(.+)$", example, re.MULTILINE))
    shown = succeeded(check_config(environment, *flags, folder=tmp_path))
    origins = dict(re.findall(r"^(\w+) .*\((\w+)\)$", shown, re.MULTILINE))
    assert origins["TENANT_AUTH_DATABASE_TOKEN_FILE"] == "flag", "the flag overrides the file"
    assert origins["TENANT_AUTH_REQUIRE_CANONICAL_BUILD"] == "flag"
    assert origins.keys() == known_variables()


def test_secrets_are_read_in_place_without_a_restart(settings):
    copies = {"LoadCredential", "LoadCredentialEncrypted", "SetCredential", "ImportCredential"}
    assert not copies & settings.keys(), "systemd would copy these credentials at the start"
    assert "%d" not in settings["ExecStart"][0]
    assert TOKEN in settings["ExecStart"][0]
    assert settings["User"] == settings["Group"] == ["tenant-auth"], "the group may read the secrets"
    # The unit's head says how to install these, so that the service can read them and only root can change them.
    head = UNIT.read_text().partition("[Unit]")[0]
    assert "install -d -m 750 -g tenant-auth /etc/tenant-auth" in head
    assert "install -m 640 -g tenant-auth database-token" in head


@pytest.mark.skipif(not shutil.which("systemd-sysusers"), reason="SKIPPED: systemd-sysusers is missing")
def test_sysusers_creates_the_user():
    sysusers = UNIT.with_name("tenant-auth.sysusers")
    shown = run("systemd-sysusers", "--dry-run", sysusers)
    assert (shown.returncode, "tenant-auth" in shown.stdout + shown.stderr) == (0, True), shown
    # The lines at the head of the unit install it where systemd looks.
    assert f"deploy/systemd/{sysusers.name} /etc/sysusers.d/tenant-auth.conf" in UNIT.read_text()


def test_process_notifies_systemd_of_start_reload_and_stop(settings, tmp_path):
    """Runs the unit's own command lines, with a test socket instead of systemd."""
    assert settings["Type"] == ["notify"]
    (tmp_path / "token").write_text("token")
    start = settings["ExecStart"][0].replace(TOKEN, str(tmp_path / "token")).replace(" --require-canonical-build", "")
    start = shlex.split(start.replace("/usr/local/bin", str(PROGRAMS)))
    environment = {
        "NOTIFY_SOCKET": str(tmp_path / "notify"),
        "PATH": os.environ["PATH"],
        "TENANT_AUTH_DATABASE_URL": "http://127.0.0.1:1",
        "TENANT_AUTH_LISTEN": "127.0.0.1:0",
        "TENANT_AUTH_OPS_LISTEN": "127.0.0.1:0",
    }
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(environment["NOTIFY_SOCKET"])
        manager.settimeout(30)

        def next_message():
            return manager.recv(4096).decode().splitlines()[0]

        with subprocess.Popen(start, env=environment, stderr=subprocess.DEVNULL) as serve:
            try:
                assert next_message() == "READY=1", "the service starts without the database"
                (reload,) = settings["ExecReload"]
                succeeded(run(*shlex.split(reload.replace("$MAINPID", str(serve.pid)))))
                assert next_message() == "RELOADING=1"
                assert next_message() == "READY=1"
                serve.terminate()
                assert next_message() == "STOPPING=1"
                assert serve.wait(30) == 0
            finally:
                serve.kill()


def test_unit_allows_draining_and_restarts_the_service(settings):
    (time,) = settings["TimeoutStopSec"]
    assert int(time.removesuffix("s")) > 5 + SHUTDOWN_SECONDS
    assert settings["KillSignal"] == ["SIGTERM"]
    assert settings["Restart"] == ["always"]
    # The exit code for an invalid configuration.
    assert settings["RestartPreventExitStatus"] == ["2"]
    assert run(PROGRAMS / "tenant-auth-svc", "serve").returncode == 2


def test_unit_is_sandboxed(settings):
    on = ["NoNewPrivileges", "ProtectHome", "PrivateDevices", "PrivateTmp", "MemoryDenyWriteExecute"]
    assert all(settings[name] == ["yes"] for name in on)
    assert settings["ProtectSystem"] == ["strict"]
    assert settings["CapabilityBoundingSet"] == [""]
    assert not {"ReadWritePaths", "StateDirectory"} & settings.keys(), "it keeps no state"
