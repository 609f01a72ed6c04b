//! Tests that weight units bound the memory of the cache.

use std::{hash::Hash, sync::Arc, time::Duration};

use super::{
    CacheConfig, MAX_NEGATIVE_ENTRY_BYTES, WEIGHT_UNIT_BYTES, loaded::LoadedRecord, pool::Pool,
    shard::slot_bytes, weight::negative_weight_of,
};
use crate::domain::{
    cache_policy::CachePolicy,
    change::CacheableRecord,
    clock::{OptionalMillis, UnixMillis},
    grace::Grace,
    id::{KeyId, TenantId},
    key::{KeyHash, KeyRecord, PresentedKey},
    network::AllowedNetworks,
    scope::ScopeSet,
    session::{Attributes, Session, SessionExpiry, SessionId, SessionRecord, Ttl},
    tenant::{TenantSnapshot, TenantStatus},
    verdict::Revision,
};

pub(super) fn key(scopes: usize, length: usize) -> KeyRecord {
    let scopes: Vec<_> = (0..scopes).map(|number| format!("{}{number:03}", "s".repeat(length))).collect();
    let mut scopes: Vec<_> = scopes.iter().map(String::as_str).collect();
    KeyRecord {
        key_id: KeyId::generate().into(),
        tenant: TenantSnapshot {
            id: TenantId::generate(),
            name: "A tenant with quite a long name".into(),
            plan: "enterprise".into(),
            status: TenantStatus::Active,
        }
        .into(),
        scopes: ScopeSet::parse(&mut scopes).unwrap().into(),
        allowed_networks: AllowedNetworks::EVERYWHERE,
        expires_at: OptionalMillis::NONE,
        revoked_at: OptionalMillis::NONE,
        last_used_at: OptionalMillis::NONE,
        is_disabled: false,
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
        tenant_id: key.tenant.id.clone(),
        key_id: key.key_id.unpack(),
        created_at: UnixMillis(0),
        expires_at: UnixMillis(1),
        expiry: SessionExpiry::Fixed,
        ttl: Ttl::new(Duration::from_secs(60), SessionExpiry::Fixed).unwrap(),
        attributes: Attributes::new(attributes).unwrap(),
    };
    SessionRecord { session: session.into(), key, unbound: false }
}

pub(super) fn pool<R: CacheableRecord>(max_records: u64, max_negative_entries: u64) -> Pool<R::Id, R>
where
    R::Id: Clone + Eq + Hash + Send + Sync + 'static,
{
    const MINUTE: Duration = Duration::from_secs(60);
    let policy = CachePolicy {
        fresh: MINUTE,
        stale_while_revalidate: MINUTE,
        grace: MINUTE,
        negative_ttl: MINUTE,
        reuse_watched: MINUTE,
    };
    let config = CacheConfig { max_records, max_negative_entries, policy };
    Pool::new(config, Arc::new(Grace::new(MINUTE)))
}

fn load<R>(record: Option<R>) -> LoadedRecord<R> {
    LoadedRecord { record, revision: Revision(1), loaded_at: Duration::ZERO, epoch: 0, is_lagging: false }
}

/// Returns the bytes per weight unit in a full pool of such records.
fn bytes_per_weight_unit<R: CacheableRecord>(entry: impl Fn(u64) -> (R::Id, R)) -> u64
where
    R::Id: Clone + Eq + Hash + Send + Sync + 'static,
{
    const WEIGHT_UNITS: u64 = 4_096;
    let mut filled_pool = None;
    let used = allocation_counter::measure(|| {
        let pool = pool(WEIGHT_UNITS, 1);
        for number in 0..WEIGHT_UNITS * 2 {
            let (id, record) = entry(number);
            drop(pool.apply_load(&id, load(Some(record)), 0, Duration::ZERO));
        }
        // What only evicted entries depended on.
        pool.sweep(Duration::ZERO);
        filled_pool = Some(pool);
    });
    let weight = filled_pool.map(|pool| pool.records.weight()).unwrap();
    assert!(weight <= WEIGHT_UNITS && weight > WEIGHT_UNITS / 2, "{weight}");
    u64::try_from(used.bytes_current).unwrap() / WEIGHT_UNITS
}

/// Returns the bytes of one negative entry.
fn bytes_per_entry<R: CacheableRecord>(id: impl Fn(u64) -> R::Id) -> u64
where
    R::Id: Clone + Eq + Hash + Send + Sync + 'static,
{
    const ENTRIES: u64 = 16_000;
    let mut filled_pool = None;
    let used = allocation_counter::measure(|| {
        let pool = pool::<R>(1, ENTRIES * u64::from(negative_weight_of::<R>(&id(0))));
        for number in 0..ENTRIES {
            drop(pool.apply_load(&id(number), load(None), 0, Duration::ZERO));
        }
        pool.negative.run_pending_tasks();
        filled_pool = Some(pool);
    });
    assert_eq!(filled_pool.map(|pool| pool.negative.entry_count()), Some(ENTRIES));
    u64::try_from(used.bytes_current).unwrap() / ENTRIES
}

/// The keys of a tenant share what they have in common.
#[test]
fn key_of_a_tenant_with_many_keys_takes_less_than_200_bytes() {
    const KEYS: u64 = 100_000;
    let names: Vec<_> = (0..100).map(|_| TenantId::generate()).collect();
    let records = |number: u64| {
        let mut record = key(2, 10);
        let index = usize::try_from(number).unwrap() % names.len();
        Arc::make_mut(&mut record.tenant).id = names[index].clone();
        (key_hash(number), record)
    };
    let mut filled_pool = None;
    let used = allocation_counter::measure(|| {
        let pool = pool(KEYS * 2, 1);
        for number in 0..KEYS {
            let (id, record) = records(number);
            drop(pool.apply_load(&id, load(Some(record)), 0, Duration::ZERO));
        }
        filled_pool = Some(pool);
    });
    assert_eq!(filled_pool.map(|pool| pool.records.len()), Some(KEYS));
    let bytes = u64::try_from(used.bytes_current).unwrap() / KEYS;
    println!("{bytes} bytes per key; a slot has {}", slot_bytes::<KeyHash, KeyRecord>());
    assert!(bytes < 200, "{bytes}");
}

#[test]
fn weight_units_bound_bytes_for_every_record_shape() {
    let keys = |scopes, length| bytes_per_weight_unit(|number| (key_hash(number), key(scopes, length)));
    let sessions = |id: fn(u64) -> SessionId, attributes, length| {
        bytes_per_weight_unit(|number| (id(number), session(id(number), attributes, length)))
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
