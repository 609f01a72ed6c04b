"""Texts of addresses and networks, and the evaluation of cached answers."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from ipaddress import IPv4Address, ip_address
from typing import Any

import pytest

from near_cache_helpers import session, validation
from tenant_auth import InvalidRequestError, Networks, Validation, Verdict
from tenant_auth._conditions import apply_conditions
from tenant_auth._wire import client_address
from tenant_auth.networks import parse_address, parse_network

OFFICE = Networks(["192.0.2.0/24", "2001:db8:1::/48", "198.51.100.7"])
INSIDE, OUTSIDE = ip_address("192.0.2.7"), ip_address("192.0.3.7")


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.7:0", "192.0.2.7"),
        ("192.0.2.7:65535", "192.0.2.7"),
        ("2001:DB8:0:0:0:0:0:7", "2001:db8::7"),
        ("[2001:db8::7]", "2001:db8::7"),
        ("[2001:db8::7]:443", "2001:db8::7"),
        ("fe80::1%eth0", "fe80::1"),
        ("[fe80::1%eth0.100]:443", "fe80::1"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:c000:207", "192.0.2.7"),
        ("[::ffff:c000:207]:443", "192.0.2.7"),
        ("::ffff:192.0.2.7%1", "192.0.2.7"),
        ("::192.0.2.7", "::c000:207"),
        ("fe80::1%" + "z" * 120, "fe80::1"),
    ],
)
def test_each_form_of_an_address_is_parsed(text: str, address: str) -> None:
    assert parse_address(text) == ip_address(address)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "192.0.2",
        "192.0.2.256",
        "192.0.02.1",
        "192.0.2.0/24",
        "192.0.2.1:",
        "192.0.2.1:port",
        "192.0.2.1:+1",
        "192.0.2.1:65536",
        "192.0.2.1%eth0",
        "[192.0.2.1]",
        "[192.0.2.1]:443",
        " 192.0.2.1",
        "192.0.2.1\n",
        "192.0.2.1, 192.0.2.2",
        "\u0661.0.2.1",
        "192.0.2.1:\u0661",
        "3221225985",
        "0xc0.0.2.1",
        "2001:db8::1::2",
        "2001:db8::12345",
        "::ffff:192.0.02.1",
        "[2001:db8::1",
        "2001:db8::1]",
        "[2001:db8::1]443",
        "[2001:db8::1]:65536",
        "[]:443",
        "fe80::1%",
        "fe80::1%a b",
        "fe80::1%a,192.0.2.1",
        "fe80::1%\u00e9",
        "fe80::1%" + "z" * 121,
        "example.com",
        "unknown",
        "\udcff",
    ],
)
def test_any_other_text_is_an_invalid_address(text: str) -> None:
    assert parse_address(text) is None


@pytest.mark.parametrize("given", [None, ""])
def test_empty_address_is_no_address(given: str | None) -> None:
    assert client_address(given) is None


@pytest.mark.parametrize(
    ("given", "address"),
    [("192.0.2.7", "192.0.2.7"), ("fe80::1%eth0", "fe80::1"), ("::ffff:192.0.2.7", "192.0.2.7")],
)
def test_address_object_is_like_its_text(given: str, address: str) -> None:
    assert client_address(ip_address(given)) == client_address(given) == ip_address(address)


def test_invalid_address_names_field_and_forms() -> None:
    with pytest.raises(InvalidRequestError, match=r"must be an IPv4 or IPv6 address.*192\.0\.2\.7:443") as caught:
        client_address("example.com")
    assert caught.value.code == "INVALID_ARGUMENT"
    assert [violation.field for violation in caught.value.violations] == ["client_address"]


@pytest.mark.parametrize("given", [7, b"192.0.2.7", ("192.0.2.7", 443)])
def test_address_of_another_type_is_rejected(given: Any) -> None:
    with pytest.raises(TypeError, match="client_address is "):
        client_address(given)


@pytest.mark.parametrize(
    ("network", "inside", "outside"),
    [
        ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
        ("192.0.2.9/24", "192.0.2.0", "192.0.1.255"),
        ("198.51.100.7", "198.51.100.7", "198.51.100.8"),
        ("198.51.100.7/32", "198.51.100.7", "198.51.100.6"),
        ("0.0.0.0/0", "255.255.255.255", "::"),
        ("::/0", "2001:db8::1", "192.0.2.1"),
        ("2001:db8:1::/48", "2001:db8:1:ffff::1", "2001:db8:2::"),
        ("2001:db8::7", "2001:db8::7", "2001:db8::8"),
        ("::ffff:192.0.2.0/120", "192.0.2.1", "192.0.3.1"),
        ("::ffff:192.0.2.7", "192.0.2.7", "::ffff:0:0"),
    ],
)
def test_network_contains_addresses_of_its_family(network: str, inside: str, outside: str) -> None:
    networks = Networks([network])
    assert networks.allow(ip_address(inside))
    assert not networks.allow(ip_address(outside))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "192.0.2.0/33",
        "192.0.2.0/",
        "192.0.2.0/08",
        "192.0.2.0/-1",
        "192.0.2.0/255.255.255.0",
        "192.0.2.0/24 ",
        "192.0.2.1:80",
        "192.0.2.0/\u0662",
        "::/129",
        "::ffff:0:0/129",
        "fe80::%1/64",
        "[::1]",
    ],
)
def test_unparsable_network_contains_nothing(text: str) -> None:
    assert parse_network(text) is None
    networks = Networks([text])
    assert not networks.allow(IPv4Address("192.0.2.1"))
    assert Networks([text, "192.0.2.0/24"]).allow(IPv4Address("192.0.2.1"))


def test_no_networks_allow_every_address() -> None:
    assert Networks().allow(OUTSIDE)
    assert Networks() == ()


def test_networks_are_texts_that_can_be_copied() -> None:
    assert list(OFFICE) == ["192.0.2.0/24", "2001:db8:1::/48", "198.51.100.7"]
    assert Networks("192.0.2.0/24") == ("192.0.2.0/24",)
    answer = validation(allowed_networks=OFFICE)
    for copied in (copy.deepcopy(answer), pickle.loads(pickle.dumps(answer))):  # noqa: S301
        assert copied == answer
        assert copied.allowed_networks.allow(INSIDE)
        assert not copied.allowed_networks.allow(OUTSIDE)
    assert json.loads(json.dumps(dataclasses.asdict(answer)))["allowed_networks"] == list(OFFICE)


REEVALUATED = (Verdict.VALID, Verdict.INSUFFICIENT_SCOPE, Verdict.ADDRESS_REQUIRED, Verdict.ADDRESS_NOT_ALLOWED)


@pytest.mark.parametrize("cached", REEVALUATED)
def test_cached_answer_is_evaluated_for_each_request(cached: Verdict) -> None:
    answer = validation(cached, allowed_networks=OFFICE, scopes=("a",), missing_scopes=("old",))

    def verdict(address: Any, *scopes: str) -> tuple[Verdict, tuple[str, ...]]:
        evaluated = apply_conditions(answer, address, scopes)
        assert (evaluated.tenant_id, evaluated.key_id) == ("acme", "key_1")
        return evaluated.verdict, evaluated.missing_scopes

    assert verdict(INSIDE, "a") == (Verdict.VALID, ())
    assert verdict(ip_address("2001:db8:1::1")) == (Verdict.VALID, ())
    assert verdict(INSIDE, "c", "a", "b", "c") == (Verdict.INSUFFICIENT_SCOPE, ("b", "c"))
    assert verdict(OUTSIDE, "b") == (Verdict.ADDRESS_NOT_ALLOWED, ()), "the address comes before the scopes"
    assert verdict(None, "b") == (Verdict.ADDRESS_REQUIRED, ())


@pytest.mark.parametrize("cached", [verdict for verdict in Verdict if verdict not in REEVALUATED] + [Verdict(99)])
@pytest.mark.parametrize("address", [None, INSIDE, OUTSIDE])
def test_other_verdicts_stand_for_every_address(cached: Verdict, address: Any) -> None:
    answer = validation(cached, allowed_networks=OFFICE)
    assert apply_conditions(answer, address, ("a",)) is answer


@pytest.mark.parametrize("address", [None, INSIDE, ip_address("::1")])
def test_key_without_networks_needs_no_address(address: Any) -> None:
    answer = validation(scopes=("a",))
    assert apply_conditions(answer, address, ("a",)) is answer
    assert apply_conditions(answer, address, ("b",)).verdict is Verdict.INSUFFICIENT_SCOPE
    reevaluated = apply_conditions(validation(Verdict.INSUFFICIENT_SCOPE, scopes=("a",)), address, ("a",))
    assert reevaluated.verdict is Verdict.VALID


@pytest.mark.parametrize("cached", [Verdict.ADDRESS_REQUIRED, Verdict.ADDRESS_NOT_ALLOWED])
def test_address_denial_without_networks_stands(cached: Verdict) -> None:
    answer = validation(cached)
    assert apply_conditions(answer, INSIDE, ()).verdict is cached


@pytest.mark.parametrize(
    ("own", "presented", "verdicts"),
    [
        ([], [], ["VALID"] * 5),
        (["192.0.2.0/24"], [], ["ADDRESS_REQUIRED", "VALID"] + ["ADDRESS_NOT_ALLOWED"] * 3),
        ([], ["192.0.2.0/24"], ["ADDRESS_REQUIRED", "VALID"] + ["ADDRESS_NOT_ALLOWED"] * 3),
        (
            ["192.0.2.0/24", "198.51.100.0/24"],
            ["198.51.100.0/24", "203.0.113.0/24"],
            ["ADDRESS_REQUIRED", "ADDRESS_NOT_ALLOWED", "VALID", "ADDRESS_NOT_ALLOWED", "ADDRESS_NOT_ALLOWED"],
        ),
        (["192.0.2.0/24"], ["invalid"], ["ADDRESS_REQUIRED"] + ["ADDRESS_NOT_ALLOWED"] * 4),
    ],
)
def test_session_needs_the_networks_of_both_keys(own: list[str], presented: list[str], verdicts: list[str]) -> None:
    answer = session(allowed_networks=Networks(own), presented_key_allowed_networks=Networks(presented))
    addresses = [None, *map(ip_address, ("192.0.2.1", "198.51.100.1", "203.0.113.1", "2001:db8::1"))]
    evaluated: list[Validation] = [apply_conditions(answer, address, ()) for address in addresses]
    assert [str(one.verdict) for one in evaluated] == verdicts
