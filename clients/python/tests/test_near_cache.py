"""What the near-cache may answer, and until when; in a time that stands still."""

from __future__ import annotations

import gc
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tenant_auth import NearCache as Limits
from tenant_auth import Provenance, Source, Validation, Verdict
from tenant_auth._near_cache import About, NearCache, Ticket
from tenant_auth.testing import ManualClock

WATCHABLE = [
    Verdict.VALID,
    Verdict.INSUFFICIENT_SCOPE,
    Verdict.REVOKED,
    Verdict.EXPIRED,
    Verdict.TENANT_SUSPENDED,
]
OTHERS = [verdict for verdict in Verdict if verdict not in WATCHABLE]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def near(clock: ManualClock) -> NearCache:
    return NearCache(Limits(), clock)


def validation(verdict: Verdict = Verdict.VALID, *, revision: int = 10, reuse: float = 5.0, **more: Any) -> Validation:
    known: dict[str, Any] = {} if verdict is Verdict.UNKNOWN else {"tenant_id": "acme", "key_id": "key_1"}
    provenance = Provenance(source=Source.FRESH, age=1.0, revision=revision, cacheable_for=reuse)
    return Validation(verdict=verdict, provenance=provenance, **(known | more))


def keep(near: NearCache, name: str = "k", ticket: Ticket | None = None, **more: Any) -> bytes:
    digest = near.digest("key", name)
    near.put(digest, ticket or near.ticket(), validation(**more))
    return digest


def live(near: NearCache, revision: int = 10) -> None:
    """The stream begins and says what it reaches."""
    near.watch_opening()
    near.heartbeat(revision)


def watch_for(near: NearCache, clock: ManualClock, seconds: int, revision: int = 10) -> None:
    """The stream goes on for a while."""
    for _ in range(seconds):
        clock.advance(1)
        near.heartbeat(revision)


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


@pytest.mark.parametrize("verdict", WATCHABLE)
def test_while_watched_an_answer_is_used_for_longer(near: NearCache, clock: ManualClock, verdict: Verdict) -> None:
    live(near)
    digest = keep(near, verdict=verdict)
    watch_for(near, clock, 59)
    answer = near.get(digest)
    assert answer is not None
    assert answer.provenance.cacheable_for == 0, "who hears no invalidations must not keep it any longer"
    watch_for(near, clock, 1)
    assert near.get(digest) is None


@pytest.mark.parametrize("verdict", OTHERS)
def test_other_verdicts_are_not(near: NearCache, clock: ManualClock, verdict: Verdict) -> None:
    live(near)
    digest = keep(near, verdict=verdict)
    watch_for(near, clock, 4)
    assert near.get(digest) is not None
    watch_for(near, clock, 1)
    assert near.get(digest) is None


def test_silence_ends_the_longer_time(near: NearCache, clock: ManualClock) -> None:
    live(near)
    digest = keep(near)
    watch_for(near, clock, 6)
    clock.advance(3)
    assert near.get(digest) is not None
    clock.advance(0.001)
    assert near.get(digest) is None


def test_a_question_from_before_the_stream_gets_no_longer_time(near: NearCache, clock: ManualClock) -> None:
    ticket = near.ticket()
    clock.advance(1)
    live(near)
    digest = keep(near, ticket=ticket)
    watch_for(near, clock, 3)
    assert near.get(digest) is not None
    watch_for(near, clock, 1)
    assert near.get(digest) is None


def test_an_answer_that_is_older_than_the_stream_gets_no_longer_time(near: NearCache, clock: ManualClock) -> None:
    # A replica may hold the answer since before the stream began: news from in between never comes.
    live(near, revision=10)
    digest = keep(near, revision=9)
    watch_for(near, clock, 4)
    assert near.get(digest) is not None
    watch_for(near, clock, 1)
    assert near.get(digest) is None


