//! Sessions: bound once, moved never, ended, slid, swept.

use std::time::Duration;

use tenant_auth_svc::domain::{
    clock::UnixMillis,
    id::TenantId,
    key::NewKey,
    page::{PageRequest, PageSize},
    session::{Attributes, Binding, Expiry, NewSession, Session, SessionId, Ttl},
    store::{Lane, Store},
    tenant::TenantStatus,
    text::Reason,
};

use super::make::{new_key, new_tenant, random_hash};
use crate::harness::{NOW, call, change};

const MINUTE: i64 = 60_000;

fn at(millis: i64) -> UnixMillis {
    UnixMillis(NOW.0 + millis)
}

fn new_session(key: &NewKey, created_at: UnixMillis, expiry: Expiry) -> NewSession {
    let ttl = Ttl::new(Duration::from_secs(60), expiry).unwrap();
    let attributes = [("user".to_owned(), "O'Brien \"x\" é".to_owned())];
    let drawn = random_hash();
    NewSession {
        session: Session {
            id: SessionId::parse(&format!("ses~{}", hex::encode(drawn.as_bytes()))).unwrap(),
            tenant_id: key.tenant_id.clone(),
            key_id: key.id.clone(),
            created_at,
            expires_at: created_at.plus(ttl.get()),
            expiry,
            ttl,
            attributes: Attributes::new(attributes).unwrap(),
        },
        bind_id: hex::encode(random_hash().as_bytes()),
        cap: 1_000,
    }
}

fn again(session: &NewSession) -> NewSession {
    NewSession { bind_id: hex::encode(random_hash().as_bytes()), ..session.clone() }
}

async fn tenant_with_key(store: &impl Store) -> (TenantId, NewKey) {
    let tenant = store.create_tenant(call(Lane::Admin), &new_tenant(), &change()).await.unwrap();
    let key = new_key(&tenant.id, &["a", "b"], None);
    store.insert_key(call(Lane::Admin), &key, &change()).await.unwrap();
    (tenant.id, key)
}

async fn bind(store: &impl Store, new: &NewSession) -> Binding {
    store.bind_session(call(Lane::Sessions), new).await.unwrap()
}

fn bound(new: &NewSession, already: bool) -> Binding {
    Binding::Bound { session: Box::new(new.session.clone()), already }
}

async fn live(store: &impl Store, tenant: &TenantId, now: UnixMillis) -> Vec<SessionId> {
    let size = PageSize::requested(2).unwrap();
    let (mut listed, mut after) = (Vec::new(), None);
    loop {
        let request = PageRequest { size, after: after.take() };
        let page = store.list_sessions(call(Lane::Sessions), tenant, now, &request).await.unwrap();
        listed.extend(page.items.into_iter().map(|session| session.id));
        match page.next {
            Some(next) => after = Some(next),
            None => return listed,
        }
    }
}

pub(super) async fn sessions(store: &impl Store) {
    binding(store).await;
    caps(store).await;
    ends(store).await;
}

async fn binding(store: &impl Store) {
    let (tenant, key) = tenant_with_key(store).await;
    let (_, foreign) = tenant_with_key(store).await;
    let new = new_session(&key, NOW, Expiry::Fixed);
    let id = new.session.id.clone();
    let before = store.lookup_sessions(call(Lane::Unknown), std::slice::from_ref(&id)).await.unwrap();
    assert_eq!(before.records, [Ok(None)]);
    // Twice, as after a lost answer: it knows its own work.
    for _ in 0..2 {
        assert_eq!(bind(store, &new).await, bound(&new, false));
    }
    let mut other_wishes = again(&new);
    other_wishes.session.created_at = at(1);
    other_wishes.session.attributes = Attributes::default();
    assert_eq!(bind(store, &other_wishes).await, bound(&new, true), "it stays as it is");

    let mut theirs = again(&new);
    (theirs.session.tenant_id, theirs.session.key_id) = (foreign.tenant_id.clone(), foreign.id.clone());
    assert_eq!(bind(store, &theirs).await, Binding::HeldByAnotherTenant);
    theirs.session.created_at = at(10 * MINUTE);
    assert_eq!(bind(store, &theirs).await, Binding::HeldByAnotherTenant, "not even when it is over");

    let nobody = SessionId::parse(&format!("{}x", id.as_str())).unwrap();
    let wanted = [nobody.clone(), id.clone(), id.clone()];
    let found = store.lookup_sessions(call(Lane::Unknown), &wanted).await.unwrap();
    assert!(found.revision > before.revision, "a binding must show in the change log");
    let record = found.records[1].clone().unwrap().unwrap();
    assert_eq!(found.records, [Ok(None), Ok(Some(record.clone())), Ok(Some(record.clone()))]);
    assert_eq!((&record.session, record.unbound), (&new.session, false));
    assert_eq!((&record.key.key_id, &record.key.scopes), (&key.id, &key.scopes));
    assert_eq!(record.key.tenant_status, TenantStatus::Active);

    // Its key and its tenant speak through it.
    let reason = Reason::parse("test").unwrap();
    store.revoke_key(call(Lane::Admin), &key.id, &reason, &change()).await.unwrap();
    store
        .set_tenant_status(call(Lane::Admin), &tenant, TenantStatus::Suspended, Some(&reason), &change())
        .await
        .unwrap();
    let found = store.lookup_sessions(call(Lane::Known), &[id]).await.unwrap();
    let record = found.records[0].clone().unwrap().unwrap();
    assert_eq!(record.key.revoked_at, Some(NOW));
    assert_eq!(record.key.tenant_status, TenantStatus::Suspended);

    // Its tenant may bind it anew with another key, now that the first one is gone.
    let second = new_key(&tenant, &[], None);
    store.insert_key(call(Lane::Admin), &second, &change()).await.unwrap();
    let mut taken_over = again(&new);
    taken_over.session.key_id = second.id.clone();
    taken_over.session.created_at = at(5);
    assert_eq!(bind(store, &taken_over).await, bound(&taken_over, false));
}

