//! Limits how many calls are retried: without a limit, retries would multiply the load during an outage.

use std::sync::atomic::{AtomicU32, Ordering};

/// What each call deposits, in hundredths of a retry.
const CALL_CREDIT: u32 = 10;
const RETRY_COST: u32 = 100;
/// Maximum balance: a client that calls rarely can still retry.
const MAX_BALANCE: u32 = 10 * RETRY_COST;

/// A token bucket: at most a tenth of the calls may be retried.
#[derive(Debug)]
pub(crate) struct RetryBudget(AtomicU32);

impl RetryBudget {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(MAX_BALANCE))
    }

    /// Adds the credit of one call.
    pub(crate) fn deposit(&self) {
        let add = |saved: u32| (saved < MAX_BALANCE).then(|| (saved + CALL_CREDIT).min(MAX_BALANCE));
        // An error means that the bucket is full, which is fine.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Withdraws one retry if the balance allows it.
    pub(crate) fn try_withdraw(&self) -> bool {
        let take = |saved: u32| saved.checked_sub(RETRY_COST);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_calls_earn_one_retry() {
        let budget = RetryBudget::new();
        for _ in 0..10 {
            assert!(budget.try_withdraw());
        }
        assert!(!budget.try_withdraw());
        for _ in 0..9 {
            budget.deposit();
        }
        assert!(!budget.try_withdraw());
        budget.deposit();
        assert!(budget.try_withdraw() && !budget.try_withdraw());
    }
}
