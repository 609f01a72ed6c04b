use super::*;
use crate::domain::{
    id::TenantId,
    limit::{CalendarWindow, Credits, LimitAmount, LimitName, LimitSubject, OutagePolicy, Refill},
    usage::UsageMetric,
};

const NOW: UnixMillis = UnixMillis(1_790_000_000_000);
const HOUR: Duration = Duration::from_secs(3_600);

fn amount(number: i64) -> LimitAmount {
    LimitAmount::new(number).unwrap()
}

fn limit(rule: LimitRule) -> Limit {
    Limit {
        subject: LimitSubject::Tenant(TenantId::parse("ten_1").unwrap()),
        name: LimitName::parse("requests").unwrap(),
        metric: UsageMetric::parse("requests").unwrap(),
        rule,
        on_outage: OutagePolicy::Closed,
        shadow: false,
        version: 1,
        updated_at: NOW,
    }
}

fn unused() -> LimitCount {
    LimitCount {
        now: NOW,
        counted: 0,
        leased: 0,
        reserved: 0,
        unaccounted: 0,
        credited: 0,
        bucket: None,
        window: None,
        first_used: None,
    }
}

fn quota(window: QuotaWindow) -> LimitRule {
    LimitRule::Quota(Quota { amount: amount(100), window })
}

#[test]
fn quota_divides_what_is_counted() {
    let window = Some((UnixMillis(NOW.0 - 1_000), UnixMillis(NOW.0 + 5_000)));
    let count = LimitCount { counted: 90, leased: 20, reserved: 10, unaccounted: 5, window, ..unused() };
    let day = quota(QuotaWindow::Calendar(CalendarWindow::Day));
    let state = LimitState::of(limit(day), &count);
    assert_eq!((state.used, state.leased, state.reserved, state.unaccounted), (55, 20, 10, 5));
    assert_eq!(state.remaining, 10);
    assert_eq!(state.window_start, Some(UnixMillis(NOW.0 - 1_000)));
    assert_eq!(state.reset_after, Some(Duration::from_secs(5)));

    // The limit was lowered below what is counted.
    let lowered = LimitState::of(limit(day), &LimitCount { counted: 150, window, ..unused() });
    assert_eq!((lowered.used, lowered.remaining), (150, 0));
}

#[test]
fn rolling_window_frees_first_amount_one_length_and_a_bucket_after_it_began() {
    let rolling = quota(QuotaWindow::Rolling(HOUR));
    let bucket = HOUR / 16;
    let begun = UnixMillis(NOW.0 - NOW.0 % 225_000);
    let count = LimitCount { counted: 30, first_used: Some(begun), ..unused() };
    let state = LimitState::of(limit(rolling), &count);
    assert_eq!((state.used, state.remaining), (30, 70));
    assert_eq!(state.reset_after, Some(begun.plus(HOUR + bucket).since(NOW)));
    // The oldest bucket that counts started less than an hour and a bucket ago, and the one before it did not.
    let start = state.window_start.unwrap();
    assert_eq!(start.0 % 225_000, 0);
    assert!(start.0 > NOW.0 - 3_825_000 && start.0 - 225_000 <= NOW.0 - 3_825_000, "{start:?}");
    assert_eq!(LimitState::of(limit(rolling), &unused()).reset_after, None, "nothing becomes free");
}

#[test]
fn credits_without_refill_are_never_added_by_themselves() {
    let credits = LimitRule::Credits(Credits { initial: amount(10), refill: None });
    let count = LimitCount { counted: 30, leased: 5, credited: 100, ..unused() };
    let state = LimitState::of(limit(credits), &count);
    assert_eq!((state.used, state.leased, state.remaining), (25, 5, 70));
    assert_eq!((state.window_start, state.reset_after), (None, None));
}

#[test]
fn refilled_credits_end_with_the_window_of_the_refill() {
    let refill = Refill { amount: amount(5), every: CalendarWindow::Hour, max_balance: None };
    let credits = LimitRule::Credits(Credits { initial: amount(10), refill: Some(refill) });
    let window = Some((NOW, UnixMillis(NOW.0 + 9_000)));
    let state = LimitState::of(limit(credits), &LimitCount { credited: 10, window, ..unused() });
    assert_eq!((state.used, state.remaining), (0, 10));
    assert_eq!((state.window_start, state.reset_after), (None, Some(Duration::from_secs(9))));
}

fn rate(per_second: i64, burst: i64) -> LimitRule {
    LimitRule::Rate(Rate { amount: amount(per_second), per: Duration::from_secs(1), burst: amount(burst) })
}

#[test]
fn untouched_rate_has_a_full_bucket() {
    let state = LimitState::of(limit(rate(10, 20)), &unused());
    assert_eq!((state.used, state.remaining, state.leased), (0, 20, 0));
    assert_eq!(state.reset_after, Some(Duration::ZERO));
}

#[test]
fn rate_fills_with_time_up_to_what_is_not_leased() {
    let at = |seconds: i64| Some((2_500, UnixMillis(NOW.0 - seconds * 1_000)));
    let count = |seconds, leased| LimitCount { bucket: at(seconds), leased, ..unused() };
    let now = LimitState::of(limit(rate(10, 20)), &count(0, 4));
    assert_eq!((now.used, now.leased, now.remaining), (14, 4, 2));
    // Of 16 that no replica holds, 13.5 are missing, at 10 per second.
    assert_eq!(now.reset_after, Some(Duration::from_millis(1_350)));
    let later = LimitState::of(limit(rate(10, 20)), &count(1, 4));
    assert_eq!((later.used, later.remaining), (4, 12));
    let full = LimitState::of(limit(rate(10, 20)), &count(1_000_000_000, 4));
    assert_eq!((full.used, full.remaining, full.reset_after), (0, 16, Some(Duration::ZERO)));
}

/// The database's clock went back, or someone wrote the row by hand.
#[test]
fn state_of_impossible_counts_is_bounded() {
    let extreme = LimitCount {
        counted: -5,
        leased: 1_000_000_000_000,
        bucket: Some((i64::MAX, UnixMillis(NOW.0 + 1))),
        ..unused()
    };
    let state = LimitState::of(limit(rate(1_000_000_000, 1_000_000_000)), &extreme);
    assert_eq!((state.used, state.remaining), (0, 0));
    let state = LimitState::of(limit(quota(QuotaWindow::Rolling(HOUR))), &extreme);
    assert_eq!((state.used, state.remaining), (0, 105));
}
