"""What a local limiter holds for one key."""

from __future__ import annotations

from tenant_auth._lease import MAX_CHUNK, Chunk, Lease


def chunk(reserved: int, usable_until: float = 28.0) -> Chunk:
    return Chunk("r", reserved, usable_until + 2.0, usable_until)


def test_amount_is_taken_wholly_or_not_at_all() -> None:
    lease = Lease([chunk(3), chunk(2)])
    assert lease.take(6, 0.0) is None
    taken = lease.take(4, 0.0)
    assert taken is not None
    touched, spent = taken
    assert [one.used for one in touched] == [3, 1]
    assert [one.used for one in spent] == [3]
    assert lease.take(2, 0.0) is None
    assert lease.take(1, 0.0) is not None
    assert lease.chunks == []


def test_nothing_is_taken_from_an_old_or_retired_chunk() -> None:
    old, retired = chunk(5, usable_until=10.0), chunk(5)
    lease = Lease([old, retired])
    lease.retire(retired)
    assert lease.take(1, 10.0) is None
    assert lease.take(5, 9.9) is not None
    assert (old.left, retired.left) == (0, 0)


def test_chunk_follows_the_rate() -> None:
    lease = Lease()
    assert lease.size(0.0) == 1
    for number in range(1_000):
        lease.ask(1, number / 100)
    assert 190 <= lease.size(10.0) <= 201, "about 2 seconds of 100 per second"
    assert lease.size(100.0) == 1
    lease.ask(10**9, 100.0)
    assert lease.size(100.0) == MAX_CHUNK


def test_chunk_is_halved_by_refusals_and_grows_again() -> None:
    lease = Lease()
    lease.ask(10_000, 0.0)
    sizes = []
    for _ in range(12):
        sizes.append(lease.size(0.0))
        lease.refused(sizes[-1])
    assert sizes == [1_000, 500, 250, 125, 62, 31, 15, 7, 3, 1, 1, 1]
    lease.granted()
    lease.granted()
    assert lease.size(0.0) == 4


def test_next_chunk_is_fetched_ahead_only_at_more_than_one_request_per_second() -> None:
    lease = Lease([chunk(4)])
    lease.ask(1, 0.0)
    lease.take(4, 0.0)
    assert not lease.needs_more(0.0)
    lease.ask(9, 0.0)
    lease.chunks = [chunk(6)]
    assert not lease.needs_more(0.0)
    lease.take(2, 0.0)
    assert lease.needs_more(0.0)
