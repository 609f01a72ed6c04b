"""Every situation gets the same response behind every proxy."""

import pytest

from identity import check_identity
from proxies import NAMES
from situations import SITUATIONS


@pytest.fixture(params=NAMES)
def outcome(request, matrix, situation):
    return matrix.of(request.param, situation)


@pytest.fixture(params=SITUATIONS, ids=lambda situation: situation.name)
def situation(request):
    return request.param


def without_body(outcome, situation):
    """Traefik cannot say more than 503 in place of a service that does not answer."""
    return outcome.proxy == "traefik" and situation.code == "UNDECIDED" and not situation.name.startswith("database")


def test_the_status_is_the_true_one(outcome, situation):
    assert outcome.response.status == situation.status


def test_the_body_is_the_problem_or_the_application_s(outcome, situation):
    if without_body(outcome, situation):
        return
    assert outcome.response.code() == situation.code
    if situation.code:
        assert outcome.response.json()["status"] == situation.status
        assert outcome.response.json()["title"]
    elif situation.path.startswith("/status"):
        assert outcome.response.body == b"the application's own"


def test_headers_say_what_the_client_can_do(outcome, situation):
    headers = outcome.response.headers
    if situation.code and situation.status == 401:
        assert headers.get_all("www-authenticate")[0].startswith("Bearer")
        assert len(headers.get_all("www-authenticate")) == 1
    if situation.code and situation.status == 503 and not without_body(outcome, situation):
        assert headers.get_all("retry-after") and int(headers["retry-after"]) > 0
        assert "www-authenticate" not in headers
    assert not [name for name, value in headers.items() if name.lower().startswith("x-tenant-") and value]


def test_only_admitted_requests_reach_the_application(outcome, situation, matrix):
    if not situation.admitted:
        assert outcome.seen is None
        return
    check_identity(outcome.seen, matrix.bed, "valid")


def test_undecided_is_said_in_time(outcome, situation):
    if situation.code == "UNDECIDED":
        # The proxy's second, and what a busy machine needs.
        assert outcome.seconds < 3
