"""Answers of the near cache and their lifetimes, with a manual clock."""

from __future__ import annotations

import gc
from datetime import UTC, datetime

import pytest

from near import keep, session, validation
from tenant_auth import NearCache as Limits
from tenant_auth import Provenance, Source, Verdict
from tenant_auth._near_cache import NearCache, SubjectKind
from tenant_auth.testing import ManualClock


def test_lifetime_counts_from_before_the_request(near: NearCache, clock: ManualClock) -> None:
    ticket = near.ticket()
    clock.advance(2)
    digest = keep(near, ticket=ticket)
    clock.advance(2.75)
    answer = near.get(digest)
    assert answer is not None
    assert answer.provenance == Provenance(source=Source.NEAR, age=5.75, revision=10, cacheable_for=0.25)
    assert near.get(digest) is not None, "the read before must have changed nothing"
    clock.advance(0.25)
    assert near.get(digest) is None


def test_uncacheable_answer_is_not_cached(near: NearCache) -> None:
    assert near.get(keep(near, reuse=0.0, watched=0.0)) is None
    assert len(near) == 0


def test_expiry_is_not_compared_with_the_client_clock(near: NearCache, clock: ManualClock) -> None:
    # The lifetime already accounts for the expiry. The clock of this machine may be wrong.
    digest = keep(near, expires_at=datetime.fromtimestamp(clock.time() - 9, UTC))
    clock.advance(4.9)
    assert near.get(digest) is not None
    clock.advance(0.1)
    assert near.get(digest) is None


def test_older_answer_does_not_replace_newer_one(near: NearCache) -> None:
    digest = keep(near, revision=11, plan="new")
    keep(near, revision=10, plan="old")
    answer = near.get(digest)
    assert answer is not None
    assert answer.plan == "new"


def test_own_session_change_applies_immediately(near: NearCache) -> None:
    digest = near.digest("session", "s1", "")
    ticket = near.ticket()
    near.put(digest, ticket, validation(), "s1")
    near.invalidate_local([(SubjectKind.SESSION, "s1")])
    assert near.get(digest) is None
    near.put(digest, ticket, validation(), "s1")
    assert near.get(digest) is None, "the request was in flight"
    near.put(digest, near.ticket(), validation(), "s1")
    assert near.get(digest) is not None


@pytest.mark.parametrize(
    ("about", "name"), [(SubjectKind.KEY, "key_1"), (SubjectKind.KEY, "key_2"), (SubjectKind.TENANT, "acme")]
)
def test_own_change_invalidates_cache_and_requests_in_flight(near: NearCache, about: SubjectKind, name: str) -> None:
    digest, ticket = near.digest("session", "s1", "k"), near.ticket()
    answer = session(presented_key_id="key_2")
    near.put(digest, ticket, answer, "s1")
    near.invalidate_local([(about, name)])
    assert near.get(digest) is None
    near.put(digest, ticket, answer, "s1")
    assert near.get(digest) is None


def test_own_change_removes_negative_entries(near: NearCache) -> None:
    ticket = near.ticket()
    digest = keep(near, verdict=Verdict.UNKNOWN)
    near.invalidate_local([(SubjectKind.TENANT, "acme")])
    assert near.get(digest) is None
    assert near.get(keep(near, ticket=ticket, verdict=Verdict.UNKNOWN)) is None, "the request was in flight"


def test_least_recently_used_is_evicted_first(clock: ManualClock) -> None:
    near = NearCache(Limits(max_entries=3), clock)
    first, second, third = (keep(near, name) for name in "abc")
    assert near.get(first) is not None
    keep(near, "d")
    assert near.get(second) is None
    assert None not in (near.get(first), near.get(third))
    assert len(near) == 3


def test_unknown_keys_do_not_evict_other_entries(clock: ManualClock) -> None:
    near = NearCache(Limits(max_entries=100), clock)
    known = [keep(near, f"known {number}") for number in range(90)]
    for number in range(1_000):
        keep(near, f"unknown {number}", verdict=Verdict.UNKNOWN)
    assert all(near.get(digest) is not None for digest in known)
    assert len(near) == 100


def test_cache_of_one_entry(clock: ManualClock) -> None:
    near = NearCache(Limits(max_entries=1), clock)
    keep(near, "a", verdict=Verdict.UNKNOWN)
    digest = keep(near, "b")
    assert near.get(digest) is not None
    assert len(near) == 1


def test_cache_stores_no_plaintext(near: NearCache) -> None:
    canary = "ta_canary" + "x" * 20
    digest = near.digest("session", canary, canary)
    near.put(digest, near.ticket(), validation(), canary)
    near.invalidate(SubjectKind.SESSION, canary + "other", 1)
    seen: set[int] = set()
    texts: list[str] = []
    todo: list[object] = [near]
    while todo:
        thing = todo.pop()
        if id(thing) in seen or isinstance(thing, type) or hasattr(thing, "__code__"):
            continue
        seen.add(id(thing))
        if isinstance(thing, str | bytes):
            texts.append(str(thing))
        todo.extend(referent for referent in gc.get_referents(thing) if type(referent).__name__ != "module")
    assert "acme" in texts, "the search must find what is there"
    assert not [text for text in texts if "canary" in text]


def test_digests_are_specific_to_process_and_request() -> None:
    one, other = NearCache(Limits(), ManualClock()), NearCache(Limits(), ManualClock())
    assert one.digest("key", "a") == one.digest("key", "a")
    assert one.digest("key", "a") != other.digest("key", "a")
    assert one.digest("session", "a", "bc") != one.digest("session", "ab", "c")
