"""The proxies: each runs the configuration that users copy, with other addresses."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from services import TIMEOUT, wait_until

from browser import send
from deployment import DEPLOY, VENV

CONFIGURATIONS = DEPLOY / "proxies"
UNPACKED = Path(os.environ["PROXIES_UNPACKED"])
TOKEN = "tac_replace-me"


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


class Proxy:
    """One proxy in front of an application, and the service that it asks."""

    def __init__(self, name, folder, bed, app_port, edit=lambda text: text):
        self.name, self.folder, self.port = name, folder, free_port()
        folder.mkdir()
        self.log = folder / "log"
        self.process = None
        question = f"127.0.0.1:{free_port()}"
        addresses = {
            "127.0.0.1:8081": question,
            "127.0.0.1:8080": f"127.0.0.1:{self.port}",
            "127.0.0.1:3000": f"127.0.0.1:{app_port}",
            "127.0.0.1:50053": bed.forward,
            ":8080": f":{self.port}",
            "127.0.0.1, port_value: 8080": f"127.0.0.1, port_value: {self.port}",
            "127.0.0.1, port_value: 3000": f"127.0.0.1, port_value: {app_port}",
            "127.0.0.1, port_value: 50051": bed.grpc.replace(":", ", port_value: "),
            "abns@tenant_auth": f"abns@tenant_auth_{self.port}",
            TOKEN: bed.proxy_token,
        }
        for file in FILES[name]:
            text = edit((CONFIGURATIONS / file).read_text())
            for documented, used in addresses.items():
                text = text.replace(documented, used)
            (folder / file).write_text(text)
        self.environment = {"TENANT_AUTH_TOKEN": bed.proxy_token, "HOME": str(folder)}

    def start(self):
        program = program_of(self.name)
        command = COMMANDS[self.name](program, self.folder)
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("TENANT_AUTH_")}
        with self.log.open("a") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=inherited | libraries_of(self.name) | self.environment,
                stdout=log,
                stderr=log,
            )
        wait_until(f"{self.name} asks the service", self.is_ready, 30)
        return self

    def is_ready(self):
        """Some listen before they have read all of their configuration."""
        assert self.process.poll() is None, f"{self.name} exited: {self.log.read_text()[-3000:]}"
        return send(self.port).status in (401, 503)

    def end(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(TIMEOUT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


FILES = {
    "envoy": ["envoy.yaml"],
    "nginx": ["nginx.conf"],
    "caddy": ["Caddyfile"],
    "traefik": ["traefik.yaml", "traefik-static.yaml"],
    "haproxy": ["haproxy.cfg", "forward_auth.lua", "refuse_trailers.lua"],
}
NAMES = list(FILES)


def program_of(name):
    """The program of a proxy, or None if it could not be installed."""
    if name in ("envoy", "caddy", "traefik"):
        return shutil.which(name, path=str(VENV))
    return shutil.which(name, path=str(UNPACKED / name / "usr/sbin"))


def require(name):
    """Skips a test of a proxy that could not be installed, except in CI."""
    if not program_of(name):
        report = pytest.fail if os.environ.get("CI") == "true" else pytest.skip
        report(f"{name} could not be installed")


def libraries_of(name):
    """Where an unpacked program finds its libraries."""
    folders = sorted({str(path.parent) for path in (UNPACKED / name).glob("usr/lib/**/*.so*")})
    return {"LD_LIBRARY_PATH": ":".join(folders)} if folders else {}


def envoy(program, folder):
    flags = ["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning"]
    return [program, "-c", str(folder / "envoy.yaml"), *flags]


def nginx(program, folder):
    """In the foreground, with its files in the folder. Its modules are where the package was unpacked."""
    (folder / "modules").symlink_to(UNPACKED / "nginx/usr/lib/nginx/modules")
    paths = [f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")]
    text = (folder / "nginx.conf").read_text()
    text = text.replace("http {", f"http {{ access_log off; {' '.join(paths)}", 1)
    (folder / "nginx.conf").write_text(text)
    # As root, its workers would change to a user who may not read the folder.
    user = "user root;" if os.getuid() == 0 else ""
    settings = f"{user} daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/log;"
    return [program, "-e", str(folder / "log"), "-p", str(folder), "-c", str(folder / "nginx.conf"), "-g", settings]


def caddy(program, folder):
    """Without the address for its administration, which all have in common."""
    file = folder / "Caddyfile"
    file.write_text("{\n\tadmin off\n}\n" + file.read_text())
    return [program, "run", "--config", str(file), "--adapter", "caddyfile"]


def traefik(program, folder):
    return [program, f"--configFile={folder / 'traefik-static.yaml'}"]


def haproxy(program, folder):
    return [program, "-db", "-f", str(folder / "haproxy.cfg")]


COMMANDS = {"envoy": envoy, "nginx": nginx, "caddy": caddy, "traefik": traefik, "haproxy": haproxy}
