"""Effects of the watch stream on the near cache: longer lifetimes, and invalidations."""

from __future__ import annotations

import pytest

from near_cache_helpers import put, send_heartbeats, session, start_stream, validation
from tenant_auth import NearCache as Limits
from tenant_auth import Verdict
from tenant_auth._near_cache import NearCache, SubjectKind
from tenant_auth.testing import ManualClock


@pytest.mark.parametrize("verdict", list(Verdict))
def test_watched_lifetime_applies_while_watched(near: NearCache, clock: ManualClock, verdict: Verdict) -> None:
    start_stream(near)
    digest = put(near, verdict=verdict, watched=90.0)
    send_heartbeats(near, clock, 89)
    answer = near.get(digest)
    assert answer is not None
    provenance = answer.provenance
    assert (provenance.cacheable_for, provenance.cacheable_while_watched) == (0, 0), "callers receive no invalidations"
    send_heartbeats(near, clock, 1)
    assert near.get(digest) is None


@pytest.mark.parametrize("verdict", list(Verdict))
def test_answer_without_watched_lifetime_uses_cacheable_for(
    near: NearCache, clock: ManualClock, verdict: Verdict
) -> None:
    start_stream(near)
    digest = put(near, verdict=verdict, watched=0.0)
    send_heartbeats(near, clock, 4)
    assert near.get(digest) is not None
    send_heartbeats(near, clock, 1)
    assert near.get(digest) is None


def test_answer_may_be_cacheable_only_while_watched(near: NearCache, clock: ManualClock) -> None:
    assert near.get(put(near, cacheable_for=0.0, watched=9.0)) is None
    start_stream(near)
    digest = put(near, cacheable_for=0.0, watched=9.0)
    send_heartbeats(near, clock, 8)
    assert near.get(digest) is not None


def test_watched_for_limits_the_lifetime(clock: ManualClock) -> None:
    near = NearCache(Limits(watched_for=20.0), clock)
    start_stream(near)
    digest = put(near)
    send_heartbeats(near, clock, 19)
    assert near.get(digest) is not None
    send_heartbeats(near, clock, 1)
    assert near.get(digest) is None


@pytest.mark.parametrize(
    ("kind", "name"), [(SubjectKind.KEY, "key_1"), (SubjectKind.KEY, "key_2"), (SubjectKind.TENANT, "acme")]
)
def test_every_subject_invalidates_a_session(near: NearCache, kind: SubjectKind, name: str) -> None:
    start_stream(near)
    digest = near.digest("session", "s1", "the second key")
    near.put(digest, near.snapshot(), session(presented_key_id="key_2"), "s1")
    near.invalidate(kind, name, 11)
    assert near.get(digest) is None


def test_liveness_timeout_ends_the_watched_lifetime(near: NearCache, clock: ManualClock) -> None:
    start_stream(near)
    digest = put(near)
    send_heartbeats(near, clock, 6)
    clock.advance(3)
    assert near.get(digest) is not None
    clock.advance(0.001)
    assert near.get(digest) is None


def test_request_before_the_stream_has_no_watched_lifetime(near: NearCache, clock: ManualClock) -> None:
    snapshot = near.snapshot()
    clock.advance(1)
    start_stream(near)
    digest = put(near, snapshot=snapshot)
    send_heartbeats(near, clock, 3)
    assert near.get(digest) is not None
    send_heartbeats(near, clock, 1)
    assert near.get(digest) is None


def test_answer_older_than_the_stream_has_no_watched_lifetime(near: NearCache, clock: ManualClock) -> None:
    # A replica may have cached the answer before the stream started; the stream does not send changes from before.
    start_stream(near, revision=10)
    digest = put(near, revision=9)
    send_heartbeats(near, clock, 4)
    assert near.get(digest) is not None
    send_heartbeats(near, clock, 1)
    assert near.get(digest) is None


