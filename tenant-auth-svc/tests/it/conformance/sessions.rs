//! Sessions: bound once, never moved, terminated, extended, deleted after expiry.

use std::{collections::BTreeSet, time::Duration};

use tenant_auth_svc::domain::{
    id::TenantId,
    key::NewKey,
    page::{PageRequest, PageSize},
    session::{Attributes, NewSession, Session, SessionExpiry, SessionId, StoredBinding, Ttl},
    store::{Lane, Store},
    tenant::TenantStatus,
    text::Reason,
};

use crate::harness::{
    NOW, call, change,
    records::{new_key, new_tenant, random_hash},
};

fn new_session(key: &NewKey, expiry: SessionExpiry) -> NewSession {
    let attributes = [("user".to_owned(), "O'Brien \"x\" é".to_owned())];
    let drawn = random_hash();
    NewSession {
        id: SessionId::parse(&format!("ses~{}", hex::encode(drawn.as_bytes()))).unwrap(),
        tenant_id: key.tenant_id.clone(),
        key_id: key.id.clone(),
        ttl: Ttl::new(Duration::from_secs(60), expiry).unwrap(),
        expiry,
        attributes: Attributes::new(attributes).unwrap(),
        bind_id: hex::encode(random_hash().as_bytes()),
        max_sessions: 1_000,
    }
}

/// A session that has expired as soon as it is bound.
fn already_expired_session(key: &NewKey) -> NewSession {
    NewSession { ttl: Ttl::from_stored(Duration::ZERO), ..new_session(key, SessionExpiry::Fixed) }
}

fn clone_session(session: &NewSession) -> NewSession {
    NewSession { bind_id: hex::encode(random_hash().as_bytes()), ..session.clone() }
}

async fn tenant_with_key(store: &impl Store) -> (TenantId, NewKey) {
    let tenant =
        store.create_tenant(call(Lane::Admin), &new_tenant(), &change()).await.unwrap().outcome.tenant;
    let key = new_key(&tenant.id, &["a", "b"], None);
    store.insert_key(call(Lane::Admin), &key, None, &change()).await.unwrap();
    (tenant.id, key)
}

async fn bind(store: &impl Store, new: &NewSession) -> StoredBinding {
    store.bind_session(call(Lane::Sessions), new).await.unwrap().outcome.0
}

/// Binds a session, which must succeed. Returns it, and whether it was bound already.
async fn bind_expecting_success(store: &impl Store, new: &NewSession) -> (Session, bool) {
    let StoredBinding::Bound { session, already } = bind(store, new).await else {
        panic!("the session must be bound")
    };
    assert_eq!((&session.id, &session.tenant_id), (&new.id, &new.tenant_id));
    assert_eq!(session.expires_at, session.created_at.plus(session.ttl.get()));
    (*session, already)
}

async fn live_sessions(store: &impl Store, tenant: &TenantId) -> BTreeSet<SessionId> {
    let size = PageSize::from_request(2).unwrap();
    let (mut listed, mut after) = (BTreeSet::new(), None);
    loop {
        let request = PageRequest { size, after: after.take() };
        let page = store.list_sessions(call(Lane::Sessions), tenant, &request).await.unwrap();
        listed.extend(page.items.into_iter().map(|session| session.id));
        match page.next {
            Some(next) => after = Some(next),
            None => return listed,
        }
    }
}

pub(super) async fn check_sessions(store: &impl Store) {
    check_binding(store).await;
    check_session_limits(store).await;
    check_endings(store).await;
}

