//! Tests that weight units bound the memory of the cache.

use std::{sync::Arc, time::Duration};

use quick_cache::{DefaultHashBuilder, sync::Cache};

use super::{
    MAX_NEGATIVE_ENTRY_BYTES, WEIGHT_UNIT_BYTES, entry::CacheEntry, eviction::EvictionCounts, fence::Fence,
    weight::RecordWeighter,
};
use crate::domain::{
    change::CacheableRecord,
    clock::UnixMillis,
    id::{KeyId, TenantId},
    key::KeyRecord,
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

fn session(attributes: usize, length: usize) -> SessionRecord {
    let key = key(4, 10);
    let attributes = (0..attributes).map(|number| (format!("{number:02}"), "v".repeat(length)));
    let session = Session {
        id: SessionId::parse(&"i".repeat(SessionId::MAX_LEN)).unwrap(),
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
fn bytes_per_weight_unit<R: CacheableRecord>(record: impl Fn() -> Option<R>) -> u64 {
    const WEIGHT_UNITS: u64 = 4_000;
    let epoch = Fence::new().epoch();
    let mut filled_pool = None;
    let used = allocation_counter::measure(|| {
        let hasher = DefaultHashBuilder::default();
        let pool = Cache::with(4_000, WEIGHT_UNITS, RecordWeighter, hasher, EvictionCounts::default());
        for number in 0..WEIGHT_UNITS * 2 {
            let entry = CacheEntry::new(record(), Revision(1), Duration::ZERO, Duration::from_secs(5), epoch);
            pool.insert(number, Arc::new(entry));
        }
        filled_pool = Some(pool);
    });
    let weight = filled_pool.map(|pool| pool.weight()).unwrap();
    assert!(weight <= WEIGHT_UNITS && weight > WEIGHT_UNITS / 2, "{weight}");
    u64::try_from(used.bytes_current).unwrap() / WEIGHT_UNITS
}

#[test]
fn weight_units_bound_bytes_for_every_record_shape() {
    let records: [(&str, u64); 5] = [
        ("a short key", bytes_per_weight_unit(|| Some(key(2, 10)))),
        ("a key of long scopes", bytes_per_weight_unit(|| Some(key(ScopeSet::MAX_SCOPES, 50)))),
        ("a session", bytes_per_weight_unit(|| Some(session(0, 0)))),
        ("a session of long attributes", bytes_per_weight_unit(|| Some(session(16, 125)))),
        ("a session of many attributes", bytes_per_weight_unit(|| Some(session(16, 1)))),
    ];
    for (what, bytes) in records {
        println!("{what}: {bytes} bytes per unit");
        assert!(bytes <= WEIGHT_UNIT_BYTES as u64, "{what}: {bytes} bytes per unit");
    }
    let negative_entry = bytes_per_weight_unit::<KeyRecord>(|| None);
    println!("a negative entry: {negative_entry} bytes");
    assert!(negative_entry <= MAX_NEGATIVE_ENTRY_BYTES as u64, "{negative_entry}");
}
