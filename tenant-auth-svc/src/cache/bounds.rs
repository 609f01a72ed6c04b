//! Places bound bytes.

use std::{sync::Arc, time::Duration};

use quick_cache::{DefaultHashBuilder, sync::Cache};

use super::{ABSENCE, PLACE, entry::Entry, evicted::Evicted, fence::Fence, weight::ByLength};
use crate::domain::{
    change::Record,
    clock::UnixMillis,
    id::{KeyId, TenantId},
    key::KeyRecord,
    scope::ScopeSet,
    session::{Attributes, Expiry, Session, SessionId, SessionRecord, Ttl},
    tenant::TenantStatus,
    verdict::Revision,
};

fn key(scopes: usize, length: usize) -> KeyRecord {
    let scopes: Vec<_> = (0..scopes).map(|number| format!("{}{number:03}", "s".repeat(length))).collect();
    let mut scopes: Vec<_> = scopes.iter().map(String::as_str).collect();
    KeyRecord {
        key_id: KeyId::generate(),
        tenant_id: TenantId::generate(),
        tenant_name: "A tenant with quite a long name".into(),
        plan: "enterprise".into(),
        tenant_status: TenantStatus::Active,
        scopes: ScopeSet::parse(&mut scopes).unwrap(),
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
        expiry: Expiry::Fixed,
        ttl: Ttl::new(Duration::from_secs(60), Expiry::Fixed).unwrap(),
        attributes: Attributes::new(attributes).unwrap(),
    };
    SessionRecord { session, key, unbound: false }
}

/// How many bytes a place takes in a full pool of such records.
fn bytes_a_place<R: Record>(record: impl Fn() -> Option<R>) -> u64 {
    const PLACES: u64 = 4_000;
    let epoch = Fence::new().epoch();
    let mut kept = None;
    let used = allocation_counter::measure(|| {
        let hasher = DefaultHashBuilder::default();
        let pool = Cache::with(4_000, PLACES, ByLength, hasher, Evicted::default());
        for number in 0..PLACES * 2 {
            let entry = Entry::new(record(), Revision(1), Duration::ZERO, Duration::from_secs(5), epoch);
            pool.insert(number, Arc::new(entry));
        }
        kept = Some(pool);
    });
    let weight = kept.map(|pool| pool.weight()).unwrap();
    assert!(weight <= PLACES && weight > PLACES / 2, "{weight}");
    u64::try_from(used.bytes_current).unwrap() / PLACES
}

#[test]
fn places_bound_bytes_whatever_the_records_are() {
    let records: [(&str, u64); 5] = [
        ("a short key", bytes_a_place(|| Some(key(2, 10)))),
        ("a key of long scopes", bytes_a_place(|| Some(key(ScopeSet::MAX_SCOPES, 50)))),
        ("a session", bytes_a_place(|| Some(session(0, 0)))),
        ("a session of long attributes", bytes_a_place(|| Some(session(16, 125)))),
        ("a session of many attributes", bytes_a_place(|| Some(session(16, 1)))),
    ];
    for (what, bytes) in records {
        println!("{what}: {bytes} bytes a place");
        assert!(bytes <= PLACE as u64, "{what}: {bytes} bytes a place");
    }
    let absence = bytes_a_place::<KeyRecord>(|| None);
    println!("an absence: {absence} bytes");
    assert!(absence <= ABSENCE as u64, "{absence}");
}
