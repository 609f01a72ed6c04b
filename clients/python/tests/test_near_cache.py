"""Answers of the near cache and their lifetimes, with a manual clock."""

from __future__ import annotations

import gc
from datetime import UTC, datetime

import pytest

from near_cache_helpers import put, session, validation
from tenant_auth import NearCache as Limits
from tenant_auth import Provenance, Source, Verdict
from tenant_auth._near_cache import NearCache, SubjectKind
from tenant_auth.testing import ManualClock


def test_lifetime_counts_from_before_the_request(near: NearCache, clock: ManualClock) -> None:
    snapshot = near.snapshot()
    clock.advance(2)
    digest = put(near, snapshot=snapshot)
    clock.advance(2.75)
    answer = near.get(digest)
    assert answer is not None
    assert answer.provenance == Provenance(source=Source.NEAR, age=5.75, revision=10, cacheable_for=0.25)
    assert near.get(digest) is not None, "the read before must have changed nothing"
    clock.advance(0.25)
    assert near.get(digest) is None


def test_uncacheable_answer_is_not_cached(near: NearCache) -> None:
    assert near.get(put(near, cacheable_for=0.0, watched=0.0)) is None
    assert len(near) == 0


def test_expiry_is_not_compared_with_the_client_clock(near: NearCache, clock: ManualClock) -> None:
    # The lifetime already accounts for the expiry. The clock of this machine may be wrong.
    digest = put(near, expires_at=datetime.fromtimestamp(clock.time() - 9, UTC))
    clock.advance(4.9)
    assert near.get(digest) is not None
    clock.advance(0.1)
    assert near.get(digest) is None


def test_older_answer_does_not_replace_newer_one(near: NearCache) -> None:
    digest = put(near, revision=11, plan="new")
    put(near, revision=10, plan="old")
    answer = near.get(digest)
    assert answer is not None
    assert answer.plan == "new"


def test_own_session_change_applies_immediately(near: NearCache) -> None:
    digest = near.digest("session", "s1", "")
    snapshot = near.snapshot()
    near.put(digest, snapshot, validation(), "s1")
    near.invalidate_local([(SubjectKind.SESSION, "s1")])
    assert near.get(digest) is None
    near.put(digest, snapshot, validation(), "s1")
    assert near.get(digest) is None, "the request was in flight"
    near.put(digest, near.snapshot(), validation(), "s1")
    assert near.get(digest) is not None


@pytest.mark.parametrize(
    ("kind", "name"), [(SubjectKind.KEY, "key_1"), (SubjectKind.KEY, "key_2"), (SubjectKind.TENANT, "acme")]
)
def test_own_change_invalidates_cache_and_requests_in_flight(near: NearCache, kind: SubjectKind, name: str) -> None:
    digest, snapshot = near.digest("session", "s1", "k"), near.snapshot()
    answer = session(presented_key_id="key_2")
    near.put(digest, snapshot, answer, "s1")
    near.invalidate_local([(kind, name)])
    assert near.get(digest) is None
    near.put(digest, snapshot, answer, "s1")
    assert near.get(digest) is None


def test_own_change_removes_negative_entries(near: NearCache) -> None:
    snapshot = near.snapshot()
    digest = put(near, verdict=Verdict.UNKNOWN)
    near.invalidate_local([(SubjectKind.TENANT, "acme")])
    assert near.get(digest) is None
    assert near.get(put(near, snapshot=snapshot, verdict=Verdict.UNKNOWN)) is None, "the request was in flight"


def test_least_recently_used_is_evicted_first(clock: ManualClock) -> None:
    near = NearCache(Limits(max_entries=3), clock)
    first, second, third = (put(near, name) for name in "abc")
    assert near.get(first) is not None
    put(near, "d")
    assert near.get(second) is None
    assert None not in (near.get(first), near.get(third))
    assert len(near) == 3


def test_unknown_keys_do_not_evict_other_entries(clock: ManualClock) -> None:
    near = NearCache(Limits(max_entries=100), clock)
    known = [put(near, f"known {number}") for number in range(90)]
    for number in range(1_000):
        put(near, f"unknown {number}", verdict=Verdict.UNKNOWN)
    assert all(near.get(digest) is not None for digest in known)
    assert len(near) == 100


def test_cache_of_one_entry_stores_a_positive_answer(clock: ManualClock) -> None:
    near = NearCache(Limits(max_entries=1), clock)
    put(near, "a", verdict=Verdict.UNKNOWN)
    digest = put(near, "b")
    assert near.get(digest) is not None
    assert len(near) == 1


def test_cache_stores_no_plaintext(near: NearCache) -> None:
    canary = "ta_canary" + "x" * 20
    digest = near.digest("session", canary, canary)
    near.put(digest, near.snapshot(), validation(), canary)
    near.invalidate(SubjectKind.SESSION, canary + "other", 1)
    visited: set[int] = set()
    texts: list[str] = []
    remaining: list[object] = [near]
    while remaining:
        item = remaining.pop()
        if id(item) in visited or isinstance(item, type) or hasattr(item, "__code__"):
            continue
        visited.add(id(item))
        if isinstance(item, str | bytes):
            texts.append(str(item))
        remaining.extend(referent for referent in gc.get_referents(item) if type(referent).__name__ != "module")
    assert "acme" in texts, "the search must find stored text"
    assert not [text for text in texts if "canary" in text]


def test_digests_are_specific_to_process_and_request() -> None:
    one, other = NearCache(Limits(), ManualClock()), NearCache(Limits(), ManualClock())
    assert one.digest("key", "a") == one.digest("key", "a")
    assert one.digest("key", "a") != other.digest("key", "a")
    assert one.digest("session", "a", "bc") != one.digest("session", "ab", "c")