def test_stream_resumed_in_time_is_continuous(near: NearCache, clock: ManualClock) -> None:
    start_stream(near)
    digest = put(near)
    send_heartbeats(near, clock, 6)
    near.watch_closed()
    clock.advance(2.9)
    assert near.watch_opening() == 10
    near.heartbeat(10)
    assert near.get(digest) is not None


def test_stream_resumed_late_starts_a_new_period(near: NearCache, clock: ManualClock) -> None:
    start_stream(near)
    old = put(near, "old")
    near.watch_closed()
    clock.advance(3.1)
    near.watch_opening()
    near.heartbeat(10)
    new = put(near, "new")
    send_heartbeats(near, clock, 6)
    assert near.get(old) is None
    assert near.get(new) is not None


def test_start_over_clears_the_cache(near: NearCache) -> None:
    start_stream(near)
    snapshot = near.snapshot()
    digest = put(near)
    near.start_over(3)
    assert len(near) == 0
    assert near.watch_state().revision == 3, "a database restored from a backup continues at an earlier revision"
    assert near.get(put(near, snapshot=snapshot)) is None, "the request was in flight"
    assert near.get(digest) is None
    assert near.get(put(near, revision=3)) is not None


@pytest.mark.parametrize(
    ("kind", "name", "dropped"),
    [
        (SubjectKind.KEY, "key_1", True),
        (SubjectKind.KEY, "key_2", False),
        (SubjectKind.TENANT, "acme", True),
        (SubjectKind.TENANT, "key_1", False),
        (SubjectKind.SESSION, "key_1", False),
    ],
)
def test_invalidation_removes_its_subject(near: NearCache, kind: SubjectKind, name: str, dropped: bool) -> None:
    start_stream(near)
    digest = put(near, revision=10)
    near.invalidate(kind, name, 11)
    assert (near.get(digest) is None) is dropped


def test_invalidation_removes_session_for_any_key(near: NearCache) -> None:
    start_stream(near)
    digests = [near.digest("session", "s1", key) for key in ("", "a", "b")]
    for digest in digests:
        near.put(digest, near.snapshot(), validation(), "s1")
    near.invalidate(SubjectKind.SESSION, "s1", 11)
    assert [near.get(digest) for digest in digests] == [None] * 3


def test_answer_that_reflects_the_change_stays(near: NearCache) -> None:
    start_stream(near)
    digest = put(near, revision=11)
    near.invalidate(SubjectKind.KEY, "key_1", 11)
    assert near.get(digest) is not None


@pytest.mark.parametrize(("kind", "name"), [(SubjectKind.KEY, "key_1"), (SubjectKind.TENANT, "acme")])
def test_outdated_answer_in_flight_is_not_cached(near: NearCache, kind: SubjectKind, name: str) -> None:
    start_stream(near)
    snapshot = near.snapshot()
    near.invalidate(kind, name, 11)
    assert near.get(put(near, snapshot=snapshot, revision=10)) is None
    assert near.get(put(near, snapshot=snapshot, revision=11)) is not None


def test_answer_of_lagging_replica_is_not_cached(near: NearCache) -> None:
    start_stream(near)
    near.invalidate(SubjectKind.KEY, "key_1", 11)
    assert near.get(put(near, revision=10)) is None


def test_evicted_change_mark_ends_the_watched_lifetime(clock: ManualClock) -> None:
    near = NearCache(Limits(max_entries=1), clock)
    start_stream(near)
    near.invalidate(SubjectKind.KEY, "key_1", 11)
    for number in range(1_000):
        near.invalidate(SubjectKind.KEY, f"other_{number}", 12 + number)
    digest = put(near, revision=10)
    send_heartbeats(near, clock, 5, revision=1_011)
    assert near.get(digest) is None


def test_stalled_stream_is_detected(near: NearCache, clock: ManualClock) -> None:
    assert not near.watch_stalled()
    near.watch_opening()
    clock.advance(3)
    assert not near.watch_stalled()
    clock.advance(0.1)
    assert near.watch_stalled()
    near.watch_closed()
    assert not near.watch_stalled()
