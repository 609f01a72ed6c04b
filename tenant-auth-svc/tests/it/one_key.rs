//! Inspection of one key by an operator: its state, and the entry that each replica has cached.

use std::time::Duration;

use tenant_auth_proto::v1::{self, LookupState, Source, Verdict};
use tenant_auth_svc::domain::{
    clock::{ManualClock, SystemClock},
    key::{KeyHash, PresentedKey},
};
use tenant_auth_testkit::Fault;
use tonic::Code;

use crate::harness::{NOW, TestDatabase, TestService, replicas::Replicas, unknown_key};

async fn get_key(service: &TestService, key_id: &str) -> v1::GetKeyResponse {
    let request = v1::GetKeyRequest { key_id: key_id.to_owned() };
    service.admin().get_key(request).await.unwrap().into_inner()
}

async fn inspect_key(service: &TestService, key_id: &str) -> v1::InspectKeyResponse {
    let request = v1::InspectKeyRequest { key_id: key_id.to_owned() };
    service.admin().inspect_key(request).await.unwrap().into_inner()
}

/// Returns what a replica has cached: verdict, source, and the position that the entry reflects.
async fn held_answer(service: &TestService, key_id: &str) -> Option<(Verdict, Source, i64)> {
    inspect_key(service, key_id)
        .await
        .cached
        .map(|cached| (cached.verdict(), cached.source(), cached.revision))
}

#[tokio::test]
async fn get_key_shows_current_denial_reason() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let mut admin = service.admin();
        let tenant = service.create_tenant("Acme").await;
        let (plaintext, id) = service.issue_key(&tenant, &["a"]).await;
        let valid = get_key(&service, &id).await;
        assert_eq!((valid.verdict(), valid.on_deny_list), (Verdict::Valid, false));
        let key = valid.key.unwrap();
        assert_eq!((&*key.tenant_id, &*key.name, &*key.scopes), (&*tenant, "test", &["a".to_owned()][..]));
        assert!(plaintext.starts_with(&key.prefix_hint));
        assert_eq!(valid.tenant.unwrap().name, "Acme");

        let suspend = v1::SuspendTenantRequest { tenant_id: tenant.clone(), reason: "unpaid".to_owned() };
        admin.suspend_tenant(suspend).await.unwrap();
        let suspended = get_key(&service, &id).await;
        assert_eq!(suspended.verdict(), Verdict::TenantSuspended);
        assert_eq!(suspended.tenant.unwrap().suspend_reason, "unpaid");
        service.revoke_key(&id).await;
        let revoked = get_key(&service, &id).await;
        assert_eq!((revoked.verdict(), &*revoked.key.unwrap().revoke_reason), (Verdict::Revoked, "test"));
        let unknown = v1::GetKeyRequest { key_id: "key_nobody".to_owned() };
        assert_eq!(admin.get_key(unknown).await.unwrap_err().code(), Code::NotFound);
    }
}

#[tokio::test]
async fn get_key_shows_deny_list_entry() {
    let (database, folder) = (TestDatabase::test_server().await, tempfile::tempdir().unwrap());
    let path = folder.path().join("denied");
    std::fs::write(&path, "").unwrap();
    let settings = database.settings().with_flag("TENANT_AUTH_DENY_FILE", Some(path.display().to_string()));
    let service = TestService::start_with(settings, SystemClock::shared()).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, id) = service.issue_key(&tenant, &[]).await;
    service.validate(&key).await.unwrap();
    let hash = hex::encode(KeyHash::of(&PresentedKey::new(key.clone())).as_bytes());
    for (line, verdict) in [
        (id.clone(), Verdict::Revoked),
        (format!("sha256:{hash}"), Verdict::Revoked),
        (format!("tenant:{tenant}"), Verdict::TenantSuspended),
    ] {
        std::fs::write(&path, &line).unwrap();
        service.running.reloader()();
        let answered = service.validate(&key).await.unwrap().verdict();
        let state = get_key(&service, &id).await;
        let inspected = inspect_key(&service, &id).await;
        let of_memory = inspected.cached.as_ref().unwrap().verdict();
        assert_eq!((answered, state.verdict(), of_memory), (verdict, verdict, verdict), "{line}");
        assert!(state.on_deny_list, "{line}");
        assert_eq!(
            inspected.on_deny_list,
            verdict == Verdict::Revoked,
            "{line}: the entry names the key itself"
        );
    }
}