async fn caps(store: &impl Store) {
    let (tenant, key) = tenant_with_key(store).await;
    let capped = |mut new: NewSession| {
        new.cap = 2;
        new
    };
    let first = capped(new_session(&key, NOW, Expiry::Fixed));
    let second = capped(new_session(&key, at(1), Expiry::Fixed));
    let third = capped(new_session(&key, at(2), Expiry::Fixed));
    for new in [&first, &second] {
        assert_eq!(bind(store, new).await, bound(new, false));
    }
    assert_eq!(bind(store, &third).await, Binding::TooMany);
    assert_eq!(bind(store, &again(&first)).await, bound(&first, true), "what is bound needs no room");
    let ids = [second.session.id.clone(), first.session.id.clone()];
    assert_eq!(live(store, &tenant, at(2)).await, ids, "newest first");

    // What is over makes room.
    let mut later = capped(new_session(&key, at(MINUTE), Expiry::Fixed));
    assert_eq!(bind(store, &later).await, bound(&later, false));
    let mut no_room = again(&third);
    no_room.session.created_at = at(MINUTE);
    assert_eq!(bind(store, &no_room).await, Binding::TooMany);
    let ended = store.unbind_session(call(Lane::Sessions), &second.session.id, &tenant, at(2)).await;
    assert!(ended.unwrap());
    later.session.id = SessionId::parse(&format!("{}-2", later.session.id.as_str())).unwrap();
    assert_eq!(bind(store, &later).await, bound(&later, false));
}

async fn ends(store: &impl Store) {
    let (tenant, key) = tenant_with_key(store).await;
    let fixed = new_session(&key, NOW, Expiry::Fixed);
    let sliding = new_session(&key, NOW, Expiry::Sliding);
    let gone = new_session(&key, NOW, Expiry::Fixed);
    for new in [&fixed, &sliding, &gone] {
        assert_eq!(bind(store, new).await, bound(new, false));
    }
    let unbind = |id: SessionId, tenant: TenantId, now: UnixMillis| async move {
        store.unbind_session(call(Lane::Sessions), &id, &tenant, now).await.unwrap()
    };
    let stranger = TenantId::generate();
    assert!(!unbind(gone.session.id.clone(), stranger, NOW).await, "of another tenant");
    assert!(unbind(gone.session.id.clone(), tenant.clone(), NOW).await);
    assert!(!unbind(gone.session.id.clone(), tenant.clone(), NOW).await);

    let revision =
        |ids: Vec<SessionId>| async move { store.lookup_sessions(call(Lane::Known), &ids).await.unwrap() };
    let before = revision(vec![sliding.session.id.clone()]).await;
    let uses = [
        (fixed.session.id.clone(), at(30_000)),
        (sliding.session.id.clone(), at(30_000)),
        (gone.session.id.clone(), at(30_000)),
    ];
    for _ in 0..2 {
        store.slide_sessions(call(Lane::Maintenance), &uses).await.unwrap();
    }
    store.slide_sessions(call(Lane::Maintenance), &[(sliding.session.id.clone(), at(10))]).await.unwrap();
    let ids = vec![fixed.session.id.clone(), sliding.session.id.clone(), gone.session.id.clone()];
    let after = revision(ids).await;
    assert_eq!(after.revision, before.revision, "a later end is no news");
    let ends: Vec<_> =
        after.records.into_iter().map(|found| Some(found.unwrap()?.session.expires_at)).collect();
    assert_eq!(ends, [Some(at(MINUTE)), Some(at(30_000 + MINUTE)), None]);

    assert_eq!(live(store, &tenant, at(MINUTE)).await, std::slice::from_ref(&sliding.session.id));
    // On a shared database others may be due too.
    while store.sweep_sessions(call(Lane::Maintenance), at(MINUTE + 1), 2).await.unwrap() == 2 {}
    let swept = revision(vec![fixed.session.id.clone(), sliding.session.id.clone()]).await;
    assert!(swept.records[0] == Ok(None) && swept.records[1] != Ok(None));
}
