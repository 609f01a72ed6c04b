"""Endpoints, TLS and options."""

from __future__ import annotations

import datetime as dt
import ipaddress
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from conftest import Connect
from fake import Fake
from tenant_auth import Client, NearCache, Options, RecorderOptions, Tls, TokenFile, UnavailableError, UsageEvent
from tenant_auth._channel import Target, system_roots, target


@pytest.mark.parametrize(
    ("endpoints", "expected"),
    [
        (["127.0.0.1:1"], "127.0.0.1:1"),
        (["http://tenant-auth:50051/"], "tenant-auth:50051"),
        (["dns:///tenant-auth:50051"], "dns:///tenant-auth:50051"),
        (["unix:/run/tenant-auth"], "unix:/run/tenant-auth"),
        (["10.0.0.1:1", "10.0.0.2:2"], "ipv4:10.0.0.1:1,10.0.0.2:2"),
        (["[::1]:1", "[::2]:2"], "ipv6:[::1]:1,[::2]:2"),
    ],
)
def test_endpoints_become_a_target(endpoints: list[str], expected: str) -> None:
    assert target(endpoints) == expected


@pytest.mark.parametrize(
    ("endpoints", "message"),
    [
        ([], "at least one endpoint"),
        (["tenant-auth"], "'tenant-auth' names no port"),
        (["a:1", "b:1"], "must be IP addresses of one version"),
        (["10.0.0.1:1", "[::1]:1"], "must be IP addresses of one version"),
        (["https://10.0.0.1:1", "10.0.0.2:1"], "either all https"),
    ],
)
def test_what_cannot_work_is_refused_at_once(endpoints: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Client(endpoints)


def test_options_that_contradict_each_other_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="plaintext"):
        Client("http://127.0.0.1:1", Options(tls=Tls()))
    with pytest.raises(ValueError, match="belong together"):
        Tls(cert_file="cert.pem")
    with pytest.raises(ValueError, match="timeout"):
        Options(timeout=0)
    with pytest.raises(ValueError, match="max_entries"):
        NearCache(max_entries=0)
    with pytest.raises(ValueError, match="batch_size"):
        RecorderOptions(batch_size=501)
    with pytest.raises(ValueError, match="max_events"):
        RecorderOptions(max_events=499)
    with pytest.raises(ValueError, match="time zone"):
        UsageEvent("acme", "a", 1, dt.datetime(2026, 1, 1))
    (tmp_path / "token").write_text("\n")
    with pytest.raises(ValueError, match="holds no token"):
        Client("127.0.0.1:1", Options(token=TokenFile(tmp_path / "token")))


def test_dead_connections_are_noticed_and_all_addresses_used() -> None:
    settings = dict(Target("127.0.0.1:1", Options()).settings(Options()))
    assert settings["grpc.keepalive_time_ms"] == 20_000
    assert settings["grpc.keepalive_timeout_ms"] == 10_000
    assert "round_robin" in str(settings["grpc.service_config"])


def test_the_machines_own_roots_are_found() -> None:
    roots = system_roots()
    assert roots is None or b"BEGIN CERTIFICATE" in roots


class Authority:
    """Issues certificates for the tests."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "a test's own authority")])
        self.file = folder / "ca.pem"
        self.file.write_bytes(self._sign(self._name, self._key, authority=True))

    def issue(self, name: str) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        cert_file, key_file = self._folder / f"{name}.pem", self._folder / f"{name}.key"
        cert_file.write_bytes(self._sign(subject, key, authority=False))
        key_file.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return cert_file, key_file

    def _sign(self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool) -> bytes:
        now = dt.datetime.now(dt.UTC)
        names = [x509.DNSName("tenant-auth.test"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(days=1))
            .not_valid_after(now + dt.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def secure(authority: Authority) -> Iterator[Fake]:
    """A service that only talks to clients with a certificate."""
    cert, key = authority.issue("server")
    credentials = grpc.ssl_server_credentials(
        [(key.read_bytes(), cert.read_bytes())], authority.file.read_bytes(), require_client_auth=True
    )
    fake = Fake(credentials)
    yield fake
    fake.stop()


async def test_both_sides_show_their_certificates(secure: Fake, authority: Authority, connect: Connect) -> None:
    cert, key = authority.issue("client")
    own = Tls(ca_file=authority.file, cert_file=cert, key_file=key)
    client = connect(f"https://{secure.endpoint}", tls=own, near_cache=None)
    assert (await client.server_info(timeout=20.0)).version == "1.2.3"

    named = Tls(ca_file=authority.file, cert_file=cert, key_file=key, server_name="tenant-auth.test")
    client = connect(secure.endpoint, tls=named, near_cache=None)
    assert (await client.server_info(timeout=20.0)).version == "1.2.3"


async def test_a_stranger_is_not_trusted(secure: Fake, authority: Authority, connect: Connect) -> None:
    cert, key = authority.issue("client")
    for tls in (
        Tls(ca_file=authority.file),
        Tls(cert_file=cert, key_file=key),
        Tls(ca_file=authority.file, cert_file=cert, key_file=key, server_name="another.test"),
    ):
        client = connect(f"https://{secure.endpoint}", tls=tls, near_cache=None, retry=None)
        with pytest.raises(UnavailableError):
            await client.server_info(timeout=20.0)
    assert not secure.calls["GetServerInfo"]


class Proxy:
    """Accepts connections and keeps the first line of each."""

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
        # Closing alone would leave a thread in accept().
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


async def test_a_proxy_of_the_environment_is_told_nothing(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    proxy = Proxy()
    for name in ("http_proxy", "https_proxy", "grpc_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    for name in ("no_proxy", "no_grpc_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    client = connect(near_cache=None)
    assert (await client.server_info(timeout=20.0)).version == "1.2.3"
    proxy.close()
    assert proxy.lines == []
