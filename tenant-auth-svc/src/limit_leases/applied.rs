//! The limits that apply to a key.

use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use super::{FRESH, LimitDatabase, LimitLeases, lock};
use crate::domain::{
    cache_policy::UpstreamHealth,
    id::TenantId,
    key::KeyRecord,
    limit::{CounterKey, Limit, LimitSubject, counter::LimitCounter},
    store::{Call, FailureKind, Lane, StoreError},
    text::Plan,
};

/// The limits of a key, by name.
#[derive(Debug)]
pub struct AppliedLimits {
    pub(super) tenant_id: TenantId,
    plan: Box<str>,
    /// When they were read, by the monotonic clock.
    read_at: Duration,
    pub(super) limits: Box<[AppliedLimit]>,
}

/// A limit, and what is held of it.
#[derive(Debug)]
pub(super) struct AppliedLimit {
    pub(super) limit: Arc<Limit>,
    pub(super) counter: Arc<LimitCounter>,
}

impl<S: LimitDatabase> LimitLeases<S> {
    /// Returns the limits of a key if they are in memory and current.
    pub(super) fn cached_limits(&self, record: &KeyRecord, now: Duration) -> Option<Arc<AppliedLimits>> {
        let applied = self.0.applied.get(&record.key_id)?;
        let is_same = applied.tenant_id == record.tenant.id && *applied.plan == *record.tenant.plan;
        let is_current = match (self.0.health)(now) {
            UpstreamHealth::Healthy => true,
            UpstreamHealth::FeedSilent => now.saturating_sub(applied.read_at) <= FRESH,
            // There is nothing better.
            UpstreamHealth::Failing { .. } => true,
        };
        (is_same && is_current).then_some(applied)
    }

    /// Returns the limits of a key, from memory or from the database. Callers that arrive together share one read.
    ///
    /// # Errors
    /// When the database gives no complete response, and nothing is in memory.
    pub(super) async fn load_limits(
        &self,
        record: &KeyRecord,
        deadline: Instant,
    ) -> Result<Arc<AppliedLimits>, StoreError> {
        let now = self.0.clock.monotonic();
        if let Some(applied) = self.cached_limits(record, now) {
            return Ok(applied);
        }
        let previous = self.0.applied.remove(&record.key_id).map(|(_, applied)| applied);
        let epoch = self.0.epoch.load(Ordering::Acquire);
        let is_unusable = matches!((self.0.health)(now), UpstreamHealth::Failing { probe: false });
        let read = async {
            if is_unusable {
                // It does not respond, or it is not the known one: its limits would be those of another database.
                return Err(StoreError::new(
                    FailureKind::CircuitOpen,
                    "the database is not asked for limits now",
                ));
            }
            let call = Call::until(Lane::Limits, deadline);
            let plan = Plan::parse(&record.tenant.plan).map_err(|_| unreadable_plan())?;
            let limits = self
                .0
                .store
                .effective_limits(call, &record.tenant.id, &plan, &record.key_id.unpack())
                .await?;
            Ok::<_, StoreError>(Arc::new(self.applied_limits(record, limits, now)))
        };
        let loaded = self.0.applied.get_or_insert_async(&record.key_id, read).await;
        match (loaded, previous) {
            (Ok(applied), _) => {
                // Limits that changed during the read may be missing from it.
                if self.0.epoch.load(Ordering::Acquire) != epoch {
                    self.0.applied.remove(&record.key_id);
                }
                Ok(applied)
            }
            (Err(_), Some(previous))
                if previous.tenant_id == record.tenant.id
                    && *previous.plan == *record.tenant.plan
                    && self.0.epoch.load(Ordering::Acquire) == epoch =>
            {
                self.0.applied.insert(record.key_id.clone(), Arc::clone(&previous));
                Ok(previous)
            }
            (Err(error), _) => Err(error),
        }
    }

    fn applied_limits(&self, record: &KeyRecord, mut limits: Vec<Limit>, read_at: Duration) -> AppliedLimits {
        limits.sort_by(|a, b| a.name.cmp(&b.name));
        let limits = limits.into_iter().map(|limit| self.applied_limit(record, Arc::new(limit))).collect();
        AppliedLimits {
            tenant_id: record.tenant.id.clone(),
            plan: record.tenant.plan.as_str().into(),
            read_at,
            limits,
        }
    }

    fn applied_limit(&self, record: &KeyRecord, limit: Arc<Limit>) -> AppliedLimit {
        let key = CounterKey {
            tenant_id: record.tenant.id.clone(),
            key_id: matches!(limit.subject, LimitSubject::Key(_)).then(|| record.key_id.unpack()),
            name: limit.name.clone(),
            kind: limit.rule.kind().into(),
        };
        let mut counters = lock(&self.0.counters);
        if let Some(counter) = counters.get(&key).and_then(std::sync::Weak::upgrade) {
            drop(counters);
            counter.lock().set_limit(&limit);
            return AppliedLimit { limit, counter };
        }
        let counter = Arc::new(LimitCounter::new(key.clone(), Arc::clone(&limit)));
        if counters.len() == counters.capacity() {
            counters.retain(|_, counter| counter.strong_count() > 0);
        }
        counters.insert(key, Arc::downgrade(&counter));
        AppliedLimit { limit, counter }
    }
}

fn unreadable_plan() -> StoreError {
    StoreError::new(FailureKind::InvalidResponse, "the plan of a tenant is not readable")
}
