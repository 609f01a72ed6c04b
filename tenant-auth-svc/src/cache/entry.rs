//! One entry of the cache, and what is known about the read that it is from.

use std::{sync::Arc, time::Duration};

use super::{
    fence::{Epoch, Fence},
    subjects::{SubjectMark, Unreflected},
    sync::{AtomicBool, AtomicU8, Ordering},
};
use crate::domain::{
    cache_policy::CachePolicy,
    change::{CacheableRecord, ChangeKind},
    client_reuse::ClientReuse,
    record_source::CachedRecord,
    verdict::{Provenance, Revision, Source},
};

/// When and at which position of the change log something was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReadPoint {
    /// The monotonic time before the read, in nanoseconds: half the size of a [`Duration`], and enough for 584 years.
    loaded_at: u64,
    /// The epoch at which the load started.
    pub(super) epoch: Epoch,
    /// The position of the change log.
    pub(super) revision: Revision,
}

impl ReadPoint {
    pub(super) fn new(loaded_at: Duration, epoch: Epoch, revision: Revision) -> Self {
        Self { loaded_at: u64::try_from(loaded_at.as_nanos()).unwrap_or(u64::MAX), epoch, revision }
    }

    /// Returns the monotonic time before the read.
    pub(super) fn loaded_at(&self) -> Duration {
        Duration::from_nanos(self.loaded_at)
    }

    /// Returns the time since the read.
    pub(super) fn age(&self, now: Duration) -> Duration {
        now.saturating_sub(self.loaded_at())
    }

    /// Returns an answer from this read that is fresh for `fresh` since then.
    pub(super) fn answer<R>(
        &self,
        record: Option<R>,
        (now, fresh): (Duration, Duration),
        source: Source,
        policy: &CachePolicy,
    ) -> CachedRecord<R> {
        let age = self.age(now);
        let reuse = policy.client_reuse(source, record.is_none(), fresh.saturating_sub(age));
        CachedRecord { record, provenance: Provenance { source, age, revision: self.revision, reuse } }
    }
}

/// A record, and what is known about it.
#[derive(Debug)]
pub(super) struct CacheEntry<R> {
    pub(super) record: R,
    pub(super) read: ReadPoint,
    /// The last changes of its tenant.
    tenant: Arc<SubjectMark>,
    /// The last changes of the key that a session's record contains.
    key: Option<Arc<SubjectMark>>,
    /// Lengthens or shortens the fresh time of the entry.
    jitter: u8,
    /// Whether a change was applied that the record does not fully reflect: it then serves only as a
    /// fallback.
    pub(super) is_outdated: bool,
    /// Whether a reload is claimed.
    is_reloading: AtomicBool,
    /// Whether it was preloaded, and no request has used it yet.
    is_unused_preload: AtomicBool,
    /// What the table notes about the entry. It is kept here because there is room.
    pub(super) clock: ClockState,
}

/// What a table that evicts by CLOCK notes about an entry.
#[derive(Debug, Default)]
pub(super) struct ClockState {
    /// The weight of the entry.
    pub(super) weight: u16,
    /// Its uses since the hand last passed, up to a maximum.
    pub(super) uses: AtomicU8,
}

impl<R: CacheableRecord> CacheEntry<R> {
    /// Creates an entry. `subjects` are the marks of its tenant, and of the key that a session depends on.
    pub(super) fn new(
        record: R,
        read: ReadPoint,
        jitter: u8,
        (tenant, key): (Arc<SubjectMark>, Option<Arc<SubjectMark>>),
    ) -> Self {
        Self {
            record,
            read,
            tenant,
            key,
            jitter,
            is_outdated: false,
            is_reloading: AtomicBool::new(false),
            is_unused_preload: AtomicBool::new(false),
            clock: ClockState::default(),
        }
    }

    /// Returns the entry as a preloaded one, which no request has used.
    pub(super) fn into_preloaded(self) -> Self {
        Self { is_unused_preload: AtomicBool::new(true), ..self }
    }

    /// Whether the entry was preloaded, and no request has used it yet.
    pub(super) fn is_unused_preload(&self) -> bool {
        self.is_unused_preload.load(Ordering::Relaxed)
    }

    /// Records that a request uses the entry.
    pub(super) fn record_use(&self) {
        // Written once only: entries in constant use are not written.
        if self.is_unused_preload() {
            self.is_unused_preload.store(false, Ordering::Relaxed);
        }
    }

    /// Writes a known revocation into the record. It is then only a fallback.
    pub(super) fn apply_revocation(&mut self, kind: ChangeKind) {
        self.record.apply_revocation(kind);
        self.is_outdated = true;
        self.is_reloading = AtomicBool::new(false);
    }

    /// Returns what has changed about the subjects that it shares with other entries, and that it does not reflect.
    pub(super) fn unreflected(&self, fence: &Fence) -> Unreflected {
        // The usual case. It spares a look at the marks, which are elsewhere in memory.
        if fence.are_subjects_unchanged_since(self.read.epoch) {
            return Unreflected::Nothing;
        }
        let of_tenant = self.tenant.unreflected(&self.read, fence);
        match &self.key {
            None => of_tenant,
            Some(key) => of_tenant.and(key.unreflected(&self.read, fence)),
        }
    }

    /// Returns the fresh time of this entry.
    pub(super) fn fresh(&self, policy: &CachePolicy) -> Duration {
        policy.fresh_for(self.jitter)
    }

    /// Returns the entry as an answer from this source, with these revocations. A caller may not reuse an outdated
    /// entry.
    pub(super) fn cached_record(
        &self,
        revocations: &[ChangeKind],
        now: Duration,
        source: Source,
        policy: &CachePolicy,
    ) -> CachedRecord<R> {
        let mut record = self.record.clone();
        for kind in revocations {
            record.apply_revocation(*kind);
        }
        let mut cached = self.read.answer(Some(record), (now, self.fresh(policy)), source, policy);
        if self.is_outdated || !revocations.is_empty() {
            cached.provenance.reuse = ClientReuse::NONE;
        }
        cached
    }

    /// Claims the reload. Returns `false` if another caller has claimed it.
    pub(super) fn claim_reload(&self) -> bool {
        !self.is_reloading.swap(true, Ordering::Relaxed)
    }

    /// Releases the claim on the reload.
    pub(super) fn release_reload(&self) {
        self.is_reloading.store(false, Ordering::Relaxed);
    }
}
