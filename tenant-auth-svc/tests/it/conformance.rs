//! One test suite for every engine and every decorator of the database client.

mod import;
mod last_used;
mod limits;
mod one_key;
mod peppers;
mod sessions;
mod usage;

use std::{collections::BTreeSet, panic::AssertUnwindSafe, sync::Arc, time::Duration};

use futures::FutureExt as _;
use tenant_auth_svc::{
    database::{
        client::{
            breaker::Breaker,
            bulkhead::{Bulkhead, LaneLimits},
            observer::Observing,
            retry::Retrying,
            write_queue::WriteQueue,
        },
        engine::{Engine, Statement},
        migrate,
        sql::SqlStore,
    },
    domain::{
        audit::AuditFilter,
        clock::{SharedClock, SystemClock, UnixMillis},
        id::{KeyId, TenantId},
        key::{KeyToImport, Peppers, Rotation, RotationOutcome, SuccessorExpiry},
        page::{PageRequest, PageSize},
        store::{Change, Committed, Lane, LaneTimeouts, Store},
        tenant::{CreatedTenant, TenantStatus},
        text::{PrefixHint, Reason},
    },
};

use crate::harness::{
    NOW, TestDatabase, backend, call, change,
    former_schema::{KilledEngine, database_at},
    records::{audit_actions, new_key, new_tenant, random_hash, to_import},
    turso::TursoEngine,
};

#[tokio::test]
async fn every_database_engine_conforms() {
    for database in TestDatabase::all().await {
        run_suite(&database, "bare", Arc::new(backend(&database))).await;
    }
}

#[tokio::test]
async fn every_client_decorator_conforms() {
    let timeouts = LaneTimeouts { attempt: Duration::from_secs(2), total: Duration::from_secs(5) };
    for database in [TestDatabase::embedded(), TestDatabase::test_server().await] {
        let engine = Arc::new(backend(&database));
        run_suite(
            &database,
            "observed",
            Arc::new(Observing::new(Arc::clone(&engine), SystemClock::shared())),
        )
        .await;
        let breaker = Breaker::new(Arc::clone(&engine), SystemClock::shared());
        run_suite(&database, "breaker", Arc::new(breaker)).await;
        run_suite(&database, "retried", Arc::new(Retrying::new(Arc::clone(&engine), timeouts))).await;
        let bounded = Bulkhead::new(Arc::clone(&engine), LaneLimits::from_total(LaneLimits::MIN_TOTAL));
        run_suite(&database, "bounded", Arc::new(bounded)).await;
        let queued = WriteQueue::new(engine, Duration::from_secs(10));
        run_suite(&database, "write queue", Arc::new(queued)).await;
    }
}

#[tokio::test]
async fn service_database_client_conforms() {
    for database in TestDatabase::all().await {
        run_suite(&database, "full client stack", Arc::new(database.client())).await;
    }
}

#[tokio::test]
async fn new_engine_of_turso_conforms() {
    println!("conformance: new engine of Turso, bare");
    let engine = Arc::new(TursoEngine::open().await);
    migrate::migrate(&engine, &SystemClock::shared()).await.unwrap();
    assert_eq!(run_cases(&engine, false).await, BTreeSet::new());
}

/// Replicas keep working while another one replaces the tables without a rowid.
#[tokio::test]
async fn schema_between_transactions_of_a_migration_conforms() {
    let database = database_at(15).await;
    let engine = Arc::new(backend(&database));
    let migrating = KilledEngine::new(Arc::clone(&engine));
    for transactions in 0.. {
        println!("conformance: {}, after {transactions} transactions of the migration", database.name());
        assert_eq!(run_cases(&engine, false).await, BTreeSet::new());
        migrating.kill_after(usize::MAX);
        if migrate::migrate(&migrating, &SystemClock::shared()).await.is_ok() {
            assert!(transactions >= 2, "{transactions}");
            break;
        }
    }
    assert_eq!(run_cases(&engine, false).await, BTreeSet::new());
}

async fn run_suite<E: Engine>(database: &TestDatabase, what: &str, engine: Arc<E>) {
    println!("conformance: {}, {what}", database.name());
    let clock: SharedClock = SystemClock::shared();
    migrate::migrate(&engine, &clock).await.unwrap();
    assert_eq!(run_cases(&engine, database.is_shared()).await, BTreeSet::new());
}

