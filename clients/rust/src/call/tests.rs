//! Which calls are repeated.

use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

async fn tries(error: impl Fn() -> Error, succeeds_at: u32, budget: &RetryBudget) -> (u32, bool) {
    tries_where(true, error, succeeds_at, budget).await
}

async fn tries_where(
    is_served: bool,
    error: impl Fn() -> Error,
    succeeds_at: u32,
    budget: &RetryBudget,
) -> (u32, bool) {
    let count = AtomicU32::new(0);
    let attempt = |_, _| {
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        let outcome = if number == succeeds_at { Ok(()) } else { Err(error()) };
        std::future::ready(Attempted { outcome, replica_id: None, is_repeatable: true })
    };
    let outcome = retry(Duration::from_secs(3), budget, || is_served, attempt).await;
    (count.into_inner(), outcome.is_ok())
}

fn unavailable(retry_after: Option<Duration>) -> Error {
    Error::Unavailable { message: String::new(), reason: None, retry_after }
}

#[tokio::test(start_paused = true)]
async fn transient_error_is_retried_up_to_the_limit() {
    let budget = RetryBudget::new();
    assert_eq!(tries(|| unavailable(None), 3, &budget).await, (3, true));
    assert_eq!(tries(|| unavailable(None), 99, &budget).await, (MAX_ATTEMPTS, false));
}

#[tokio::test(start_paused = true)]
async fn permanent_error_is_not_retried() {
    let budget = RetryBudget::new();
    let full = || Error::Overloaded { message: String::new(), retry_after: None };
    assert_eq!(tries(full, 2, &budget).await, (1, false));
    assert_eq!(tries(|| Error::DeadlineExceeded, 2, &budget).await, (1, false));
    let invalid = || Error::Invalid { message: String::new(), violations: Vec::new() };
    assert_eq!(tries(invalid, 2, &budget).await, (1, false));
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_kept_and_past_deadline_ends_the_call() {
    let budget = RetryBudget::new();
    let started = Instant::now();
    let soon = || unavailable(Some(Duration::from_secs(1)));
    assert_eq!(tries(soon, 2, &budget).await, (2, true));
    assert!(started.elapsed() >= Duration::from_secs(1));
    let after_deadline = || unavailable(Some(Duration::from_secs(4)));
    assert_eq!(tries(after_deadline, 2, &budget).await, (1, false));
}

#[tokio::test(start_paused = true)]
async fn budget_limits_client_retries_to_a_tenth_of_calls() {
    let budget = RetryBudget::new();
    let mut sent = 0;
    for _ in 0..1_000 {
        sent += tries(|| unavailable(None), 99, &budget).await.0;
    }
    // A tenth of the calls, plus the initial balance of the budget.
    assert!((1_100..=1_110).contains(&sent), "{sent}");
}

#[tokio::test(start_paused = true)]
async fn moving_off_a_lost_replica_costs_no_budget() {
    let disconnected = || Error::Unreachable { message: String::new() };
    let budget = RetryBudget::new();
    for _ in 0..100 {
        assert_eq!(tries_where(true, disconnected, 2, &budget).await, (2, true));
    }
    // No budget was used. The second attempt that finds its replica disconnected draws on it.
    assert_eq!(tries_where(true, disconnected, 99, &budget).await, (MAX_ATTEMPTS, false));
    let mut sent = 0;
    for _ in 0..1_000 {
        sent += tries_where(false, disconnected, 99, &budget).await.0;
    }
    assert!((1_100..=1_110).contains(&sent), "{sent}");
}

#[tokio::test(start_paused = true)]
async fn call_that_must_not_be_repeated_is_tried_once() {
    let attempt = |_, _| {
        let outcome = Err::<(), _>(Error::Unreachable { message: String::new() });
        std::future::ready(Attempted { outcome, replica_id: Some(1), is_repeatable: false })
    };
    let count = AtomicU32::new(0);
    let counted = |left, avoided| {
        count.fetch_add(1, Ordering::Relaxed);
        attempt(left, avoided)
    };
    let outcome = retry(Duration::from_secs(3), &RetryBudget::new(), || true, counted).await;
    assert!(matches!(outcome, Err(Error::Unreachable { .. })));
    assert_eq!(count.into_inner(), 1);
}
