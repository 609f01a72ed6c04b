//! Preloads the recently used keys when a replica starts.

use std::time::Duration;

use tokio::sync::watch;

use super::{
    maintenance::maintenance_call,
    readiness::{Readiness, until_ready},
};
use crate::{
    domain::{
        clock::SharedClock,
        known_database::read_route::{ReadRoute, ReadSource},
        store::{KnownTenants, ReadFrom, RecentlyUsedCursor, Store as _, StoreError},
        verdict::Revision,
    },
    service_types::{KeyRecordCache, PendingKeyRead, ServiceStore},
};

/// How many keys one statement reads: 2,000 with ten scopes each are less than 2 MiB.
const KEYS_PER_PAGE: usize = 2_000;
/// The least number of keys per statement, after failures. 100 keys with as many scopes and networks as are allowed
/// fit into a response.
const MIN_KEYS_PER_PAGE: usize = 100;
/// For how long tenants that were read with one page are used for the next ones. A tenant that changes meanwhile makes
/// its keys be loaded when they are used.
const TENANTS_USED_FOR: Duration = Duration::from_secs(30);
/// The delay before preloading continues after a failure; it doubles with each further failure.
const INITIAL_RETRY_DELAY: Duration = Duration::from_secs(1);
/// Maximum of that delay.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(60);

/// How often to check whether the read replica is used.
const ROUTE_CHECK_INTERVAL: Duration = Duration::from_millis(50);
/// Maximum time to wait for that.
const MAX_ROUTE_DELAY: Duration = Duration::from_secs(1);

/// Fills an empty cache with the most recently used keys, up to its capacity, so that a replica which has just
/// started can serve stale answers during an outage too. No request waits for it.
pub(super) async fn preload_cache(
    store: ServiceStore,
    cache: KeyRecordCache,
    capacity: u64,
    clock: SharedClock,
    mut readiness: watch::Receiver<Readiness>,
) {
    if !until_ready(&mut readiness).await {
        return;
    }
    let read_from = match cache.known_database().read_route() {
        Some(route) if is_read_replica_used_soon(route, &clock).await => ReadFrom::Nearest,
        _ => ReadFrom::Primary,
    };
    let mut preload = Preload {
        store,
        cache,
        clock,
        read_from,
        remaining: usize::try_from(capacity).unwrap_or(usize::MAX),
        limit: KEYS_PER_PAGE,
        after: None,
        reads: None,
    };
    let mut delay = INITIAL_RETRY_DELAY;
    loop {
        match preload.load_page().await {
            Ok(true) => return,
            Ok(false) => delay = INITIAL_RETRY_DELAY,
            Err(error) => {
                let seconds = delay.as_secs();
                tracing::warn!(%error, seconds, "recently used keys could not be preloaded; retrying after a delay");
                tokio::time::sleep(delay).await;
                delay = (delay * 2).min(MAX_RETRY_DELAY);
                preload.limit = (preload.limit / 2).max(MIN_KEYS_PER_PAGE);
            }
        }
    }
}

/// Waits until the feed has compared the read replica with the primary: a nearby server then answers this, the largest
/// read of all. Returns whether it does.
async fn is_read_replica_used_soon(route: &ReadRoute, clock: &SharedClock) -> bool {
    let used = async {
        while route.source(clock.monotonic()) == ReadSource::Primary {
            tokio::time::sleep(ROUTE_CHECK_INTERVAL).await;
        }
    };
    tokio::time::timeout(MAX_ROUTE_DELAY, used).await.is_ok()
}

struct Preload {
    store: ServiceStore,
    cache: KeyRecordCache,
    clock: SharedClock,
    /// One choice for all pages, since they share the time as of which they count.
    read_from: ReadFrom,
    /// How many more keys the cache holds.
    remaining: usize,
    /// How many keys the next statement reads.
    limit: usize,
    /// The last key of the previous page.
    after: Option<RecentlyUsedCursor>,
    reads: Option<PageReads>,
}

/// Pages that share their tenants. Their records count as of the time before the first of them was read.
struct PageReads {
    began_at: Duration,
    pending: PendingKeyRead,
    /// That of the first page.
    revision: Option<Revision>,
    tenants: KnownTenants,
}

impl Preload {
    /// Loads the next page. Returns whether it was the last one.
    async fn load_page(&mut self) -> Result<bool, StoreError> {
        let limit = self.remaining.min(self.limit);
        if limit == 0 {
            return Ok(true);
        }
        let now = self.clock.monotonic();
        let is_recent = |reads: &PageReads| now.saturating_sub(reads.began_at) < TENANTS_USED_FOR;
        let mut reads = self.reads.take().filter(is_recent).unwrap_or_else(|| PageReads {
            began_at: now,
            pending: self.cache.start_read(),
            revision: None,
            tenants: KnownTenants::default(),
        });
        let after = self.after.clone();
        let call = maintenance_call().reading_from(self.read_from);
        let page = self.store.recently_used_keys(call, after, limit, &mut reads.tenants).await?;
        // A read replica may answer after the primary, and show less.
        let revision = (*reads.revision.get_or_insert(page.revision)).min(page.revision);
        self.remaining = self.remaining.saturating_sub(page.keys.len());
        self.after = page.next;
        self.cache.insert_preloaded(reads.pending, &page.database, revision, page.keys);
        self.reads = Some(reads);
        Ok(self.after.is_none())
    }
}
