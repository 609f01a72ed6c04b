//! The guards of a client: which changes concern them, and what the invalidation stream has reported to them.

use std::{
    collections::{HashMap, HashSet},
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering},
    },
    time::{Duration, SystemTime},
};

use tokio::sync::{Notify, Semaphore};

use crate::near::ChangeSubject;

/// Maximum guards that validate at once, unless a change names them: the stream may have to start anew for all.
const MAX_CONCURRENT_VALIDATIONS: usize = 256;

/// The guards of a client and its clones.
pub(crate) struct GuardRegistry {
    guards: Mutex<Guards>,
    /// Whether the invalidation stream is open and not silent.
    is_live: AtomicBool,
    /// How far the clock of the service is ahead of this machine's, in nanoseconds.
    clock_offset: AtomicI64,
    pub(super) permits: Semaphore,
    /// How long a guard continues without a decision.
    pub(super) tolerance: Duration,
}

#[derive(Default)]
struct Guards {
    next_id: u64,
    signals: HashMap<u64, Arc<Signal>>,
    by_subject: HashMap<ChangeSubject, HashSet<u64>>,
}

/// What a guard must do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(super) enum Pending {
    Nothing = 0,
    /// Changes may have been missed.
    Missed = 1,
    /// A change names it.
    Named = 2,
}

/// Wakes one guard.
#[derive(Debug, Default)]
pub(super) struct Signal {
    pending: AtomicU8,
    pub(super) woken: Notify,
}

/// A registered guard; it is removed on drop.
pub(super) struct Registration {
    pub(super) registry: Arc<GuardRegistry>,
    pub(super) signal: Arc<Signal>,
    id: u64,
    subjects: Vec<ChangeSubject>,
}

impl Signal {
    fn raise(&self, pending: Pending) {
        self.pending.fetch_max(pending as u8, Ordering::AcqRel);
        self.woken.notify_one();
    }

    /// Waits until a change names the guard, and leaves the signal to be taken.
    pub(super) async fn named(&self) {
        while self.pending.load(Ordering::Acquire) != Pending::Named as u8 {
            self.woken.notified().await;
        }
        self.woken.notify_one();
    }

    pub(super) fn take(&self) -> Pending {
        match self.pending.swap(Pending::Nothing as u8, Ordering::AcqRel) {
            0 => Pending::Nothing,
            1 => Pending::Missed,
            _ => Pending::Named,
        }
    }
}

impl GuardRegistry {
    pub(crate) fn new(tolerance: Duration) -> Self {
        Self {
            guards: Mutex::default(),
            is_live: AtomicBool::new(false),
            clock_offset: AtomicI64::new(0),
            permits: Semaphore::new(MAX_CONCURRENT_VALIDATIONS),
            tolerance,
        }
    }

    pub(super) fn register(self: &Arc<Self>, subjects: Vec<ChangeSubject>) -> Registration {
        let signal = Arc::<Signal>::default();
        let mut guards = self.lock();
        let id = guards.next_id;
        guards.next_id += 1;
        guards.signals.insert(id, Arc::clone(&signal));
        for subject in &subjects {
            guards.by_subject.entry(subject.clone()).or_default().insert(id);
        }
        drop(guards);
        Registration { registry: Arc::clone(self), signal, id, subjects }
    }

    /// Returns the number of guards.
    pub(crate) fn len(&self) -> usize {
        self.lock().signals.len()
    }

    /// Wakes the guards that a change names.
    pub(crate) fn name(&self, subject: &ChangeSubject) {
        let guards = self.lock();
        let named = guards.by_subject.get(subject).into_iter().flatten();
        for signal in named.filter_map(|id| guards.signals.get(id)) {
            signal.raise(Pending::Named);
        }
    }

    /// Wakes all guards, because changes may have been missed.
    pub(crate) fn wake_all(&self) {
        self.lock().signals.values().for_each(|signal| signal.raise(Pending::Missed));
    }

    /// Records whether the stream is live. Guards without it validate again from time to time.
    pub(crate) fn set_live(&self, is_live: bool) {
        if self.is_live.swap(is_live, Ordering::AcqRel) != is_live {
            self.lock().signals.values().for_each(|signal| signal.woken.notify_one());
        }
    }

    pub(super) fn is_live(&self) -> bool {
        self.is_live.load(Ordering::Acquire)
    }

    /// Records the time of the service, which has just been received.
    pub(crate) fn set_server_time(&self, sent_at: SystemTime) {
        let now = SystemTime::now();
        let nanos = |time: Duration| i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
        let offset = match sent_at.duration_since(now) {
            Ok(ahead) => nanos(ahead),
            Err(error) => -nanos(error.duration()),
        };
        self.clock_offset.store(offset, Ordering::Release);
    }

    /// Returns the time by the clock of the service, as far as it is known.
    pub(super) fn server_now(&self) -> SystemTime {
        let offset = self.clock_offset.load(Ordering::Acquire);
        let distance = Duration::from_nanos(offset.unsigned_abs());
        let now = SystemTime::now();
        let corrected = if offset < 0 { now.checked_sub(distance) } else { now.checked_add(distance) };
        corrected.unwrap_or(now)
    }

    fn lock(&self) -> MutexGuard<'_, Guards> {
        self.guards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The subjects contain ids of sessions, so they are not logged.
impl fmt::Debug for GuardRegistry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GuardRegistry").field("guards", &self.len()).finish_non_exhaustive()
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        let mut guards = self.registry.lock();
        guards.signals.remove(&self.id);
        for subject in &self.subjects {
            if let Some(ids) = guards.by_subject.get_mut(subject) {
                ids.remove(&self.id);
                if ids.is_empty() {
                    guards.by_subject.remove(subject);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_wakes_only_the_guards_that_it_names() {
        let registry = Arc::new(GuardRegistry::new(Duration::ZERO));
        let key = |id: &str| ChangeSubject::Key(id.to_owned());
        let (first, second) =
            (registry.register(vec![key("a"), key("b")]), registry.register(vec![key("b")]));
        registry.name(&key("a"));
        assert_eq!((first.signal.take(), second.signal.take()), (Pending::Named, Pending::Nothing));
        registry.name(&key("b"));
        registry.wake_all();
        assert_eq!((first.signal.take(), second.signal.take()), (Pending::Named, Pending::Named));
        registry.wake_all();
        assert_eq!((first.signal.take(), first.signal.take()), (Pending::Missed, Pending::Nothing));
    }

    #[test]
    fn dropped_guard_leaves_nothing_behind() {
        let registry = Arc::new(GuardRegistry::new(Duration::ZERO));
        let registration = registry.register(vec![ChangeSubject::Tenant("t".to_owned())]);
        assert_eq!(registry.len(), 1);
        drop(registration);
        let guards = registry.lock();
        assert!(guards.signals.is_empty() && guards.by_subject.is_empty());
    }

    #[test]
    fn time_of_the_service_is_this_clock_with_the_last_offset() {
        let registry = GuardRegistry::new(Duration::ZERO);
        let hour = Duration::from_secs(3_600);
        for (sent_at, low, high) in [
            (SystemTime::now() + hour, hour - hour / 60, hour),
            (SystemTime::now() + hour * 24, hour * 23, hour * 24),
        ] {
            registry.set_server_time(sent_at);
            let ahead = registry.server_now().duration_since(SystemTime::now()).unwrap();
            assert!(low < ahead && ahead <= high, "{ahead:?}");
        }
        registry.set_server_time(SystemTime::now() - hour);
        assert!(registry.server_now() < SystemTime::now() - hour / 2);
    }
}
