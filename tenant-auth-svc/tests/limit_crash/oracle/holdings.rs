//! What a replica can have held when it was killed, by the published formula: what is used within two seconds at the highest
//! rate that it saw, or the smallest lease, and what callers were waiting for.

use std::time::Duration;

use tenant_auth_proto::v1::OutagePolicy;

use super::accounts::Account;
use crate::{
    client_log::Attempt,
    cluster::Crash,
    population::{Kind, LimitSpec},
};

/// A lease is meant to last this long.
const HORIZON_SECONDS: f64 = 2.0;
/// A lease is at least this part of a limit.
const SMALLEST_LEASE: i64 = 256;
/// With `LOCAL_SHARE`, it is at least this part.
const LOCAL_SHARE: i64 = 8;

/// Returns the sum over all crashes.
pub(super) fn held_by_killed_replicas(crashes: &[Crash], account: &Account<'_>) -> i64 {
    crashes.iter().map(|crash| held_by(crash, account)).sum()
}

fn held_by(crash: &Crash, account: &Account<'_>) -> i64 {
    let mut uses: Vec<_> =
        account.attempts.iter().filter_map(|(attempt, cost)| use_of(crash, attempt, *cost)).collect();
    // A replica holds nothing of a limit that nobody used there.
    if uses.is_empty() {
        return 0;
    }
    uses.sort_unstable_by_key(|(from, ..)| *from);
    // The rate is highest when another request has arrived.
    let rates = uses.iter().map(|(at, ..)| uses.iter().map(|one| rate_of(one, *at)).sum::<f64>());
    let waiting = uses.iter().map(|(at, ..)| {
        let are_waiting = uses.iter().filter(|(from, to, _)| from <= at && at <= to);
        are_waiting.map(|(.., cost)| cost).sum::<i64>()
    });
    let horizon = (HORIZON_SECONDS * rates.fold(0.0, f64::max)).ceil() as i64;
    let lease = horizon.max(smallest_lease(account.limit));
    windows_at_once(account.limit) * lease + waiting.max().unwrap_or_default()
}

/// When an attempt was on a replica in its life; `None` if it was not.
fn use_of(crash: &Crash, attempt: &Attempt, cost: i64) -> Option<(Duration, Duration, i64)> {
    let was_there =
        attempt.replica == crash.replica && attempt.sent <= crash.killed && attempt.ended >= crash.started;
    // An attempt that the client gave up can be decided until the replica is killed.
    let ended = if attempt.is_answered { attempt.ended.min(crash.killed) } else { crash.killed };
    was_there.then_some((attempt.sent, ended, cost))
}

/// What a request adds to the average use per second at a time; the average has a time constant of one second.
fn rate_of((from, to, cost): &(Duration, Duration, i64), at: Duration) -> f64 {
    if *from > at { 0.0 } else { *cost as f64 * (-at.saturating_sub(*to).as_secs_f64()).exp() }
}

fn smallest_lease(limit: &LimitSpec) -> i64 {
    let parts = if limit.policy == OutagePolicy::LocalShare { LOCAL_SHARE } else { SMALLEST_LEASE };
    let amount = if limit.kind == Kind::RefilledCredits { 2 * limit.amount } else { limit.amount };
    amount / parts
}

/// A lease is held of the window, and of the last one until it is given back or of the next one in advance.
fn windows_at_once(limit: &LimitSpec) -> i64 {
    if limit.window_millis().is_some() { 2 } else { 1 }
}
