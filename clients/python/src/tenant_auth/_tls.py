"""TLS credentials: from files, which are reloaded for new connections, or from memory."""

from __future__ import annotations

import logging
import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc

from .options import Pem, Tls

log = logging.getLogger("tenant_auth")

Stamp = tuple[tuple[int, int, int] | None, ...]


class Credentials:
    """The credentials for new connections. Invalid credentials are rejected at the start; later, the last valid ones
    stay in use.
    """

    def __init__(self, tls: Tls) -> None:
        self._tls = tls
        self._stamp = self.stamp()
        self._made = self._load()

    def stamp(self) -> Stamp:
        """Returns a value that changes when one of the files is replaced."""
        return tuple(stat_of(source) for source in (self._tls.ca, self._tls.cert, self._tls.key))

    def current(self) -> tuple[grpc.ChannelCredentials, Stamp]:
        """Returns the last valid credentials, and the stamp of the files that was checked for them."""
        stamp = self.stamp()
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._made = self._load()
            except ValueError as error:
                # This often happens during a rotation. Replacing the next file changes the stamp again.
                log.warning("TLS files not reloaded, the last valid ones stay in use: %s", error)
        return self._made, stamp

    def _load(self) -> grpc.ChannelCredentials:
        tls = self._tls
        roots = system_roots() if tls.ca is None else read("tls.ca", tls.ca)
        if tls.ca is not None:
            check_certificates("tls.ca", tls.ca, roots or b"")
        if tls.cert is None or tls.key is None:
            return grpc.ssl_channel_credentials(roots)
        chain, key = read("tls.cert", tls.cert), read("tls.key", tls.key)
        check_certificates("tls.cert", tls.cert, chain)
        if b"-----BEGIN" not in key or b"PRIVATE KEY-----" not in key:
            what = f"tls.key contains no PEM private key{origin(tls.key)}"
            raise ValueError(f"{what}: give the path of a file, or its content as bytes")
        check_pair(chain, key)
        return grpc.ssl_channel_credentials(roots, key, chain)


def stat_of(source: Pem | None) -> tuple[int, int, int] | None:
    if source is None or isinstance(source, bytes):
        return None
    try:
        stat = Path(source).stat()
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_size, stat.st_ino


def read(name: str, source: Pem) -> bytes:
    if isinstance(source, bytes):
        return source
    try:
        return Path(source).read_bytes()
    except (OSError, ValueError) as error:
        raise ValueError(f"{name}: {source!s} cannot be read: {error}") from None


def origin(source: Pem) -> str:
    """Returns the name of the file, for an error."""
    return "" if isinstance(source, bytes) else f" ({source!s})"


def check_certificates(name: str, source: Pem, pem: bytes) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem.decode("ascii"))
    except (ssl.SSLError, ValueError):
        what = f"{name} contains no PEM certificate{origin(source)}"
        raise ValueError(f"{what}: give the path of such a file, or its content as bytes") from None


def check_pair(chain: bytes, key: bytes) -> None:
    """Checks that the key belongs to the certificate. Without this check, handshakes would fail without naming the
    reason.
    """
    with temporary_path(chain + b"\n" + key) as path:
        try:
            # Without a password argument, OpenSSL would prompt for it on the terminal.
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_cert_chain(path, password="")
        except (ssl.SSLError, ValueError, OSError):
            raise ValueError("tls.key needs a password, or does not belong to tls.cert") from None


@contextmanager
def temporary_path(content: bytes) -> Iterator[str]:
    """Provides content that OpenSSL reads only from files; in memory if the system supports it."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("tenant-auth")
        try:
            os.write(descriptor, content)
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
        return
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        yield file.name


def system_roots() -> bytes | None:
    """Returns the system roots in PEM, or `None` if there are none; gRPC then uses its built-in roots."""
    paths = ssl.get_default_verify_paths()
    bundles = (os.environ.get(paths.openssl_cafile_env), paths.cafile, "/etc/ssl/certs/ca-certificates.crt")
    for bundle in bundles:
        if bundle and Path(bundle).is_file():
            return Path(bundle).read_bytes()
    loaded = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(ssl.DER_cert_to_PEM_cert(root) for root in loaded).encode() or None
