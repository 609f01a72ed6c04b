"""Target and settings of a connection. Each address of the service has its own channel."""

from __future__ import annotations

import ipaddress
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass, field

import grpc
import grpc.aio

from ._endpoints import Endpoint, parse
from ._tls import Credentials, Stamp
from .options import Options, Tls

KEEPALIVE_MS = 20_000
KEEPALIVE_TIMEOUT_MS = 10_000
# The connect timeout. gRPC calls it the minimum backoff between two attempts.
CONNECT_TIMEOUT_MS = 5_000
# A restarted replica is used again within about one second.
RECONNECT_MS = 1_000
CLUSTER_SUFFIXES = (".svc", ".local", ".internal", ".localhost")


@dataclass(frozen=True, slots=True)
class Address:
    """One address of one endpoint: the target of a channel."""

    target: str
    """The gRPC target name."""
    endpoint: Endpoint
    proxy: str | None = field(default=None, repr=False)
    """The proxy to connect through."""

    @classmethod
    def of(cls, endpoint: Endpoint, ip: str) -> Address:
        v6 = ":" in ip
        return cls(
            f"ipv6:%5B{ip.replace('%', '%25')}%5D:{endpoint.port}" if v6 else f"ipv4:{ip}:{endpoint.port}", endpoint
        )

    @classmethod
    def through(cls, proxy: str, endpoint: Endpoint) -> Address:
        return cls(f"dns:///{endpoint.authority}", endpoint, proxy)


class Target:
    """All endpoints, and how to create a channel for each of their addresses."""

    def __init__(self, endpoints: str | Sequence[str], options: Options) -> None:
        self.endpoints, scheme = parse(endpoints)
        if scheme == "http" and options.tls is not None:
            first = f"http://{self.endpoints[0].authority}"
            raise ValueError(f"{first}: http:// means plaintext, but the option tls is set: use https://")
        self._options = options
        self._tls = options.tls or (Tls() if scheme == "https" else None)
        self._credentials = None if self._tls is None else Credentials(self._tls)

    def proxy(self, endpoint: Endpoint) -> str | None:
        """Returns the proxy of the environment for this endpoint, if it is enabled."""
        if not self._options.use_environment_proxy or is_local(endpoint):
            return None
        return environment_proxy(endpoint, secure=self._tls is not None)

    def channel(self, address: Address) -> tuple[grpc.aio.Channel, Stamp]:
        """Returns a channel, and the stamp of the TLS files that it was created from. Must be called within the event
        loop.
        """
        settings = self.settings(address)
        if self._credentials is None:
            return grpc.aio.insecure_channel(address.target, settings), ()
        credentials, stamp = self._credentials.current()
        return grpc.aio.secure_channel(address.target, credentials, settings), stamp

    def stamp(self) -> Stamp:
        return () if self._credentials is None else self._credentials.stamp()

    def settings(self, address: Address) -> list[tuple[str, str | int]]:
        settings: list[tuple[str, str | int]] = [
            ("grpc.keepalive_time_ms", KEEPALIVE_MS),
            ("grpc.keepalive_timeout_ms", KEEPALIVE_TIMEOUT_MS),
            # Without it, gRPC waits one minute for the PING response, independently of the keepalive timeout.
            ("grpc.http2.ping_timeout_ms", KEEPALIVE_TIMEOUT_MS),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.http2.max_pings_without_data", 0),
            ("grpc.min_reconnect_backoff_ms", CONNECT_TIMEOUT_MS),
            ("grpc.initial_reconnect_backoff_ms", RECONNECT_MS),
            ("grpc.max_reconnect_backoff_ms", RECONNECT_MS),
            ("grpc.primary_user_agent", self._options.user_agent),
            # gRPC's own retries would respect neither the retry budget nor the hedging of this client.
            ("grpc.enable_retries", 0),
            ("grpc.enable_http_proxy", int(address.proxy is not None)),
            # The connection is not shared, so it can be closed when its replica does not respond.
            ("grpc.use_local_subchannel_pool", 1),
        ]
        if address.proxy is not None:
            settings.append(("grpc.http_proxy", address.proxy))
        endpoint, authority = address.endpoint, address.endpoint.authority
        if self._tls is not None:
            # gRPC verifies the authority against the certificate too.
            name = self._tls.server_name or endpoint.host.partition("%")[0]
            authority = authority if self._tls.server_name is None else f"{name}:{endpoint.port}"
            settings.append(("grpc.ssl_target_name_override", name))
        settings.append(("grpc.default_authority", authority))
        return settings


def is_local(endpoint: Endpoint) -> bool:
    """Reports whether an endpoint is loopback or has a cluster-local name. A proxy cannot reach these."""
    if endpoint.version is not None:
        return ipaddress.ip_address(endpoint.host).is_loopback
    host = endpoint.host.lower().removesuffix(".")
    return "." not in host or host.endswith(CLUSTER_SUFFIXES)


def environment_proxy(endpoint: Endpoint, *, secure: bool) -> str | None:
    """Returns the proxy of the environment variables, respecting `no_proxy`."""
    proxies = urllib.request.getproxies_environment()
    proxy = proxies.get("https" if secure else "http")
    bypassed = urllib.request.proxy_bypass_environment(endpoint.host, proxies)  # type: ignore[attr-defined]
    return None if not proxy or bypassed else proxy