/// Shows where a key is not yet revoked.
#[tokio::test]
async fn inspect_key_shows_missed_revocation() {
    let replicas = Replicas::start().await;
    let (key, id) = replicas.first.issue_key(&replicas.tenant, &[]).await;
    replicas.poll_second().await;
    assert_eq!(held_answer(&replicas.second, &id).await, None, "inspection loads nothing");
    for replica in [&replicas.first, &replicas.second] {
        assert_eq!(replica.validate(&key).await.unwrap().verdict(), Verdict::Valid);
    }
    let (verdict, source, before) = held_answer(&replicas.second, &id).await.unwrap();
    assert_eq!((verdict, source), (Verdict::Valid, Source::Fresh));

    replicas.first.revoke_key(&id).await;
    assert_eq!(held_answer(&replicas.first, &id).await.unwrap().0, Verdict::Revoked);
    assert_eq!(held_answer(&replicas.second, &id).await, Some((Verdict::Valid, Source::Fresh, before)));
    let silent = inspect_key(&replicas.second, &id).await;
    assert_eq!(
        silent.last_change.unwrap().revoked_at,
        None,
        "the replica knows the key, but not its revocation"
    );
    replicas.poll_second().await;
    let inspected_key = inspect_key(&replicas.second, &id).await;
    assert_eq!(inspected_key.cached.as_ref().unwrap().verdict(), Verdict::Revoked);
    assert!(inspected_key.cached.unwrap().revoked_at.is_some());
    let last_change = inspected_key.last_change.unwrap();
    assert!(
        last_change.revoked_at.is_some()
            && last_change.revision > before
            && last_change.revision <= inspected_key.revision
    );
    assert!(inspected_key.revision > silent.revision);
}

#[tokio::test]
async fn inspect_key_reads_no_database_and_changes_nothing() {
    let replicas = Replicas::start().await;
    let (key, id) = replicas.first.issue_key(&replicas.tenant, &[]).await;
    replicas.poll_second().await;
    replicas.validate_on_second(&key).await;
    replicas.clock.advance(Duration::from_secs(7));
    replicas.poll_second().await;
    let requests_before = replicas.database.caller_requests();
    for _ in 0..3 {
        let inspected = inspect_key(&replicas.second, &id).await;
        assert_eq!(inspected.lookups(), LookupState::Healthy);
        let cached = inspected.cached.unwrap();
        assert_eq!((cached.verdict(), cached.source()), (Verdict::Valid, Source::Refreshing));
        assert_eq!(cached.age.unwrap().seconds, 7);
        assert_eq!(cached_for_unknown_key(&replicas.second).await, None);
    }
    assert_eq!(replicas.database.caller_requests(), requests_before);
    // The next request that uses the key claims the reload.
    assert_eq!(replicas.validate_on_second(&key).await, (Verdict::Valid, Source::Refreshing));
    let reloaded = async {
        while held_answer(&replicas.second, &id).await.unwrap().1 != Source::Fresh {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), reloaded).await.expect("the reload must complete");
    assert_eq!(replicas.database.caller_requests(), requests_before + 1);
}

async fn cached_for_unknown_key(service: &TestService) -> Option<v1::CachedKey> {
    inspect_key(service, "key_nobody").await.cached
}

#[tokio::test]
async fn inspect_key_works_in_outage() {
    let replicas = Replicas::start().await;
    let (key, id) = replicas.first.issue_key(&replicas.tenant, &[]).await;
    replicas.poll_second().await;
    replicas.validate_on_second(&key).await;
    replicas.database.server().faults().set(Fault::ResetBeforeExecute);
    for _ in 0..30 {
        replicas.second.validate(&unknown_key()).await.unwrap_err();
    }
    replicas.clock.advance(Duration::from_secs(3_600));
    let inspected = inspect_key(&replicas.second, &id).await;
    assert_eq!(inspected.lookups(), LookupState::BreakerOpen);
    let cached = inspected.cached.unwrap();
    assert_eq!((cached.verdict(), cached.source()), (Verdict::Valid, Source::Stale));
    let get = v1::GetKeyRequest { key_id: id };
    assert_eq!(replicas.second.admin().get_key(get).await.unwrap_err().code(), Code::Unavailable);
}

