//! What a cache answers while the read replica of the database lags or is stalled.

use std::{sync::Arc, time::Duration};

use super::{CacheConfig, bounds::key, loaded::LoadedRecord, pool::Pool};
use crate::domain::{
    cache_policy::CachePolicy,
    grace::Grace,
    key::{KeyHash, KeyRecord},
    verdict::{Revision, Source},
};

const MINUTE: Duration = Duration::from_secs(60);
const FRESH: Duration = Duration::from_secs(5);

fn pool_with_grace() -> (Pool<KeyHash, KeyRecord>, Arc<Grace>) {
    let policy = CachePolicy {
        fresh: FRESH,
        stale_while_revalidate: MINUTE,
        grace: 2 * MINUTE,
        negative_ttl: FRESH,
        reuse_watched: MINUTE,
    };
    let grace = Arc::new(Grace::new(policy.grace));
    let config = CacheConfig { max_records: 10, max_negative_entries: 10, policy };
    (Pool::new(config, Arc::clone(&grace)), grace)
}

/// An answer from the database is as old as its read. An older write of this replica does not count as one.
#[test]
fn own_write_stands_for_a_read_only_while_fresh() {
    let (pool, _) = pool_with_grace();
    let (id, now) = (KeyHash::from_bytes([7; 32]), 10 * MINUTE);
    for (age, is_used) in [(Duration::from_secs(1), true), (FRESH, true), (FRESH * 2, false)] {
        let record = |revision, loaded_at| LoadedRecord {
            record: Some(key(1, 5)),
            revision: Revision(revision),
            loaded_at,
            epoch: pool.epoch(),
            is_lagging: false,
        };
        pool.record_write(&id, record(9, now - age));
        let applied = pool.apply_load(&id, record(8, now), 0, now);
        assert_eq!(
            (applied.is_lagging, applied.cached.provenance.revision),
            match is_used {
                true => (false, Revision(9)),
                false => (true, Revision(8)),
            }
        );
        assert!(applied.is_lagging || applied.cached.provenance.age <= FRESH);
    }
}

#[test]
fn stalled_read_replica_is_usable_within_the_grace_in_force() {
    let (pool, grace) = pool_with_grace();
    let now = 10 * MINUTE;
    let is_usable = |age: Duration| {
        let (id, epoch) = (KeyHash::from_bytes([7; 32]), pool.epoch());
        let loaded = LoadedRecord {
            record: Some(key(1, 5)),
            revision: Revision(1),
            loaded_at: now - age,
            epoch,
            is_lagging: false,
        };
        let stale = pool.as_stale(pool.apply_load(&id, loaded, 0, now), now);
        assert_eq!(stale.cached.provenance.source, Source::Stale);
        !stale.is_lagging
    };
    assert_eq!([MINUTE, 3 * MINUTE].map(is_usable), [true, false], "the configured grace");
    grace.set_override(4 * MINUTE, now + MINUTE);
    assert_eq!([MINUTE, 3 * MINUTE].map(is_usable), [true, true], "an operator has lengthened it");
    grace.set_override(Duration::ZERO, now + MINUTE);
    assert_eq!([MINUTE, 3 * MINUTE].map(is_usable), [false, false], "an operator has ended it");
}
