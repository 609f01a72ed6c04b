"""Both clients with real replicas that use TLS, known callers, and environment proxies."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from certificates import CertificateAuthority
from conftest import Connect, until
from service import Fleet, Replica, callers, fleet_in
from tenant_auth import Tls, TokenFile, UnauthenticatedError, UnavailableError
from test_replicas import connected


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    with fleet_in(tmp_path_factory.mktemp("secured")) as fleet:
        yield fleet


@pytest.fixture
def authority(tmp_path: Path) -> CertificateAuthority:
    return CertificateAuthority(tmp_path)


def secured(fleet: Fleet, authority: CertificateAuthority, listen: str, names: tuple[str, ...], **more: str) -> Replica:
    cert, key = authority.issue(f"server-{listen.replace(':', '-')}", names)
    return fleet.start(listen, TENANT_AUTH_TLS_CERT_FILE=str(cert), TENANT_AUTH_TLS_KEY_FILE=str(key), **more)


@pytest.mark.parametrize("bytes_", [False, True])
async def test_each_address_is_verified_by_its_name(
    connect: Connect, fleet: Fleet, authority: CertificateAuthority, bytes_: bool
) -> None:
    replicas = [
        secured(fleet, authority, f"{address}:0", (address.strip("[]"),))
        for address in ("127.0.0.1", "127.0.0.2", "[::1]")
    ]
    endpoints = [f"https://{replica.endpoint}" for replica in replicas]
    ca = authority.file.read_bytes() if bytes_ else authority.file
    client = connect(endpoints, tls=Tls(ca=ca), near_cache=None)
    await until(lambda: connected(client) == 3)
    for _ in range(3):
        await client.require_key(fleet.key, timeout=10.0)
    for replica in replicas:
        replica.kill()


async def test_host_name_and_server_name_are_verified(
    connect: Connect, fleet: Fleet, authority: CertificateAuthority
) -> None:
    replica = secured(fleet, authority, "127.0.0.1:0", ("tenant-auth.test",))
    named = Tls(ca=authority.file, server_name="tenant-auth.test")
    assert (await connect(replica.endpoint, tls=named).require_key(fleet.key, timeout=10.0)).tenant_id == fleet.tenant
    for tls in (Tls(ca=authority.file), Tls(ca=authority.file, server_name="other.test"), Tls()):
        with pytest.raises(UnavailableError):
            await connect(f"https://{replica.endpoint}", tls=tls, near_cache=None, retry=None).require_key("k")
    by_name = secured(fleet, authority, "127.0.0.1:0", ("localhost",))
    client = connect(f"https://localhost:{by_name.port}", tls=Tls(ca=authority.file))
    await client.require_key(fleet.key, timeout=10.0)
    replica.kill()
    by_name.kill()


async def test_client_certificate_identifies_caller_and_is_reloaded(
    connect: Connect, fleet: Fleet, authority: CertificateAuthority, tmp_path: Path
) -> None:
    (tmp_path / "second").mkdir()
    second = CertificateAuthority(tmp_path / "second")
    both = tmp_path / "both.pem"
    both.write_bytes(authority.file.read_bytes() + second.file.read_bytes())
    more = {"TENANT_AUTH_TLS_CLIENT_CA_FILE": str(both), "TENANT_AUTH_CALLERS_FILE": callers(tmp_path)}
    replica = secured(fleet, authority, "127.0.0.1:0", ("127.0.0.1",), **more)
    cert, key = authority.issue("client", ("client.test",))
    client = connect(f"https://{replica.endpoint}", tls=Tls(ca=authority.file, cert=cert, key=key), near_cache=None)
    await client.require_key(fleet.key, timeout=10.0)
    # A half-completed rotation is not used.
    key.write_text("not yet")
    # The new connection uses the new certificate and trusts the new authority.
    for new, old in zip(second.issue("new", ("client.test",)), (cert, key), strict=True):
        shutil.copy(new, old)
    authority.file.write_bytes(second.file.read_bytes())
    replica.kill()
    replica = secured(fleet, second, replica.endpoint, ("127.0.0.1",), **more)
    await until(lambda: connected(client) == 1)
    await client.require_key(fleet.key, timeout=10.0)
    replica.kill()


async def test_token_is_reloaded_and_last_valid_one_stays(
    connect: Connect, fleet: Fleet, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    replica = fleet.start(TENANT_AUTH_CALLERS_FILE=callers(tmp_path, "first", "second"))
    file = tmp_path / "token"
    file.write_text("\ufefffirst \r\n\n")
    by_file = connect(replica.endpoint, token=TokenFile(file), near_cache=None)
    await by_file.require_key(fleet.key, timeout=10.0)
    for invalid in ("", "two words", "x" * 5_000, "secret\nsecret"):
        file.write_text(invalid)
        await by_file.require_key(fleet.key, timeout=10.0)
    file.unlink()
    await by_file.require_key(fleet.key, timeout=10.0)
    file.write_text("second")
    await by_file.require_key(fleet.key, timeout=10.0)
    file.write_text("unknown")
    with pytest.raises(UnauthenticatedError):
        await by_file.require_key(fleet.key, timeout=10.0)

    given: list[object] = ["first\n", None, "two words", KeyError("secret"), "second"]

    def function() -> str:
        one = given.pop(0)
        if isinstance(one, Exception):
            raise one
        return one  # type: ignore[return-value]

    by_function = connect(replica.endpoint, token=function, near_cache=None)
    for _ in range(5):
        await by_function.require_key(fleet.key, timeout=10.0)
    assert "stays in use" in caplog.text
    assert "secret" not in caplog.text
    replica.kill()


@pytest.mark.parametrize("invalid", [None, "", "two words", KeyError("secret")])
async def test_missing_caller_token_is_unauthenticated(connect: Connect, fleet: Fleet, invalid: object) -> None:
    def function() -> str:
        if isinstance(invalid, Exception):
            raise invalid
        return invalid  # type: ignore[return-value]

    client = connect("127.0.0.1:1", token=function)
    with pytest.raises(UnauthenticatedError, match="no caller token") as caught:
        await client.require_key("k")
    assert (caught.value.code, caught.value.reason) == ("UNAUTHENTICATED", "NO_CALLER_TOKEN")
    assert "secret" not in str(caught.value)


class Proxy:
    """Accepts connections and records the first line of each."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, connection.makefile("rb") as received:
                self.lines.append(received.readline())

    def close(self) -> None:
        # Closing alone would leave a thread blocked in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


@pytest.mark.parametrize("used", [False, True])
async def test_environment_proxy_is_not_used_for_loopback(
    connect: Connect, fleet: Fleet, monkeypatch: pytest.MonkeyPatch, used: bool
) -> None:
    proxy = Proxy()
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    replica = fleet.start()
    client = connect(replica.endpoint, near_cache=None, use_environment_proxy=used)
    assert (await client.require_key(fleet.key, timeout=10.0)).tenant_id == fleet.tenant
    proxy.close()
    assert proxy.lines == []
    replica.kill()


async def test_environment_proxy_is_used_if_enabled(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy()
    monkeypatch.setenv("http_proxy", proxy.url)
    monkeypatch.setenv("no_proxy", "direct.example.com")
    client = connect("remote.example.com:50051", near_cache=None, use_environment_proxy=True, retry=None)
    with pytest.raises(UnavailableError):
        await client.require_key("k", timeout=10.0)
    proxy.close()
    assert proxy.lines[0] == b"CONNECT remote.example.com:50051 HTTP/1.1\r\n"
