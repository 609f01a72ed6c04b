"""Endpoints and options: invalid values are rejected immediately, with the name, the value and what to do."""

from __future__ import annotations

import asyncio
import datetime as dt
import math
from pathlib import Path
from typing import Any

import pytest

from certificates import CertificateAuthority
from tenant_auth import (
    AsyncClient,
    Client,
    InvalidRequestError,
    KeyQuery,
    NearCache,
    Options,
    RecorderOptions,
    Retry,
    Tls,
    TokenFile,
    UsageEvent,
)
from tenant_auth._channel import Address, Target, environment_proxy, is_local
from tenant_auth._endpoints import Endpoint, parse
from tenant_auth._tls import system_roots


@pytest.mark.parametrize(
    ("given", "authorities"),
    [
        ("127.0.0.1:1", ["127.0.0.1:1"]),
        ("tenant-auth:50051", ["tenant-auth:50051"]),
        ("[::1]:65535", ["[::1]:65535"]),
        ("[fe80::1%eth0]:1", ["[fe80::1]:1"]),
        ("dns:///tenant-auth.svc:50051", ["tenant-auth.svc:50051"]),
        ("http://tenant-auth:50051/", ["tenant-auth:50051"]),
        ("https://tenant-auth:443", ["tenant-auth:443"]),
        (["10.0.0.1:1", "[::2]:2", "name.:3"], ["10.0.0.1:1", "[::2]:2", "name.:3"]),
        ("10.0.0.1:1,10.0.0.2:2", ["10.0.0.1:1", "10.0.0.2:2"]),
        (("a:1", "a:1"), ["a:1"]),
    ],
)
def test_endpoint_forms_have_their_authorities(given: Any, authorities: list[str]) -> None:
    assert [endpoint.authority for endpoint in parse(given)[0]] == authorities


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([], "endpoints is empty"),
        ("", "'' is empty or contains whitespace"),
        ("a:1,", "'' is empty or contains whitespace"),
        ("a:1, b:1", "' b:1' is empty or contains whitespace"),
        ("a:1\n", "contains whitespace"),
        ("tenant-auth", "'tenant-auth' has no port"),
        ("tenant-auth:", "has no port"),
        ("tenant-auth:0", "has no port from 1 to 65535"),
        ("tenant-auth:65536", "has no port from 1 to 65535"),
        ("tenant-auth:http", "has no port from 1 to 65535"),
        (":50051", "has no host"),
        ("::1:50051", "IPv6 address without brackets"),
        ("[::1]", "has no port"),
        ("[10.0.0.1]:1", "contains no valid IPv6 address"),
        ("10.0.0.256:1", "contains no valid IPv4 address"),
        ("a_b!:1", "invalid host name"),
        ("grpc://a:1", "unknown scheme grpc://"),
        ("unix:///run/x", "unknown scheme unix://"),
        ("dns://8.8.8.8/a:1", "specifies a DNS server"),
        ("https://a:1/path", "has a path"),
        ("https://user:secret@a:1", "has a user"),
        (["https://10.0.0.1:1", "http://10.0.0.2:1"], "https:// for all of them or for none"),
        (["https://10.0.0.1:1", "10.0.0.2:1"], "https:// for all of them or for none"),
        (None, "endpoints is NoneType"),
        ({"a:1": 1}, "endpoints is dict"),
        ([b"a:1"], "endpoints contains bytes"),
    ],
)
@pytest.mark.parametrize("client", [AsyncClient, Client])
def test_invalid_endpoints_are_rejected(client: Any, given: Any, message: str) -> None:
    with pytest.raises((ValueError, TypeError)) as caught:
        client(given)
    assert message in str(caught.value)
    assert "give " in str(caught.value)
    assert "secret" not in str(caught.value)


DURATIONS = [0, -1, math.nan, math.inf, -math.inf, 86_401, 1e12, 10**400, "1", None, True, [1]]


