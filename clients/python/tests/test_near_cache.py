"""What the near-cache may answer, and until when; in a time that stands still."""

from __future__ import annotations

import gc
from datetime import UTC, datetime, timedelta

import pytest

from near import keep, live, validation
from tenant_auth import NearCache as Limits
from tenant_auth import Provenance, Source, Verdict
from tenant_auth._near_cache import About, NearCache
from tenant_auth.testing import ManualClock


def test_an_answer_is_used_for_its_time_counted_from_before_the_question(near: NearCache, clock: ManualClock) -> None:
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


def test_what_may_not_be_kept_is_not(near: NearCache) -> None:
    assert near.get(keep(near, reuse=0.0)) is None
    assert len(near) == 0


@pytest.mark.parametrize("verdict", [Verdict.VALID, Verdict.INSUFFICIENT_SCOPE, Verdict.TENANT_SUSPENDED])
def test_a_keys_own_end_is_kept_even_while_watched(near: NearCache, clock: ManualClock, verdict: Verdict) -> None:
    live(near)
    end = datetime.fromtimestamp(clock.time(), UTC) + timedelta(seconds=2)
    digest = keep(near, verdict=verdict, expires_at=end)
    clock.advance(1.9)
    assert near.get(digest) is not None
    clock.advance(0.1)
    assert near.get(digest) is None


def test_an_expired_key_stays_expired(near: NearCache, clock: ManualClock) -> None:
    digest = keep(near, verdict=Verdict.EXPIRED, expires_at=datetime.fromtimestamp(clock.time() - 9, UTC))
    answer = near.get(digest)
    assert answer is not None
    assert answer.verdict is Verdict.EXPIRED


def test_an_older_answer_does_not_replace_a_newer_one(near: NearCache) -> None:
    digest = keep(near, revision=11, plan="new")
    keep(near, revision=10, plan="old")
    answer = near.get(digest)
    assert answer is not None
    assert answer.plan == "new"


def test_what_this_process_did_to_a_session_counts_at_once(near: NearCache) -> None:
    digest = near.digest("session", "s1", "")
    ticket = near.ticket()
    near.put(digest, ticket, validation(), "s1")
    near.forget_session("s1")
    assert near.get(digest) is None
    near.put(digest, ticket, validation(), "s1")
    assert near.get(digest) is None, "its question was under way"
    near.put(digest, near.ticket(), validation(), "s1")
    assert near.get(digest) is not None


def test_the_least_recently_used_goes_first(clock: ManualClock) -> None:
    near = NearCache(Limits(max_entries=3), clock)
    first, second, third = (keep(near, name) for name in "abc")
    assert near.get(first) is not None
    keep(near, "d")
    assert near.get(second) is None
    assert None not in (near.get(first), near.get(third))
    assert len(near) == 3


def test_a_flood_of_unknown_keys_displaces_nothing_else(clock: ManualClock) -> None:
    near = NearCache(Limits(max_entries=100), clock)
    known = [keep(near, f"known {number}") for number in range(90)]
    for number in range(1_000):
        keep(near, f"unknown {number}", verdict=Verdict.UNKNOWN)
    assert all(near.get(digest) is not None for digest in known)
    assert len(near) == 100


def test_one_entry_is_enough_for_a_cache(clock: ManualClock) -> None:
    near = NearCache(Limits(max_entries=1), clock)
    keep(near, "a", verdict=Verdict.UNKNOWN)
    digest = keep(near, "b")
    assert near.get(digest) is not None
    assert len(near) == 1


def test_no_plaintext_is_kept(near: NearCache) -> None:
    canary = "ta_canary" + "x" * 20
    digest = near.digest("session", canary, canary)
    near.put(digest, near.ticket(), validation(), canary)
    near.invalidate(About.SESSION, canary + "other", 1)
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


def test_digests_are_of_one_process_and_of_one_question() -> None:
    one, other = NearCache(Limits(), ManualClock()), NearCache(Limits(), ManualClock())
    assert one.digest("key", "a") == one.digest("key", "a")
    assert one.digest("key", "a") != other.digest("key", "a")
    assert one.digest("session", "a", "bc") != one.digest("session", "ab", "c")
