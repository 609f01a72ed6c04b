//! What is used of a limit.

use std::time::Duration;

use super::{Limit, LimitRule, Quota, QuotaWindow, Rate};
use crate::domain::clock::UnixMillis;

/// What the database has counted of a limit, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitCount {
    /// The moment, by the database's clock.
    pub now: UnixMillis,
    /// All that is used, leased, reserved or unaccounted, of all windows that count.
    pub counted: i64,
    /// What replicas hold.
    pub leased: i64,
    /// What reservations hold.
    pub reserved: i64,
    /// What replicas held that ended without saying how much of it they had admitted.
    pub unaccounted: i64,
    /// All credits that were ever added, less those taken away, with the refills until now.
    pub credited: i64,
    /// The level of a rate's bucket, in thousandths, and when it had it; `None` if nothing was taken yet.
    pub bucket: Option<(i64, UnixMillis)>,
    /// The window of the calendar that contains the moment: of a quota or of a refill.
    pub window: Option<(UnixMillis, UnixMillis)>,
    /// The start of the first bucket of a rolling window in which something is counted.
    pub first_used: Option<UnixMillis>,
}

/// What is used of a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitState {
    /// The limit.
    pub limit: Limit,
    /// What was admitted and counts; of a rate, what is missing in the bucket.
    pub used: u64,
    /// What replicas hold.
    pub leased: u64,
    /// What reservations hold.
    pub reserved: u64,
    /// What replicas held that ended without saying how much of it they had admitted.
    pub unaccounted: u64,
    /// What no replica holds.
    pub remaining: u64,
    /// The start of the current window: everything that was taken since counts. `None` for credits and rates.
    pub window_start: Option<UnixMillis>,
    /// The time until the window ends, until the first amount of a rolling window is free again, until the next refill, or
    /// until a bucket is full. `None` if nothing is added by itself.
    pub reset_after: Option<Duration>,
}

/// Amounts of a rate are counted in thousandths.
const THOUSANDTHS: i128 = 1_000;

impl LimitState {
    /// Computes the state of a limit from what is counted.
    #[must_use]
    pub fn of(limit: Limit, count: &LimitCount) -> Self {
        let counted_used = count.counted - count.leased - count.reserved - count.unaccounted;
        let (used, remaining) = match limit.rule {
            LimitRule::Quota(quota) => (counted_used, quota.amount.as_i64() - count.counted),
            LimitRule::Credits(_) => (counted_used, count.credited - count.counted),
            LimitRule::Rate(rate) => {
                let level = whole(rate_level(rate, count) / THOUSANDTHS);
                (rate.burst.as_i64() - count.leased - level, level)
            }
        };
        let (window_start, reset_after) = match limit.rule {
            LimitRule::Quota(Quota { window: QuotaWindow::Calendar(_), .. }) => {
                (count.window.map(|(start, _)| start), count.window.map(|(_, end)| end.since(count.now)))
            }
            LimitRule::Quota(Quota { window: QuotaWindow::Rolling(length), .. }) => {
                let bucket = rolling_bucket_millis(length);
                let free = count.first_used.map(|UnixMillis(first)| UnixMillis(first + bucket).plus(length));
                let free = free.map(|free| free.since(count.now));
                (Some(UnixMillis(first_rolling_bucket(count.now.0, length))), free)
            }
            LimitRule::Credits(_) => (None, count.window.map(|(_, end)| end.since(count.now))),
            LimitRule::Rate(rate) => (None, Some(time_until_full(rate, count))),
        };
        let number = |number: i64| u64::try_from(number).unwrap_or_default();
        Self {
            limit,
            used: number(used),
            leased: number(count.leased),
            reserved: number(count.reserved),
            unaccounted: number(count.unaccounted),
            remaining: number(remaining),
            window_start,
            reset_after,
        }
    }
}

/// Returns the length of a bucket of a rolling window, in milliseconds.
fn rolling_bucket_millis(length: Duration) -> i64 {
    whole(i128::try_from((length / QuotaWindow::ROLLING_BUCKETS).as_millis()).unwrap_or(i128::MAX)).max(1)
}

/// Returns the start of the first bucket of a rolling window that counts: the buckets that start later than one length and
/// one bucket before `now`.
fn first_rolling_bucket(now: i64, length: Duration) -> i64 {
    let bucket = rolling_bucket_millis(length);
    let length = i64::try_from(length.as_millis()).unwrap_or(i64::MAX);
    let end = now.saturating_sub(length).saturating_sub(bucket);
    (end.div_euclid(bucket) + 1) * bucket
}

/// Returns the level of the bucket now, in thousandths. What replicas hold is not in the bucket.
fn rate_level(rate: Rate, count: &LimitCount) -> i128 {
    let free = (i128::from(rate.burst.get()) - i128::from(count.leased)) * THOUSANDTHS;
    let Some((tokens, at)) = count.bucket else { return free.max(0) };
    let elapsed = i128::try_from(count.now.since(at).as_millis()).unwrap_or(i128::MAX);
    let inflow = elapsed.saturating_mul(i128::from(rate.amount.get()) * THOUSANDTHS) / period_millis(rate);
    free.min(i128::from(tokens) + inflow).max(0)
}

fn time_until_full(rate: Rate, count: &LimitCount) -> Duration {
    let free = (i128::from(rate.burst.get()) - i128::from(count.leased)) * THOUSANDTHS;
    let missing = (free - rate_level(rate, count)).max(0);
    let inflow = i128::from(rate.amount.get()) * THOUSANDTHS;
    let millis = (missing * period_millis(rate) + inflow - 1) / inflow.max(1);
    Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX))
}

fn period_millis(rate: Rate) -> i128 {
    i128::try_from(rate.per.as_millis()).unwrap_or(i128::MAX).max(1)
}

fn whole(number: i128) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