/// Returns the names of the cases that failed.
async fn run_cases<E: Engine>(engine: &Arc<E>, is_shared: bool) -> BTreeSet<&'static str> {
    let mut failed = BTreeSet::new();
    let mut configured = vec![Peppers::default()];
    // Keys under a pepper would prevent services of other tests, which have no pepper, from starting on the
    // same database.
    if !is_shared {
        configured.push(Peppers::parse(peppers::PEPPERS).unwrap());
    }
    for peppers in configured {
        let peppers = Arc::new(peppers);
        let store = SqlStore::new(Arc::clone(engine), Arc::clone(&peppers));
        run_case(&mut failed, "last used", last_used::check_last_used(&store, &peppers)).await;
        run_case(&mut failed, "sessions", sessions::check_sessions(&store)).await;
        run_case(&mut failed, "tenants", check_tenants(&store)).await;
        run_case(&mut failed, "keys", check_keys(&store)).await;
        run_case(&mut failed, "rotation", check_rotation(&store)).await;
        run_case(&mut failed, "import", import::check_import(&store)).await;
        run_case(&mut failed, "pages", check_pages(&store)).await;
        run_case(&mut failed, "one key", one_key::check_key_queries(&store)).await;
        run_case(&mut failed, "usage", usage::check_usage(&store)).await;
        run_case(&mut failed, "limits", limits::check_limits(engine, &store)).await;
    }
    // This check runs last and leaves no live key behind: stores without these peppers could not look the
    // keys up.
    if !is_shared {
        run_case(&mut failed, "peppers", peppers::check_rotation(engine)).await;
        let end = Statement::new("UPDATE api_keys SET revoked_at = 1 WHERE pepper_id IS NOT NULL");
        engine.transaction(call(Lane::Admin), vec![end]).await.unwrap();
    }
    failed
}

async fn run_case(failed: &mut BTreeSet<&'static str>, name: &'static str, case: impl Future<Output = ()>) {
    if AssertUnwindSafe(case).catch_unwind().await.is_err() {
        failed.insert(name);
    }
}

async fn check_tenants(store: &impl Store) {
    let new = new_tenant();
    let creation = change();
    let Committed { outcome: CreatedTenant { tenant: created, is_new }, .. } =
        store.create_tenant(call(Lane::Admin), &new, &creation).await.unwrap();
    assert!(is_new);
    assert_eq!((&created.name, created.status, created.created_at), (&new.name, TenantStatus::Active, NOW));
    // A second run after a lost response gives the same result and one audit entry.
    let again = store.create_tenant(call(Lane::Admin), &new, &creation).await.unwrap().outcome;
    assert_eq!(again, CreatedTenant { tenant: created.clone(), is_new: true });
    let later = Change { at: UnixMillis(NOW.0 + 1), ..change() };
    let other = store.create_tenant(call(Lane::Admin), &new, &later).await.unwrap().outcome;
    assert_eq!(other, CreatedTenant { tenant: created.clone(), is_new: false });
    assert_eq!(store.get_tenant(call(Lane::Admin), &new.id).await.unwrap(), Some(created));
    assert_eq!(audit_actions(store, &new.id).await, ["tenant.create"]);

    let reason = Reason::parse("unpaid; DROP TABLE tenants; --'\"").unwrap();
    let suspend = TenantStatus::Suspended;
    for _ in 0..2 {
        let tenant = store
            .set_tenant_status(call(Lane::Admin), &new.id, suspend, Some(&reason), &change())
            .await
            .unwrap()
            .outcome
            .unwrap();
        assert_eq!((tenant.status, tenant.suspend_reason.as_str()), (suspend, reason.as_str()));
    }
    let resumed = store
        .set_tenant_status(call(Lane::Admin), &new.id, TenantStatus::Active, None, &change())
        .await
        .unwrap()
        .outcome
        .unwrap();
    assert_eq!((resumed.status, resumed.suspend_reason.as_str()), (TenantStatus::Active, ""));
    assert_eq!(audit_actions(store, &new.id).await, ["tenant.resume", "tenant.suspend", "tenant.create"]);

    let unknown = TenantId::generate();
    assert_eq!(store.get_tenant(call(Lane::Admin), &unknown).await.unwrap(), None);
    let outcome =
        store.set_tenant_status(call(Lane::Admin), &unknown, suspend, Some(&reason), &change()).await;
    assert_eq!(outcome.unwrap().outcome, None);
}

