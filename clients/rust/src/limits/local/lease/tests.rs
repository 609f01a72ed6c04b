//! What is taken from a lease, and how its chunks grow.

use super::*;
use crate::{Limits, Validation, Verdict};

const SECOND: Duration = Duration::from_secs(1);

fn at(seconds: u32) -> Moment {
    Moment::from(SECOND * seconds)
}

fn chunk(size: i64, retires_at: Moment) -> Chunk {
    Chunk { reservation_id: size.to_string(), size, used: 0, retires_at }
}

fn used(chunks: Vec<Chunk>) -> Vec<(i64, i64)> {
    chunks.into_iter().map(|chunk| (chunk.size, chunk.used)).collect()
}

#[test]
fn no_more_is_taken_than_was_reserved() {
    let lease = Lease::new(at(0));
    assert_eq!(lease.take(1, at(0)), Taken::Nothing);
    lease.add(chunk(3, at(27)));
    assert_eq!(
        [2, 2, 1, 1].map(|amount| lease.take(amount, at(1)) != Taken::Nothing),
        [true, false, true, false]
    );
    assert_eq!(lease.take_retired(at(1)).map(used), Some(vec![(3, 3)]));
    assert_eq!(lease.take_retired(at(1)).map(used), None);
}

#[test]
fn nothing_is_taken_from_a_chunk_that_is_about_to_expire() {
    let lease = Lease::new(at(0));
    lease.add(chunk(5, at(27)));
    lease.add(chunk(7, at(28)));
    assert_ne!(lease.take(1, at(26)), Taken::Nothing);
    assert_ne!(lease.take(2, at(27)), Taken::Nothing);
    assert_eq!(lease.take(1, at(28)), Taken::Nothing);
    assert_eq!(lease.take_retired(at(28)).map(used), Some(vec![(5, 1), (7, 2)]));
}

#[test]
fn next_chunk_is_fetched_once_when_half_is_used() {
    let lease = Lease::new(at(0));
    assert_eq!(lease.halve(8, 1), 4);
    lease.add(chunk(4, at(27)));
    let taken = [1, 1, 1].map(|amount| lease.take(amount, at(1)));
    assert_eq!(taken, [Taken::Amount, Taken::Amount, Taken::AmountAndLow]);
    assert_eq!(lease.take(1, at(1)), Taken::Amount);
    lease.end_prefetch();
    lease.add(chunk(4, at(27)));
    assert_eq!(lease.take(3, at(1)), Taken::AmountAndLow);
}

#[test]
fn chunks_follow_the_rate_and_halve_after_a_refusal() {
    let lease = Lease::new(at(0));
    let mut now = at(0);
    let mut sizes = Vec::new();
    for _ in 0..11 {
        let size = lease.next_size(1, now);
        sizes.push(size);
        lease.add(chunk(size, now.after(SECOND * 27)));
        now = now.after(Duration::from_millis(1));
        assert_ne!(lease.take(size, now), Taken::Nothing);
    }
    assert_eq!(sizes, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_000]);
    // A hundred in ten seconds: twenty in two.
    let _ = lease.next_size(1, now);
    lease.add(chunk(100, now.after(SECOND * 27)));
    let _ = lease.take(100, now);
    assert_eq!(lease.next_size(1, now.after(SECOND * 10)), 500);
    assert_eq!(
        [lease.halve(500, 1), lease.halve(250, 1), lease.halve(1, 1), lease.halve(1, 6)],
        [250, 125, 1, 6]
    );
}

#[test]
fn denial_is_repeated_for_a_second_at_most() {
    let lease = Lease::new(at(0));
    let denied = Denied::by_limits(Validation::without_subject(Verdict::QuotaExceeded), Limits::default());
    lease.remember(&denied, 5, at(5));
    assert_eq!(lease.remembered(5, at(5)), Some(denied));
    assert_eq!(lease.remembered(4, at(5)), None);
    assert_eq!(lease.remembered(5, at(6)), None);
}

#[test]
fn closed_lease_admits_nothing_and_returns_everything() {
    let lease = Lease::new(at(0));
    lease.add(chunk(5, at(27)));
    let _ = lease.take(2, at(1));
    assert_eq!(used(lease.close()), [(5, 2)]);
    lease.add(chunk(6, at(27)));
    assert_eq!(lease.take(1, at(1)), Taken::Nothing);
    assert_eq!(used(lease.close()), [(6, 0)]);
}