/// A key that was preloaded at startup is cached, too.
#[tokio::test]
async fn inspect_key_shows_preloaded_key() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let first = TestService::start_at(&database, &clock).await;
    let tenant = first.create_tenant("Acme").await;
    let (_, id) = first.issue_key(&tenant, &[]).await;
    let used = format!("UPDATE api_keys SET last_used_at = {}", NOW.0);
    database.server().execute(&used).unwrap();
    let second = TestService::start_at(&database, &clock).await;
    let cached = inspect_key(&second, &id).await.cached.unwrap();
    assert_eq!((cached.verdict(), cached.preloaded), (Verdict::Valid, true));
}

#[tokio::test]
async fn keys_are_found_by_prefix() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let mut ids = Vec::new();
    for name in ["One", "Two"] {
        let tenant = service.create_tenant(name).await;
        ids.push((tenant.clone(), service.issue_key(&tenant, &[]).await));
    }
    for (tenant, (key, id)) in &ids {
        for length in [6, 12, 24] {
            let list = v1::ListKeysRequest { prefix: key[..length].to_owned(), ..Default::default() };
            let found = service.admin().list_keys(list.clone()).await.unwrap().into_inner().keys;
            assert!(found.iter().any(|key| (&key.key_id, &key.tenant_id) == (id, tenant)), "{length}");
            let unknown = v1::ListKeysRequest { tenant_id: "ten_nobody".to_owned(), ..list };
            assert_eq!(service.admin().list_keys(unknown).await.unwrap_err().code(), Code::NotFound);
        }
    }
    let all = v1::ListKeysRequest { prefix: ids[0].1.0[..3].to_owned(), page_size: 1, ..Default::default() };
    let first = service.admin().list_keys(all.clone()).await.unwrap().into_inner();
    let rest = v1::ListKeysRequest { page_token: first.next_page_token.clone(), ..all.clone() };
    let rest = service.admin().list_keys(rest).await.unwrap().into_inner();
    assert_ne!(first.keys[0].key_id, rest.keys[0].key_id);
    assert!(rest.next_page_token.is_empty());
    // A page token of one order is invalid for another.
    let page_token = first.next_page_token;
    let by_id = v1::ListKeysRequest { tenant_id: ids[0].0.clone(), page_token, ..Default::default() };
    let by_name = v1::ListKeysRequest { name_prefix: "t".to_owned(), ..by_id.clone() };
    for mixed in [by_id, by_name] {
        assert_eq!(service.admin().list_keys(mixed).await.unwrap_err().code(), Code::InvalidArgument);
    }
}

#[tokio::test]
async fn tenants_and_keys_are_found_by_the_beginning_of_their_names() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let mut tenants = Vec::new();
    for name in ["Zoo one", "Zoo two", "ZOO three", "Zo"] {
        let tenant = service.create_tenant(name).await;
        service.issue_key(&tenant, &[]).await;
        tenants.push(tenant);
    }
    let mut list =
        v1::ListTenantsRequest { name_prefix: "zoo".to_owned(), page_size: 2, ..Default::default() };
    let mut found = Vec::new();
    loop {
        let page = service.admin().list_tenants(list.clone()).await.unwrap().into_inner();
        found.extend(page.tenants.into_iter().map(|tenant| tenant.tenant_id));
        list.page_token = page.next_page_token;
        if list.page_token.is_empty() {
            break;
        }
    }
    assert_eq!(found, [&*tenants[0], &tenants[2], &tenants[1]], "by name");
    let keys = async |tenant: &str, name: &str| {
        let (tenant_id, name_prefix) = (tenant.to_owned(), name.to_owned());
        let list = v1::ListKeysRequest { tenant_id, name_prefix, ..Default::default() };
        service.admin().list_keys(list).await.map(|keys| keys.into_inner().keys)
    };
    let found = keys("", "TES").await.unwrap();
    assert!(tenants.iter().all(|tenant| found.iter().any(|key| key.tenant_id == *tenant)));
    assert_eq!(keys(&tenants[1], "test").await.unwrap().len(), 1);
    assert_eq!(keys(&tenants[1], "tests").await.unwrap().len(), 0);
    assert_eq!(keys("ten_nobody", "test").await.unwrap_err().code(), Code::NotFound);
}