async fn check_keys(store: &impl Store) {
    let tenant =
        store.create_tenant(call(Lane::Admin), &new_tenant(), &change()).await.unwrap().outcome.tenant;
    let key = new_key(&tenant.id, &["b", "a"], Some(UnixMillis(NOW.0 + 5)));
    let unknown_hash = random_hash();
    let before = store.lookup_keys(call(Lane::Unknown), &[key.hash]).await.unwrap();
    assert_eq!(before.records, [Ok(None)]);

    let inserted = store.insert_key(call(Lane::Admin), &key, None, &change()).await.unwrap();
    assert_eq!(
        store.insert_key(call(Lane::Admin), &key, None, &change()).await.unwrap().outcome,
        inserted.outcome
    );
    let (stored, written) = inserted.outcome.unwrap();
    assert_eq!((&stored.id, &stored.scopes, stored.created_at), (&key.id, &key.scopes, NOW));

    // The results are in order, missing keys keep their index, and one key occurs twice.
    let found = store
        .lookup_keys(call(Lane::Unknown), &[unknown_hash, key.hash, unknown_hash, key.hash])
        .await
        .unwrap();
    assert!(found.revision > before.revision, "a stored key must appear in the change log");
    let record = found.records[1].clone().unwrap().unwrap();
    assert_eq!(written, record, "a write returns what a lookup finds");
    assert!(inserted.revision > before.revision && inserted.revision <= found.revision);
    assert_eq!(found.records, [Ok(None), Ok(Some(record.clone())), Ok(None), Ok(Some(record.clone()))]);
    assert_eq!((&record.key_id.unpack(), &record.tenant.id), (&key.id, &tenant.id));
    assert_eq!((&*record.tenant.name, &*record.tenant.plan), ("Müller & Söhne", "pro"));
    assert_eq!((record.expires_at.get(), record.revoked_at.get()), (key.expires_at, None));
    assert_eq!(*record.scopes, key.scopes);

    let (first, second) = (Reason::parse("leaked").unwrap(), Reason::parse("again").unwrap());
    for reason in [&first, &second] {
        let revoked = store.revoke_key(call(Lane::Admin), &key.id, reason, &change()).await.unwrap();
        let revoked = revoked.outcome.unwrap();
        assert_eq!((revoked.revoked_at, revoked.revoke_reason.as_str()), (Some(NOW), "leaked"));
    }
    let after = store.lookup_keys(call(Lane::Unknown), &[key.hash]).await.unwrap();
    assert_eq!(after.records[0].clone().unwrap().unwrap().revoked_at.get(), Some(NOW));
    assert!(after.revision > found.revision, "a revocation must appear in the change log");
    assert_eq!(audit_actions(store, &tenant.id).await, ["key.revoke", "key.issue", "tenant.create"]);

    let homeless = new_key(&TenantId::generate(), &[], None);
    assert_eq!(store.insert_key(call(Lane::Admin), &homeless, None, &change()).await.unwrap().outcome, None);
    let outcome = store.revoke_key(call(Lane::Admin), &KeyId::generate(), &first, &change()).await;
    assert_eq!(outcome.unwrap().outcome, None);
}

