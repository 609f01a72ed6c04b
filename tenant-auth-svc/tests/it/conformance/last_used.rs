//! Recently used keys.

use std::time::Duration;

use tenant_auth_svc::domain::{
    clock::UnixMillis,
    key::Peppers,
    store::{KnownTenants, Lane, Store},
    text::Reason,
};

use crate::harness::{
    call, change,
    records::{new_key, new_tenant},
};

pub(super) async fn check_last_used(store: &impl Store, peppers: &Peppers) {
    let tenant =
        store.create_tenant(call(Lane::Admin), &new_tenant(), &change()).await.unwrap().outcome.tenant;
    let keys: Vec<_> = (0..4).map(|_| new_key(&tenant.id, &["a"], None)).collect();
    for key in &keys {
        store.insert_key(call(Lane::Admin), key, None, &change()).await.unwrap();
    }
    let ago = Duration::from_secs;
    // The last key is never used, the third is revoked, and the first was used last.
    let uses = [(keys[0].id.clone(), ago(10)), (keys[1].id.clone(), ago(20)), (keys[2].id.clone(), ago(30))];
    let before = store.lookup_keys(call(Lane::Known), &[keys[0].hash]).await.unwrap();
    for _ in 0..2 {
        store.record_last_used(call(Lane::Maintenance), &uses).await.unwrap();
    }
    // A later stored time is kept.
    let used = async || {
        let found = store.lookup_keys(call(Lane::Known), &[keys[0].hash]).await.unwrap();
        found.records[0].clone().unwrap().unwrap().last_used_at.get().unwrap()
    };
    let at = used().await;
    store.record_last_used(call(Lane::Maintenance), &[(keys[0].id.clone(), ago(3_600))]).await.unwrap();
    let reason = Reason::parse("gone").unwrap();
    let after = store.lookup_keys(call(Lane::Known), &[keys[0].hash]).await.unwrap();
    assert_eq!(used().await, at);
    assert_eq!(after.revision, before.revision, "a use is not a change");
    store.revoke_key(call(Lane::Admin), &keys[2].id, &reason, &change()).await.unwrap();

    let mine = |id| keys.iter().position(|key| key.id == id);
    let mut tenants = KnownTenants::default();
    let first = store.recently_used_keys(call(Lane::Maintenance), None, 500, &mut tenants).await.unwrap();
    assert!(first.revision > after.revision);
    let listed: Vec<_> = first
        .keys
        .iter()
        .filter_map(|(digest, key)| Some((mine(key.key_id.unpack())?, digest, key)))
        .collect();
    assert_eq!(listed.iter().map(|(position, ..)| *position).collect::<Vec<_>>(), [0, 1]);
    for (position, digest, key) in listed {
        assert_eq!(*digest, peppers.stored_hash(&keys[position].hash).digest);
        assert_eq!((&key.tenant.id, &*key.scopes), (&tenant.id, &keys[position].scopes));
    }
    // Reads page by page to the end.
    let after_first = Some((at, keys[0].id.to_string()));
    let next =
        store.recently_used_keys(call(Lane::Maintenance), after_first, 500, &mut tenants).await.unwrap();
    let next = next.keys.into_iter().find_map(|(_, key)| mine(key.key_id.unpack()));
    assert_eq!(next, Some(1));
    let last = Some((UnixMillis(i64::MIN), keys[0].id.to_string()));
    let end = store.recently_used_keys(call(Lane::Maintenance), last, 10, &mut tenants).await.unwrap();
    assert!(end.keys.is_empty());
}