@pytest.mark.parametrize(
    ("make", "name", "values"),
    [
        (lambda v: Options(timeout=v), "timeout", DURATIONS),
        (lambda v: Options(hedge_after=v), "hedge_after", [v for v in DURATIONS if v is not None]),
        (lambda v: Options(user_agent=v), "user_agent", ["", "a\nb", "a\0", "é", None, b"a", " a", "x" * 257]),
        (lambda v: Options(tls=v), "tls", [{}, "ca.pem", True]),
        (lambda v: Options(near_cache=v), "near_cache", [{}, True, 5]),
        (lambda v: Options(retry=v), "retry", [{}, False, 4]),
        (lambda v: Options(use_environment_proxy=v), "use_environment_proxy", ["yes", 1, None]),
        (lambda v: Options(clock=v), "clock", [None, 1]),
        (lambda v: Options(jitter=v), "jitter", [0.5, None, asyncio.sleep]),
        (lambda v: Options(token=v), "token", [b"t", 5, {}, asyncio.sleep]),
        (lambda v: NearCache(max_entries=v), "near_cache.max_entries", [0, -1, 1.5, math.nan, "1", True, 10_000_001]),
        (lambda v: NearCache(watch=v), "near_cache.watch", ["no", 0, None]),
        (lambda v: NearCache(watched_for=v), "near_cache.watched_for", [v for v in DURATIONS if v is not None]),
        (lambda v: Retry(max_attempts=v), "retry.max_attempts", [0, -1, 101, 1.0, None]),
        (lambda v: Retry(initial_backoff=v), "retry.initial_backoff", DURATIONS),
        (lambda v: Retry(max_backoff=v), "retry.max_backoff", DURATIONS),
        (lambda v: Retry(budget=v), "retry.budget", [-0.1, 1.1, math.nan, "1", True]),
        (lambda v: Retry(burst=v), "retry.burst", [-1, 1.5, math.inf, 10_000_001]),
        (lambda v: RecorderOptions(batch_size=v), "batch_size", [0, 501, 1.0, None]),
        (lambda v: RecorderOptions(batch_delay=v), "batch_delay", DURATIONS),
        (lambda v: RecorderOptions(max_events=v), "max_events", [499, 10_000_001, math.nan]),
        (lambda v: RecorderOptions(timeout=v), "timeout", DURATIONS),
        (lambda v: RecorderOptions(max_backoff=v), "max_backoff", DURATIONS),
        (lambda v: Tls(server_name=v), "tls.server_name", ["", "a b", "a\n", "a:1", "https://a", 5]),
        (lambda v: Tls(ca=v), "tls.ca", ["", "-----BEGIN CERTIFICATE-----", "a\0", 5, {}]),
        (lambda v: Tls(cert=v), "tls.cert", ["cert.pem"]),
        (lambda v: TokenFile(v), "token.path", [5, None]),
        (lambda v: Client("a:1").usage_recorder(None, v), "on_rejected", [5, "log", asyncio.sleep]),
        (lambda v: Client("a:1", v), "options", [{"timeout": 1}, 5, "x", NearCache()]),
    ],
)
def test_invalid_option_values_are_rejected(make: Any, name: str, values: list[Any]) -> None:
    for value in values:
        with pytest.raises((ValueError, TypeError)) as caught:
            make(value)
        assert str(caught.value).startswith(name), value


async def test_invalid_call_arguments_are_rejected(tmp_path: Path) -> None:
    async with AsyncClient("127.0.0.1:1", Options(near_cache=None)) as client:
        for timeout in (0, -1, math.nan, math.inf, "1", 1e12):
            with pytest.raises((ValueError, TypeError), match="timeout"):
                await client.validate_key("k", timeout=timeout)  # type: ignore[arg-type]
        for scopes in (5, b"orders", ["a", 5], None):
            with pytest.raises(TypeError, match="scopes"):
                await client.validate_key("k", scopes)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="scopes"):
                KeyQuery("k", scopes)  # type: ignore[arg-type]
        for ttl in (0, -1, math.nan, math.inf, "1"):
            with pytest.raises((ValueError, TypeError), match="ttl"):
                await client.bind_session("s", "k", ttl)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="keys is a single text"):
            await client.validate_keys("one")
        with pytest.raises(TypeError, match="key is bytes"):
            await client.validate_key(b"k")  # type: ignore[arg-type]
        for tenant in (None, 5, b"acme"):
            with pytest.raises(TypeError, match="tenant_id is "):
                await client.unbind_session("s", tenant)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="tenant_id is "):
                await anext(client.list_sessions(tenant))  # type: ignore[arg-type]
        for session in ("\ud800", "x" * 100_000):
            with pytest.raises(InvalidRequestError, match="session_id: must"):
                await client.unbind_session(session, "acme")
        with pytest.raises(TypeError, match="start is str: give a datetime"):
            await anext(client.query_usage("acme", "2026", dt.datetime.now(dt.UTC)))  # type: ignore[arg-type]
        with pytest.raises(TypeError, match=r"events\[0\] is int: give a UsageEvent"):
            await client.record_usage([5], "r")  # type: ignore[list-item]
    with pytest.raises(ValueError, match="time zone"):
        UsageEvent("acme", "a", 1, dt.datetime(2026, 1, 1))