async fn check_rotation(store: &impl Store) {
    let tenant =
        store.create_tenant(call(Lane::Admin), &new_tenant(), &change()).await.unwrap().outcome.tenant;
    let old = new_key(&tenant.id, &["a"], None);
    store.insert_key(call(Lane::Admin), &old, None, &change()).await.unwrap();
    let rotate = |old: &KeyId| Rotation {
        old: old.clone(),
        overlap: Duration::from_secs(60),
        id: KeyId::generate(),
        hash: random_hash(),
        prefix_hint: PrefixHint::parse("ta_1234").unwrap(),
        expires_at: SuccessorExpiry::Never,
        reason: None,
    };
    let rotation = rotate(&old.id);
    let mut old_ends_at = None;
    // Runs twice, as after a lost response.
    for _ in 0..2 {
        match store.rotate_key(call(Lane::Admin), &rotation, &change()).await.unwrap().outcome {
            RotationOutcome::Done { new, old: ended, record } => {
                assert_eq!((&record.key_id.unpack(), &*record.scopes), (&rotation.id, &old.scopes));
                assert_eq!((&new.id, &new.tenant_id, &new.scopes), (&rotation.id, &tenant.id, &old.scopes));
                let ends_at = ended.expires_at.unwrap();
                assert_eq!(*old_ends_at.get_or_insert(ends_at), ends_at, "the first run sets the time");
                assert_eq!(ended.replaced_by.as_ref(), Some(&rotation.id));
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(audit_actions(store, &tenant.id).await, ["key.rotate", "key.issue", "tenant.create"]);
    let found = store.lookup_keys(call(Lane::Unknown), &[old.hash, rotation.hash]).await.unwrap();
    assert_eq!(found.records.iter().flatten().flatten().count(), 2, "both keys are valid during the overlap");

    let refused = store.rotate_key(call(Lane::Admin), &rotate(&old.id), &change()).await.unwrap().outcome;
    assert!(matches!(refused, RotationOutcome::Refused(_)), "{refused:?}");
    let unknown =
        store.rotate_key(call(Lane::Admin), &rotate(&KeyId::generate()), &change()).await.unwrap().outcome;
    assert_eq!(unknown, RotationOutcome::NoSuchKey);
    let reason = Reason::parse("gone").unwrap();
    store.revoke_key(call(Lane::Admin), &rotation.id, &reason, &change()).await.unwrap();
    let refused =
        store.rotate_key(call(Lane::Admin), &rotate(&rotation.id), &change()).await.unwrap().outcome;
    assert!(matches!(refused, RotationOutcome::Refused(_)), "{refused:?}");
}

async fn check_pages(store: &impl Store) {
    let tenant =
        store.create_tenant(call(Lane::Admin), &new_tenant(), &change()).await.unwrap().outcome.tenant;
    let mut keys: Vec<KeyToImport> = (0..7).map(|_| to_import(new_key(&tenant.id, &[], None))).collect();
    keys[6].key.expires_at = Some(NOW);
    store.import_keys(call(Lane::Admin), &keys, &change()).await.unwrap();
    let mut ids: Vec<_> = keys.iter().map(|import| import.key.id.clone()).collect();
    let expired = ids[6].clone();
    ids.sort();

    let size = PageSize::from_request(3).unwrap();
    let mut listed = Vec::new();
    let mut after = None;
    loop {
        let request = PageRequest { size, after: after.take() };
        let page = store.list_keys(call(Lane::Admin), &tenant.id, &request, None).await.unwrap();
        assert!(page.items.len() <= 3);
        listed.extend(page.items.into_iter().map(|key| key.id));
        match page.next {
            Some(next) => after = Some(next),
            None => break,
        }
    }
    assert_eq!(listed, ids);
    let all = PageRequest { size: PageSize::MAX, after: None };
    let live = store.list_keys(call(Lane::Admin), &tenant.id, &all, Some(NOW)).await.unwrap();
    assert!(live.items.len() == 6 && live.items.iter().all(|key| key.id != expired));
    let unknown = store.list_keys(call(Lane::Admin), &TenantId::generate(), &all, None).await.unwrap();
    assert_eq!((unknown.items.len(), unknown.next), (0, None));

    let request = PageRequest { size: PageSize::MAX, after: Some(tenant.id.clone()) };
    let tenants = store.list_tenants(call(Lane::Admin), &request).await.unwrap();
    assert!(tenants.items.iter().all(|listed| listed.id > tenant.id));
    let filter = AuditFilter { tenant: Some(tenant.id.clone()), ..AuditFilter::default() };
    let two = PageRequest { size: PageSize::from_request(2).unwrap(), after: None };
    let newest = store.list_audit(call(Lane::Admin), &filter, &two).await.unwrap();
    assert!(newest.items[0].seq > newest.items[1].seq && newest.next.unwrap().seq == newest.items[1].seq);
    assert_eq!(newest.items[0].request_id, "req-1");
}
