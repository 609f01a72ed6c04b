//! What every part of the service is built on, and the caches on top of it.

use std::{sync::Arc, time::Duration};

use super::upstream_health::health_probe;
use crate::{
    cache::{
        CacheConfig, CacheContext, RecordCache,
        batch_lookup::BatchLookup,
        lookup::{KeyLookup, Lookup, SessionLookup},
        oldest_answer::OldestAnswerAge,
    },
    change_feed::poller::FeedLiveness,
    config::{CacheSettings, SessionsConfig},
    database::client::DatabaseClient,
    domain::{
        clock::SharedClock, grace::Grace, key::Peppers, last_used::LastUsedTracker,
        unknown_lookup_limiter::UnknownLookupLimiter,
    },
    service_types::{
        AllCaches, FeedTargets, KeyRecordCache, ServiceLimits, ServiceStore, SessionRecordCache,
    },
};

/// The shortest time budget of one load or one decision. The database client usually times out earlier; if it is configured with
/// a longer timeout, that applies here too.
const MIN_LOAD_TIMEOUT: Duration = Duration::from_secs(2);

/// The clock, the database and its secrets. Cheap to clone; clones share everything.
#[derive(Clone)]
pub(super) struct Foundation {
    pub(super) clock: SharedClock,
    pub(super) client: DatabaseClient,
    pub(super) store: ServiceStore,
    pub(super) peppers: Arc<Peppers>,
    /// The total timeout of a look-up.
    pub(super) lookup_timeout: Duration,
}

impl Foundation {
    pub(super) fn new(
        client: DatabaseClient,
        peppers: Arc<Peppers>,
        lookup_timeout: Duration,
        clock: SharedClock,
    ) -> Self {
        let store = ServiceStore::new(client.clone(), Arc::clone(&peppers));
        Self { clock, client, store, peppers, lookup_timeout }
    }

    /// The time budget of one load.
    pub(super) fn load_timeout(&self) -> Duration {
        MIN_LOAD_TIMEOUT.max(self.lookup_timeout)
    }
}

/// The caches of keys and sessions, and what they share.
pub(super) struct Caches {
    pub(super) keys: KeyRecordCache,
    pub(super) sessions: SessionRecordCache,
    pub(super) key_config: CacheConfig,
    pub(super) session_config: CacheConfig,
    pub(super) feed_liveness: Arc<FeedLiveness>,
    pub(super) last_used: Arc<LastUsedTracker>,
    pub(super) oldest_answer: Arc<OldestAnswerAge>,
    pub(super) grace: Arc<Grace>,
    pub(super) unknown_lookup_limiter: Arc<UnknownLookupLimiter>,
    pub(super) limits: ServiceLimits,
}

impl Caches {
    pub(super) fn new(base: &Foundation, settings: &CacheSettings, sessions: &SessionsConfig) -> Self {
        let feed_liveness = Arc::new(FeedLiveness::default());
        let last_used = Arc::new(LastUsedTracker::new(Arc::clone(&base.clock)));
        let oldest_answer = Arc::new(OldestAnswerAge::default());
        let grace = Arc::new(Grace::new(settings.records.policy.grace));
        let unknown_lookup_limiter =
            Arc::new(UnknownLookupLimiter::new(settings.unknown_lookup_limits, Arc::clone(&base.clock)));
        let context = || CacheContext {
            clock: Arc::clone(&base.clock),
            grace: Arc::clone(&grace),
            health: health_probe(&base.client, &feed_liveness),
            known: Arc::clone(base.client.known_database()),
            oldest_answer: Arc::clone(&oldest_answer),
            unknown_lookup_limiter: Arc::clone(&unknown_lookup_limiter),
        };
        let key_config = settings.records;
        let session_config = CacheConfig { max_records: sessions.cache_capacity, ..key_config };
        let key_lookup =
            KeyLookup::new(base.store.clone(), Arc::clone(&base.peppers), Arc::clone(&last_used));
        let limits_liveness = Arc::clone(&feed_liveness);
        let session_lookup = SessionLookup::new(base.store.clone());
        Self {
            keys: RecordCache::new(batch_lookup(base, key_lookup), key_config, context()),
            sessions: RecordCache::new(batch_lookup(base, session_lookup), session_config, context()),
            key_config,
            session_config,
            feed_liveness,
            last_used,
            oldest_answer,
            grace,
            unknown_lookup_limiter,
            limits: ServiceLimits::new(
                base.store.clone(),
                Arc::clone(&base.clock),
                health_probe(&base.client, &limits_liveness),
                usize::try_from(key_config.max_records).unwrap_or(usize::MAX),
            ),
        }
    }

    /// What the change feed applies every change to.
    pub(super) fn feed_targets(&self) -> FeedTargets {
        (self.all(), self.limits.clone())
    }

    /// Both caches, as one that changes are applied to.
    pub(super) fn all(&self) -> AllCaches {
        (self.keys.clone(), self.sessions.clone())
    }
}

fn batch_lookup<L: Lookup>(base: &Foundation, lookup: L) -> BatchLookup<L> {
    BatchLookup::new(lookup, Arc::clone(base.client.known_database()), base.load_timeout())
}
