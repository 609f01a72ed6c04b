//! How many calls may be tried again: few, or an outage would be met with many times the load.

use std::sync::atomic::{AtomicU32, Ordering};

/// What a call adds, in hundredths of a retry.
const PER_CALL: u32 = 10;
const PER_RETRY: u32 = 100;
/// What can be saved up: a client that calls rarely may try again, too.
const MOST: u32 = 10 * PER_RETRY;

/// A token bucket: a tenth of the calls may be tried again.
#[derive(Debug)]
pub(crate) struct Budget(AtomicU32);

impl Budget {
    pub(crate) fn new() -> Self {
        Self(AtomicU32::new(MOST))
    }

    /// Notes a call.
    pub(crate) fn call(&self) {
        let add = |saved: u32| (saved < MOST).then(|| (saved + PER_CALL).min(MOST));
        // Full is fine.
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }

    /// Takes one retry, if there is one.
    pub(crate) fn may_retry(&self) -> bool {
        let take = |saved: u32| saved.checked_sub(PER_RETRY);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_calls_earn_one_retry() {
        let budget = Budget::new();
        for _ in 0..10 {
            assert!(budget.may_retry());
        }
        assert!(!budget.may_retry());
        for _ in 0..9 {
            budget.call();
        }
        assert!(!budget.may_retry());
        budget.call();
        assert!(budget.may_retry() && !budget.may_retry());
    }
}