@pytest.mark.parametrize("token", ["", " \n", "two lines\nhere", "one two", "é", "x" * 4_097, "a\0b"])
def test_invalid_token_is_rejected_and_not_shown(tmp_path: Path, token: str) -> None:
    file = tmp_path / "token"
    file.write_text(token)
    for given in (token, TokenFile(file)):
        with pytest.raises(ValueError, match="give ") as caught:
            Client("127.0.0.1:1", Options(token=given))
        assert not token.strip() or token not in str(caught.value)


def test_unreadable_token_file_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\0")
    for name in ("missing", ".", "binary"):
        with pytest.raises(ValueError, match=r"cannot be read|not text in UTF-8"):
            Client("127.0.0.1:1", Options(token=TokenFile(tmp_path / name)))


def test_invalid_tls_files_are_rejected(tmp_path: Path) -> None:
    authority, other = CertificateAuthority(tmp_path), CertificateAuthority(tmp_path, "other")
    cert, key = authority.issue("client")
    _, foreign = other.issue("foreign")
    (tmp_path / "text").write_text("root:x:0:0")
    for tls, message in (
        (Tls(ca=tmp_path / "missing"), "tls.ca: .*missing cannot be read"),
        (Tls(ca=tmp_path / "text"), "tls.ca contains no PEM certificate .*text.: "),
        (Tls(ca=b"/etc/ca.pem"), "tls.ca contains no PEM certificate"),
        (Tls(ca=key), "tls.ca contains no PEM certificate"),
        (Tls(cert=key, key=key), "tls.cert contains no PEM certificate"),
        (Tls(cert=cert, key=cert), "tls.key contains no PEM private key"),
        (Tls(cert=cert, key=foreign), "does not belong to tls.cert"),
        (Tls(cert=cert.read_bytes(), key=foreign.read_bytes()), "does not belong to tls.cert"),
    ):
        with pytest.raises(ValueError, match=message):
            Client("https://127.0.0.1:1", Options(tls=tls))
    with pytest.raises(ValueError, match=r"^http://127\.0\.0\.1:1: http:// means plaintext"):
        Client("http://127.0.0.1:1", Options(tls=Tls()))
    assert "PRIVATE" not in repr(Options(tls=Tls(cert=cert.read_bytes(), key=key.read_bytes())))


def test_channel_has_keepalive_and_connect_timeouts() -> None:
    target = Target("127.0.0.1:1", Options())
    settings = dict(target.settings(Address.of(target.endpoints[0], "127.0.0.1")))
    assert settings["grpc.keepalive_time_ms"] == 20_000
    assert settings["grpc.keepalive_timeout_ms"] == settings["grpc.http2.ping_timeout_ms"] == 10_000
    assert settings["grpc.min_reconnect_backoff_ms"] == 5_000, "this is also the connect timeout"


def test_system_roots_are_found() -> None:
    roots = system_roots()
    assert roots is None or b"BEGIN CERTIFICATE" in roots


@pytest.mark.parametrize(
    ("endpoint", "local"),
    [
        (Endpoint("127.0.0.1", 1, 4), True),
        (Endpoint("::1", 1, 6), True),
        (Endpoint("tenant-auth", 1, None), True),
        (Endpoint("tenant-auth.prod.svc", 1, None), True),
        (Endpoint("tenant-auth.svc.cluster.local", 1, None), True),
        (Endpoint("tenant-auth.internal.", 1, None), True),
        (Endpoint("10.0.0.1", 1, 4), False),
        (Endpoint("tenant-auth.example.com", 1, None), False),
    ],
)
def test_loopback_and_cluster_names_bypass_the_proxy(endpoint: Endpoint, local: bool) -> None:
    assert is_local(endpoint) is local


def test_environment_selects_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://secure:1")
    monkeypatch.setenv("http_proxy", "http://plain:1")
    monkeypatch.setenv("no_proxy", "direct.example.com")
    remote, direct = Endpoint("remote.example.com", 1, None), Endpoint("direct.example.com", 1, None)
    assert environment_proxy(remote, secure=True) == "http://secure:1"
    assert environment_proxy(remote, secure=False) == "http://plain:1"
    assert environment_proxy(direct, secure=True) is None
    assert Target("remote.example.com:1", Options()).proxy(remote) is None, "not used by default"
