//! One load: reads records, at the primary if the read replica has not enough, and applies what was read.

use std::sync::{Arc, atomic::Ordering};

use super::{
    CacheInner,
    batch_lookup::{LookupClass, LookupOutcome},
    in_flight::{LoadOutcome, LoadOutcomes, UnreadableOutcome},
    loaded::LoadedRecord,
    lookup::Lookup,
};
use crate::domain::{
    store::{FailureKind, StoreError, UnknownReason},
    verdict::Revision,
};

impl<L: Lookup> CacheInner<L> {
    /// Reads up to [`MAX_IDS_PER_LOOKUP`](crate::domain::store::MAX_IDS_PER_LOOKUP) records, and caches those
    /// that no newer change supersedes. What a read replica with a URL of its own lacks is read at the primary, without
    /// waiting for the read replica.
    pub(super) async fn load(&self, is_known: bool, ids: &Arc<[L::Id]>) -> LoadOutcomes<L::Record> {
        let is_read_replica_unused = self.known.is_read_replica_unused(self.clock.monotonic());
        let nearest = LookupClass { is_known, at_primary: is_read_replica_unused };
        let at_primary = LookupClass { is_known, at_primary: true };
        let loaded = self.load_from(nearest, ids).await;
        if self.known.read_route().is_none() || is_read_replica_unused || self.known.is_stalled() {
            return Ok(loaded?.into_iter().map(|(outcome, _)| outcome).collect());
        }
        let loaded = match loaded {
            // The read replica is one of another database.
            Err(error) if error.kind == FailureKind::Untrusted && !self.known.is_distrusted() => {
                let loaded = self.load_from(at_primary, ids).await?;
                return Ok(loaded.into_iter().map(|(outcome, _)| outcome).collect());
            }
            loaded => loaded?,
        };
        let lacking = |(id, (_, is_lacking)): (&L::Id, &(_, bool))| is_lacking.then(|| id.clone());
        let missing: Arc<[L::Id]> = ids.iter().zip(&loaded).filter_map(lacking).collect();
        if missing.is_empty() {
            return Ok(loaded.into_iter().map(|(outcome, _)| outcome).collect());
        }
        let mut again = match self.load_from(at_primary, &missing).await {
            Ok(again) => again.into_iter().map(|(outcome, _)| outcome).collect::<Vec<_>>(),
            // The other ids have their answers.
            Err(error) => {
                let reason = UnknownReason::Inconclusive(error);
                let failed = Err(UnreadableOutcome { reason, superseded_at: None });
                vec![failed; missing.len()]
            }
        }
        .into_iter();
        let merged = loaded.into_iter().map(|(outcome, is_lacking)| match is_lacking {
            true => again.next().unwrap_or(outcome),
            false => outcome,
        });
        Ok(merged.collect())
    }

    /// Returns the outcome for each id, and whether the server that answered lacks something that this replica knows.
    async fn load_from(
        &self,
        class: LookupClass,
        ids: &Arc<[L::Id]>,
    ) -> Result<Vec<(LoadOutcome<L::Record>, bool)>, StoreError> {
        let (load_epoch, asked_at) = (self.pool.epoch(), self.clock.monotonic());
        let read_at = if class.at_primary { asked_at } else { self.known.reads_count_from(asked_at) };
        // A result older than the position known before the read comes from a lagging replica and is not
        // used.
        let known_before = self.known.position();
        let found = self.store.lookup(class, Arc::clone(ids)).await?;
        let now = self.clock.monotonic();
        let loaded_at = self.known.effective_read_time(read_at)?;
        let is_stalled = self.known.is_stalled();
        let apply = |id: &L::Id, (read, revision): LookupOutcome<L::Record>| -> LoadOutcome<L::Record> {
            self.revision.fetch_max(revision.0, Ordering::Relaxed);
            let record = read.map_err(|reason| {
                let superseded_at = match &reason {
                    UnknownReason::Unreadable(_) => self.pool.remove_unreadable(id, load_epoch, revision),
                    UnknownReason::Inconclusive(_) => None,
                };
                UnreadableOutcome { reason, superseded_at }
            })?;
            if let Some(record) = &record {
                self.store.table().on_loaded(record);
            }
            let is_lagging = revision < known_before;
            let loaded = LoadedRecord { record, revision, loaded_at, epoch: load_epoch, is_lagging };
            let applied = self.pool.apply_load(id, loaded, L::jitter_seed(id), now);
            Ok(if is_stalled { self.pool.as_stale(applied, now) } else { applied })
        };
        let apply = |(id, found): (&L::Id, LookupOutcome<L::Record>)| {
            let revision: Revision = found.1;
            let outcome = apply(id, found);
            let is_lagging = outcome.as_ref().is_ok_and(|applied| applied.is_lagging);
            (outcome, is_lagging || revision < known_before)
        };
        Ok(ids.iter().zip(found).map(apply).collect())
    }
}