def test_a_stream_resumed_within_the_silence_is_unbroken(near: NearCache, clock: ManualClock) -> None:
    live(near)
    digest = keep(near)
    watch_for(near, clock, 6)
    near.watch_closed()
    clock.advance(2.9)
    assert near.watch_opening() == 10
    near.heartbeat(10)
    assert near.get(digest) is not None


def test_a_stream_resumed_later_starts_a_new_time(near: NearCache, clock: ManualClock) -> None:
    live(near)
    old = keep(near, "old")
    near.watch_closed()
    clock.advance(3.1)
    near.watch_opening()
    near.heartbeat(10)
    new = keep(near, "new")
    watch_for(near, clock, 6)
    assert near.get(old) is None
    assert near.get(new) is not None


def test_starting_over_forgets_everything(near: NearCache) -> None:
    live(near)
    ticket = near.ticket()
    digest = keep(near)
    near.start_over(3)
    assert len(near) == 0
    assert near.watch_state().revision == 3, "a database restored from a backup counts from where it was"
    assert near.get(keep(near, ticket=ticket)) is None, "its question was under way"
    assert near.get(digest) is None
    assert near.get(keep(near, revision=3)) is not None


@pytest.mark.parametrize(
    ("about", "name", "dropped"),
    [
        (About.KEY, "key_1", True),
        (About.KEY, "key_2", False),
        (About.TENANT, "acme", True),
        (About.TENANT, "key_1", False),
        (About.SESSION, "key_1", False),
    ],
)
def test_an_invalidation_drops_what_it_is_about(near: NearCache, about: About, name: str, dropped: bool) -> None:
    live(near)
    digest = keep(near, revision=10)
    near.invalidate(about, name, 11)
    assert (near.get(digest) is None) is dropped


def test_an_invalidation_drops_a_session_with_any_key(near: NearCache) -> None:
    live(near)
    digests = [near.digest("session", "s1", key) for key in ("", "a", "b")]
    for digest in digests:
        near.put(digest, near.ticket(), validation(), "s1")
    near.invalidate(About.SESSION, "s1", 11)
    assert [near.get(digest) for digest in digests] == [None] * 3


def test_an_answer_that_reflects_the_change_stays(near: NearCache) -> None:
    live(near)
    digest = keep(near, revision=11)
    near.invalidate(About.KEY, "key_1", 11)
    assert near.get(digest) is not None


@pytest.mark.parametrize(("about", "name"), [(About.KEY, "key_1"), (About.TENANT, "acme")])
def test_an_answer_under_way_that_is_older_than_the_news_is_not_kept(near: NearCache, about: About, name: str) -> None:
    live(near)
    ticket = near.ticket()
    near.invalidate(about, name, 11)
    assert near.get(keep(near, ticket=ticket, revision=10)) is None
    assert near.get(keep(near, ticket=ticket, revision=11)) is not None


def test_nor_is_one_asked_for_later_of_a_replica_that_lags(near: NearCache) -> None:
    live(near)
    near.invalidate(About.KEY, "key_1", 11)
    assert near.get(keep(near, revision=10)) is None


def test_an_older_answer_does_not_replace_a_newer_one(near: NearCache) -> None:
    digest = keep(near, revision=11, plan="new")
    keep(near, revision=10, plan="old")
    answer = near.get(digest)
    assert answer is not None
    assert answer.plan == "new"


def test_without_its_mark_old_news_still_ends_the_longer_time(clock: ManualClock) -> None:
    near = NearCache(Limits(max_entries=1), clock)
    live(near)
    near.invalidate(About.KEY, "key_1", 11)
    for number in range(1_000):
        near.invalidate(About.KEY, f"other_{number}", 12 + number)
    digest = keep(near, revision=10)
    watch_for(near, clock, 5, revision=1_011)
    assert near.get(digest) is None


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


def test_a_hanging_stream_is_noticed(near: NearCache, clock: ManualClock) -> None:
    assert not near.watch_hangs()
    near.watch_opening()
    clock.advance(3)
    assert not near.watch_hangs()
    clock.advance(0.1)
    assert near.watch_hangs()
    near.watch_closed()
    assert not near.watch_hangs()


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
