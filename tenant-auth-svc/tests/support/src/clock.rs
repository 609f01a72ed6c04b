//! The current time as statements see it.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
};

type NowFn = Box<dyn Fn() -> i64 + Send + Sync>;

/// The database's clock: the engine's own until a test sets another.
#[derive(Default)]
pub(crate) struct Clock(Mutex<Option<NowFn>>);

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Clock").field(&self.now()).finish()
    }
}

impl Clock {
    pub(crate) fn set(&self, now: impl Fn() -> i64 + Send + Sync + 'static) {
        *self.lock() = Some(Box::new(now));
    }

    /// Returns the current time, in Unix milliseconds; `None` if the engine's clock applies.
    pub(crate) fn now(&self) -> Option<i64> {
        self.lock().as_ref().map(|now| now())
    }

    fn lock(&self) -> MutexGuard<'_, Option<NowFn>> {
        // The value is consistent even if a thread panicked.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
