"""The systemd unit. systemd judges it where there is one; the rest is read here."""

import re
import shlex
import shutil

import pytest
from deployment import DEPLOY, ENDING, PROGRAMS, check_config, known_variables, run, succeeded

UNIT = DEPLOY / "systemd" / "tenant-auth.service"
systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="SKIPPED: no systemd-analyze here")


@pytest.fixture
def settings():
    """The settings of the service, by name; those given more than once in order."""
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
    """The unit with a program that is there."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/usr/local/bin/tenant-auth-svc", str(PROGRAMS / "tenant-auth-svc")))
    return unit


@systemd
def test_systemd_understands_every_line(staged, tmp_path):
    result = run("systemd-analyze", "--man=no", "verify", staged)
    assert (result.returncode, result.stderr) == (0, "")
    # And would say so if it did not.
    broken = tmp_path / "broken.service"
    broken.write_text(staged.read_text().replace("ProtectHome=yes", "ProtectHomes=yes"))
    assert "ProtectHomes" in run("systemd-analyze", "--man=no", "verify", broken).stderr


@systemd
def test_systemd_finds_little_exposed(staged):
    # From 0, nothing, to 10, everything; in tenths.
    succeeded(run("systemd-analyze", "security", "--offline=yes", "--no-pager", "--threshold=20", staged))


def test_the_program_takes_its_command_line(settings, tmp_path):
    (line,) = settings["ExecStart"]
    program, command, *flags = shlex.split(line.replace("%d", str(tmp_path)))
    assert (program, command) == ("/usr/local/bin/tenant-auth-svc", "serve")
    (credential,) = settings["LoadCredential"]
    name = credential.partition(":")[0]
    assert f"%d/{name}" in line, "the credential is what it reads"
    (tmp_path / name).write_text("token")
    # The example configuration, as it is.
    (file,) = settings["EnvironmentFile"]
    assert file == "/etc/tenant-auth/tenant-auth.env"
    example = (DEPLOY / "config" / "tenant-auth.env").read_text()
    environment = dict(re.findall(r"^(TENANT_AUTH_[A-Z_]+)=(.+)$", example, re.MULTILINE))
    shown = succeeded(check_config(environment, *flags, folder=tmp_path))
    origins = dict(re.findall(r"^(\w+) .*\((\w+)\)$", shown, re.MULTILINE))
    assert origins["TENANT_AUTH_DATABASE_TOKEN_FILE"] == "flag", "it wins over the file"
    assert origins["TENANT_AUTH_REQUIRE_CANONICAL_BUILD"] == "flag"
    assert origins.keys() == known_variables()


def test_it_has_the_time_to_drain_and_comes_back(settings):
    (time,) = settings["TimeoutStopSec"]
    assert int(time.removesuffix("s")) > 5 + ENDING
    assert settings["KillSignal"] == ["SIGTERM"]
    assert settings["Restart"] == ["always"]
    # The exit code for a configuration that is wrong.
    assert settings["RestartPreventExitStatus"] == ["2"]
    assert run(PROGRAMS / "tenant-auth-svc", "serve").returncode == 2


def test_it_is_confined(settings):
    on = ["DynamicUser", "NoNewPrivileges", "ProtectHome", "PrivateDevices", "PrivateTmp", "MemoryDenyWriteExecute"]
    assert all(settings[name] == ["yes"] for name in on)
    assert settings["ProtectSystem"] == ["strict"]
    assert settings["CapabilityBoundingSet"] == [""]
    assert not {"User", "ReadWritePaths", "StateDirectory"} & settings.keys(), "it keeps no state"