async fn check_binding(store: &impl Store) {
    let (tenant, key) = tenant_with_key(store).await;
    let (_, foreign) = tenant_with_key(store).await;
    let new = new_session(&key, SessionExpiry::Fixed);
    let id = new.id.clone();
    let before = store.lookup_sessions(call(Lane::Unknown), std::slice::from_ref(&id)).await.unwrap();
    assert_eq!(before.records, [Ok(None)]);
    let (session, already) = bind_expecting_success(store, &new).await;
    assert!(!already);
    // A repeat, as after a lost response, recognizes its own binding.
    assert_eq!(bind_expecting_success(store, &new).await, (session.clone(), false));
    let changed_request = NewSession { attributes: Attributes::default(), ..clone_session(&new) };
    assert_eq!(
        bind_expecting_success(store, &changed_request).await,
        (session.clone(), true),
        "the binding is unchanged"
    );

    let of_foreign = |new: &NewSession| NewSession {
        tenant_id: foreign.tenant_id.clone(),
        key_id: foreign.id.clone(),
        ..clone_session(new)
    };
    assert_eq!(bind(store, &of_foreign(&new)).await, StoredBinding::HeldByAnotherTenant);
    let over = already_expired_session(&key);
    assert!(!bind_expecting_success(store, &over).await.1);
    assert_eq!(
        bind(store, &of_foreign(&over)).await,
        StoredBinding::HeldByAnotherTenant,
        "not even after its expiry"
    );
    assert!(
        !bind_expecting_success(store, &clone_session(&over)).await.1,
        "its own tenant may bind it again"
    );

    let unknown_id = SessionId::parse(&format!("{}x", id.as_str())).unwrap();
    let wanted = [unknown_id.clone(), id.clone(), id.clone()];
    let found = store.lookup_sessions(call(Lane::Unknown), &wanted).await.unwrap();
    assert!(found.revision > before.revision, "a binding must appear in the change log");
    let record = found.records[1].clone().unwrap().unwrap();
    assert_eq!(found.records, [Ok(None), Ok(Some(record.clone())), Ok(Some(record.clone()))]);
    assert_eq!((&*record.session, record.unbound), (&session, false));
    assert_eq!((&record.key.key_id.unpack(), &*record.key.scopes), (&key.id, &key.scopes));
    assert_eq!(record.key.tenant.status, TenantStatus::Active);

    // A session reflects the state of its key and its tenant.
    let reason = Reason::parse("test").unwrap();
    store.revoke_key(call(Lane::Admin), &key.id, &reason, &change()).await.unwrap();
    store
        .set_tenant_status(call(Lane::Admin), &tenant, TenantStatus::Suspended, Some(&reason), &change())
        .await
        .unwrap();
    let found = store.lookup_sessions(call(Lane::Known), &[id]).await.unwrap();
    let record = found.records[0].clone().unwrap().unwrap();
    assert_eq!(record.key.revoked_at.get(), Some(NOW));
    assert_eq!(record.key.tenant.status, TenantStatus::Suspended);

    // Its tenant may bind the session again with another key, because the first key is gone.
    let second = new_key(&tenant, &[], None);
    store.insert_key(call(Lane::Admin), &second, None, &change()).await.unwrap();
    let taken_over = NewSession { key_id: second.id.clone(), ..clone_session(&new) };
    let (session, already) = bind_expecting_success(store, &taken_over).await;
    assert_eq!((session.key_id, already), (second.id, false));
}

async fn check_session_limits(store: &impl Store) {
    let (tenant, key) = tenant_with_key(store).await;
    let [over, second, third, fourth] = [
        already_expired_session(&key),
        new_session(&key, SessionExpiry::Fixed),
        new_session(&key, SessionExpiry::Fixed),
        already_expired_session(&key),
    ]
    .map(|new| NewSession { max_sessions: 2, ..new });
    for new in [&over, &second] {
        assert!(!bind_expecting_success(store, new).await.1);
    }
    // An expired session frees its slot.
    assert!(!bind_expecting_success(store, &third).await.1);
    assert_eq!(bind(store, &fourth).await, StoredBinding::TooMany);
    assert!(
        bind_expecting_success(store, &clone_session(&second)).await.1,
        "a bound session needs no free slot"
    );
    assert_eq!(live_sessions(store, &tenant).await, BTreeSet::from([second.id.clone(), third.id.clone()]));
    assert!(store.unbind_session(call(Lane::Sessions), &second.id, &tenant, None).await.unwrap().outcome);
    assert!(!bind_expecting_success(store, &fourth).await.1);

    // Orphaned sessions of an ended key free their slots too, regardless of the sessions' own expiry.
    let spare = new_key(&tenant, &[], None);
    store.insert_key(call(Lane::Admin), &spare, None, &change()).await.unwrap();
    let reason = Reason::parse("leaked").unwrap();
    store.revoke_key(call(Lane::Admin), &key.id, &reason, &change()).await.unwrap();
    assert_eq!(live_sessions(store, &tenant).await, BTreeSet::new(), "the session is not listed");
    let anew: Vec<_> =
        (0..3).map(|_| NewSession { max_sessions: 2, ..new_session(&spare, SessionExpiry::Fixed) }).collect();
    for new in &anew[..2] {
        assert!(!bind_expecting_success(store, new).await.1);
    }
    assert_eq!(bind(store, &anew[2]).await, StoredBinding::TooMany);
    let kept = BTreeSet::from([anew[0].id.clone(), anew[1].id.clone()]);
    assert_eq!(live_sessions(store, &tenant).await, kept);
    sweep_all_ended(store).await;
    assert_eq!(live_sessions(store, &tenant).await, kept, "sessions of live keys are kept");
}

