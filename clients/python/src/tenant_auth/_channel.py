"""How to reach the service: the target, the channel's settings, credentials."""

from __future__ import annotations

import ipaddress
import json
import os
import ssl
from collections.abc import Sequence
from pathlib import Path

import grpc

from .options import Options, Tls

KEEPALIVE_MS = 20_000
KEEPALIVE_TIMEOUT_MS = 10_000
# A service that was away for a minute must not be avoided for the next two, as gRPC would.
RECONNECT_MS = 100
LONGEST_RECONNECT_MS = 2_000
ROUND_ROBIN = json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})


class Target:
    """What gRPC is told to connect to. All addresses are used in turn."""

    def __init__(self, endpoints: str | Sequence[str], options: Options) -> None:
        given = [endpoints] if isinstance(endpoints, str) else list(endpoints)
        if not given:
            raise ValueError("at least one endpoint is needed, such as 127.0.0.1:50051")
        secure = [endpoint.startswith("https://") for endpoint in given]
        if any(secure) and (not all(secure)):
            raise ValueError("endpoints are either all https:// or none")
        if given[0].startswith("http://") and options.tls is not None:
            raise ValueError("an endpoint with http:// is plaintext and cannot have tls")
        self.tls = options.tls or (Tls() if secure[0] else None)
        self.address = target(given)

    def settings(self, options: Options) -> list[tuple[str, str | int]]:
        settings: list[tuple[str, str | int]] = [
            ("grpc.service_config", ROUND_ROBIN),
            ("grpc.keepalive_time_ms", KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS),
            ("grpc.min_reconnect_backoff_ms", RECONNECT_MS),
            ("grpc.max_reconnect_backoff_ms", LONGEST_RECONNECT_MS),
            ("grpc.primary_user_agent", options.user_agent),
            # Proxies of the environment would be given customers' keys, and the caller's token.
            ("grpc.enable_http_proxy", 0),
            # Two clients in one process, such as one for each environment, share nothing.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if self.tls is not None and self.tls.server_name is not None:
            settings.append(("grpc.ssl_target_name_override", self.tls.server_name))
            settings.append(("grpc.default_authority", self.tls.server_name))
        return settings

    def credentials(self) -> grpc.ChannelCredentials | None:
        """Read from the files anew each time a channel is made."""
        if self.tls is None:
            return None
        roots = Path(self.tls.ca_file).read_bytes() if self.tls.ca_file is not None else system_roots()
        if self.tls.cert_file is None or self.tls.key_file is None:
            return grpc.ssl_channel_credentials(roots)
        key, chain = Path(self.tls.key_file).read_bytes(), Path(self.tls.cert_file).read_bytes()
        return grpc.ssl_channel_credentials(roots, key, chain)


def target(endpoints: Sequence[str]) -> str:
    plain = [endpoint.removeprefix("http://").removeprefix("https://").rstrip("/") for endpoint in endpoints]
    for endpoint, text in zip(endpoints, plain, strict=True):
        port = text.rpartition(":")[2]
        if "://" not in text and not text.startswith(("unix:", "dns:")) and not port.isdigit():
            raise ValueError(f"{endpoint!r} names no port, such as 127.0.0.1:50051 does")
    if len(plain) == 1:
        return plain[0]
    versions = {version(endpoint) for endpoint in plain}
    if versions == {4}:
        return "ipv4:" + ",".join(plain)
    if versions == {6}:
        return "ipv6:" + ",".join(plain)
    raise ValueError(
        "several endpoints must be IP addresses of one version; for names use one that resolves to all addresses: "
        + ", ".join(endpoints)
    )


def version(endpoint: str) -> int | None:
    host = endpoint.rpartition(":")[0].removeprefix("[").removesuffix("]")
    try:
        return ipaddress.ip_address(host).version
    except ValueError:
        return None


def system_roots() -> bytes | None:
    """The machine's own roots in PEM; `None`, so that gRPC takes those it ships, where there are none."""
    paths = ssl.get_default_verify_paths()
    bundles = (os.environ.get(paths.openssl_cafile_env), paths.cafile, "/etc/ssl/certs/ca-certificates.crt")
    for bundle in bundles:
        if bundle and Path(bundle).is_file():
            return Path(bundle).read_bytes()
    loaded = ssl.create_default_context().get_ca_certs(binary_form=True)
    return "".join(ssl.DER_cert_to_PEM_cert(root) for root in loaded).encode() or None
