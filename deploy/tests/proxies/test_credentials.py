"""A key stays at the proxy, however it was written; what is not a key reaches the application."""

import pytest

from browser import PREFLIGHT, send
from identity import check_identity
from upstream import seen

TWO_HEADERS = "\r\nAuthorization: "


def test_the_key_in_x_api_key_stays_at_the_proxy(proxy, bed):
    received = seen(send(proxy.port, "/", [("x-api-key", bed.secret("valid"))]))
    check_identity(received, bed, "valid")


def test_another_scheme_reaches_the_application(proxy, bed):
    basic = ("Authorization", "Basic c2hvcDpzZWNyZXQ=")
    received = seen(send(proxy.port, "/", [basic, ("X-API-Key", bed.secret("valid"))]))
    assert received.values("authorization") == [basic[1]]
    assert not received.values("x-api-key")


@pytest.mark.parametrize("value", ["bearer {}", "BEARER {}", "Bearer  {}", "Bearer\t{}", "Bearer", "bearer "])
def test_no_spelling_of_bearer_reaches_the_application(proxy, bed, value):
    secret = bed.secret("valid")
    lines = [f"Authorization: {value.format(secret)}", f"X-API-Key: {secret}", f"X_Api_Key: {secret}"]
    received = seen(send(proxy.port, "/", lines))
    assert not received.values("authorization")
    check_identity(received, bed, "valid")


@pytest.mark.parametrize(
    "value", ["Basic eDp5, Bearer {}", "Basic eDp5,bearer\t{}", "Basic eDp5 ,\tBearer {}", "Bearer {0},Bearer {0}"]
)
def test_a_key_after_another_value_is_ambiguous(proxy, bed, application, value):
    line = f"Authorization: {value.format(bed.secret('valid'))}"
    responses = []
    assert not application.recorded(lambda: responses.append(send(proxy.port, "/", [line])))
    assert (responses[0].status, responses[0].code()) == (400, "AMBIGUOUS_REQUEST")


@pytest.mark.parametrize(
    "value", [f"Basic eDp5{TWO_HEADERS}Bearer {{}}", f"Bearer {{}}{TWO_HEADERS}Basic eDp5", f"Bearer{TWO_HEADERS}x"]
)
def test_a_key_in_one_of_two_headers_stays_at_the_proxy(proxy, bed, application, value):
    """Some proxies join the headers, or refuse them."""
    secret = bed.secret("valid")
    lines = [f"Authorization: {value.format(secret)}", f"X-API-Key: {secret}"]
    responses = []
    received = application.recorded(lambda: responses.append(send(proxy.port, "/", lines)))
    assert responses[0].status == (200 if received else 400)
    for one in received:
        assert not [value for value in one.values("authorization") if secret in value]


@pytest.mark.parametrize("line", ["Authorization: Bearer", "Authorization: Bearer ", "X-API-Key:", "X-API-Key: "])
def test_a_preflight_passes_without_its_empty_key(proxy, application, line):
    received = application.recorded(lambda: send(proxy.port, "/", [*PREFLIGHT, line], "OPTIONS"))
    assert [one.method for one in received] == ["OPTIONS"]
    assert not received[0].values("authorization") + received[0].values("x-api-key")