/// Deletes orphaned sessions page by page. Returns how many were deleted.
async fn sweep_all_ended(store: &impl Store) -> u64 {
    let (mut swept, mut after) = (0, None);
    loop {
        let page = store.sweep_orphaned_sessions(call(Lane::Maintenance), after.as_ref(), Duration::ZERO, 2);
        let page = page.await.unwrap();
        swept += page.deleted;
        match page.last_opener {
            // The same keys may have more sessions.
            _ if page.deleted >= 2 => {}
            Some(last) => after = Some(last),
            None => return swept,
        }
    }
}

async fn check_endings(store: &impl Store) {
    let (tenant, key) = tenant_with_key(store).await;
    let fixed = new_session(&key, SessionExpiry::Fixed);
    let sliding = new_session(&key, SessionExpiry::Sliding);
    let gone = new_session(&key, SessionExpiry::Fixed);
    let over = already_expired_session(&key);
    let mut ends = Vec::new();
    for new in [&fixed, &sliding, &gone, &over] {
        ends.push(bind_expecting_success(store, new).await.0.expires_at);
    }
    let unbind = |id: SessionId, tenant: TenantId| async move {
        store.unbind_session(call(Lane::Sessions), &id, &tenant, None).await.unwrap().outcome
    };
    let other_tenant = TenantId::generate();
    assert!(!unbind(gone.id.clone(), other_tenant).await, "the session belongs to another tenant");
    assert!(unbind(gone.id.clone(), tenant.clone()).await);
    assert!(!unbind(gone.id.clone(), tenant.clone()).await);

    let lookup =
        |ids: Vec<SessionId>| async move { store.lookup_sessions(call(Lane::Known), &ids).await.unwrap() };
    let before = lookup(vec![sliding.id.clone()]).await;
    let uses = [&fixed, &sliding, &gone].map(|new| (new.id.clone(), Duration::ZERO));
    for _ in 0..2 {
        store.extend_sessions(call(Lane::Maintenance), &uses).await.unwrap();
    }
    let now = lookup(vec![sliding.id.clone()]).await.records[0].clone().unwrap().unwrap().session.expires_at;
    assert!(now >= ends[1]);
    let earlier = [(sliding.id.clone(), Duration::from_secs(30))];
    store.extend_sessions(call(Lane::Maintenance), &earlier).await.unwrap();
    let after = lookup(vec![fixed.id.clone(), sliding.id.clone(), gone.id.clone()]).await;
    assert_eq!(after.revision, before.revision, "an extended expiry is not a change");
    let slid: Vec<_> =
        after.records.into_iter().map(|found| Some(found.unwrap()?.session.expires_at)).collect();
    assert_eq!(slid, [Some(ends[0]), Some(now), None], "the expiry never moves back");

    assert_eq!(live_sessions(store, &tenant).await, BTreeSet::from([fixed.id.clone(), sliding.id.clone()]));
    // On a shared database, sessions of other tests may be due too. A session is deleted one millisecond
    // after its expiry.
    while lookup(vec![over.id.clone()]).await.records != [Ok(None)] {
        store.sweep_expired_sessions(call(Lane::Maintenance), Duration::ZERO, 2).await.unwrap();
    }
    let left = lookup(vec![fixed.id.clone(), sliding.id.clone()]).await.records;
    assert!(left.iter().all(|record| *record != Ok(None)), "live sessions are kept");
}
