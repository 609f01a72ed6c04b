//! Tests that weight units bound the memory of the cache.

use std::{hash::Hash, sync::Arc, time::Duration};

use quick_cache::{DefaultHashBuilder, sync::Cache};

use super::{
    MAX_NEGATIVE_ENTRY_BYTES, WEIGHT_UNIT_BYTES,
    entry::CacheEntry,
    eviction::EvictionCounts,
    fence::Fence,
    weight::{RecordWeighter, negative_weight_of},
};
use crate::domain::{
    change::CacheableRecord,
    clock::UnixMillis,
    id::{KeyId, TenantId},
    key::{KeyHash, KeyRecord, PresentedKey},
    network::AllowedNetworks,
    scope::ScopeSet,
    session::{Attributes, Session, SessionExpiry, SessionId, SessionRecord, Ttl},
    tenant::TenantStatus,
    verdict::Revision,
};

pub(super) fn key(scopes: usize, length: usize) -> KeyRecord {
    let scopes: Vec<_> = (0..scopes).map(|number| format!("{}{number:03}", "s".repeat(length))).collect();
    let mut scopes: Vec<_> = scopes.iter().map(String::as_str).collect();
    KeyRecord {
        key_id: KeyId::generate(),
        tenant_id: TenantId::generate(),
        tenant_name: "A tenant with quite a long name".into(),
        plan: "enterprise".into(),
        tenant_status: TenantStatus::Active,
        is_disabled: false,
        scopes: ScopeSet::parse(&mut scopes).unwrap(),
        allowed_networks: AllowedNetworks::EVERYWHERE,
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
    }
}

fn key_hash(number: u64) -> KeyHash {
    KeyHash::of(&PresentedKey::new(number.to_string()))
}

/// An id of the length of a UUID.
fn short_id(number: u64) -> SessionId {
    SessionId::parse(&format!("{number:036}")).unwrap()
}

fn longest_id(number: u64) -> SessionId {
    SessionId::parse(&format!("{number:0length$}", length = SessionId::MAX_LEN)).unwrap()
}

fn session(id: SessionId, attributes: usize, length: usize) -> SessionRecord {
    let key = key(4, 10);
    let attributes = (0..attributes).map(|number| (format!("{number:02}"), "v".repeat(length)));
    let session = Session {
        id,
        tenant_id: key.tenant_id.clone(),
        key_id: key.key_id.clone(),
        created_at: UnixMillis(0),
        expires_at: UnixMillis(1),
        expiry: SessionExpiry::Fixed,
        ttl: Ttl::new(Duration::from_secs(60), SessionExpiry::Fixed).unwrap(),
        attributes: Attributes::new(attributes).unwrap(),
    };
    SessionRecord { session, key, unbound: false }
}

/// Returns the bytes per weight unit in a full pool of such records.
fn bytes_per_weight_unit<R: CacheableRecord>(entry: impl Fn(u64) -> (R::Id, Option<R>)) -> u64
where
    R::Id: Clone + Eq + Hash,
{
    const WEIGHT_UNITS: u64 = 4_000;
    let epoch = Fence::new().epoch();
    let mut filled_pool = None;
    let used = allocation_counter::measure(|| {
        let hasher = DefaultHashBuilder::default();
        let pool = Cache::with(4_000, WEIGHT_UNITS, RecordWeighter, hasher, EvictionCounts::default());
        for number in 0..WEIGHT_UNITS * 2 {
            let (id, record) = entry(number);
            let entry = CacheEntry::new(record, Revision(1), Duration::ZERO, Duration::from_secs(5), epoch);
            pool.insert(id, Arc::new(entry));
        }
        filled_pool = Some(pool);
    });
    let weight = filled_pool.map(|pool| pool.weight()).unwrap();
    assert!(weight <= WEIGHT_UNITS && weight > WEIGHT_UNITS / 2, "{weight}");
    u64::try_from(used.bytes_current).unwrap() / WEIGHT_UNITS
}

/// Returns the bytes of one negative entry.
fn bytes_per_entry<R: CacheableRecord>(id: impl Fn(u64) -> R::Id) -> u64
where
    R::Id: Clone + Eq + Hash + Send + Sync + 'static,
{
    const ENTRIES: u64 = 4_000;
    let epoch = Fence::new().epoch();
    let mut filled_pool = None;
    let used = allocation_counter::measure(|| {
        let pool = moka::sync::Cache::<R::Id, Arc<CacheEntry<R>>>::builder().max_capacity(ENTRIES).build();
        for number in 0..ENTRIES {
            let entry = CacheEntry::new(None, Revision(1), Duration::ZERO, Duration::from_secs(5), epoch);
            pool.insert(id(number), Arc::new(entry));
        }
        pool.run_pending_tasks();
        filled_pool = Some(pool);
    });
    assert_eq!(filled_pool.map(|pool| pool.entry_count()), Some(ENTRIES));
    u64::try_from(used.bytes_current).unwrap() / ENTRIES
}

#[test]
fn weight_units_bound_bytes_for_every_record_shape() {
    let keys = |scopes, length| bytes_per_weight_unit(|number| (key_hash(number), Some(key(scopes, length))));
    let sessions = |id: fn(u64) -> SessionId, attributes, length| {
        bytes_per_weight_unit(|number| (id(number), Some(session(id(number), attributes, length))))
    };
    let records: [(&str, u64); 6] = [
        ("a short key", keys(2, 10)),
        ("a key of long scopes", keys(ScopeSet::MAX_SCOPES, 50)),
        ("a session", sessions(short_id, 0, 0)),
        ("a session of the longest id", sessions(longest_id, 0, 0)),
        ("a session of long attributes", sessions(longest_id, 16, 125)),
        ("a session of many attributes", sessions(short_id, 16, 1)),
    ];
    for (what, bytes) in records {
        println!("{what}: {bytes} bytes per unit");
        assert!(bytes <= WEIGHT_UNIT_BYTES as u64, "{what}: {bytes} bytes per unit");
    }
}

#[test]
fn negative_entries_are_bounded_for_every_length_of_id() {
    let negative_weight = |number| u64::from(negative_weight_of::<SessionRecord>(&longest_id(number)));
    let entries: [(&str, u64, u64); 3] = [
        ("a key", bytes_per_entry::<KeyRecord>(key_hash), 1),
        ("a short session id", bytes_per_entry::<SessionRecord>(short_id), 1),
        ("the longest session id", bytes_per_entry::<SessionRecord>(longest_id), negative_weight(0)),
    ];
    assert_eq!(negative_weight_of::<SessionRecord>(&short_id(0)), 1);
    for (what, bytes, weight) in entries {
        println!("a negative entry for {what}: {bytes} bytes, counted as {weight}");
        assert!(bytes <= weight * MAX_NEGATIVE_ENTRY_BYTES as u64, "{what}: {bytes}");
    }
}
