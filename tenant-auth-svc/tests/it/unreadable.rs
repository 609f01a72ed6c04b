//! Rows written past the types, with SQL: an unreadable row affects only itself.

use std::{collections::HashMap, sync::Arc, time::Duration};

use tenant_auth_proto::v1::{self, Source, Verdict};
use tenant_auth_svc::domain::clock::ManualClock;
use tenant_auth_testkit::Fault;
use tonic::Code;

use crate::harness::{NOW, TestDatabase, TestService, captured::TestLog, outcome, scrape::Scrape};

/// Scopes that are invalid.
const BAD_SCOPES: &str = r#"["Orders:Read"]"#;

fn set_scopes(database: &TestDatabase, key_id: &str, scopes: &str) {
    let sql = format!("UPDATE api_keys SET scopes = '{scopes}' WHERE id = '{key_id}'");
    assert_eq!(database.server().execute(&sql), Ok(1));
}

async fn validate_batch(service: &TestService, keys: &[(String, String)]) -> Vec<String> {
    let ask = |key: &str| v1::ValidateKeyRequest { key: key.to_owned(), ..Default::default() };
    let requests = keys.iter().map(|(key, _)| ask(key)).collect();
    let request = v1::BatchValidateKeysRequest { requests };
    let answer = service.validation().batch_validate_keys(request).await.unwrap().into_inner();
    let decided = |result: v1::BatchValidateKeysResult| match result.result.unwrap() {
        v1::batch_validate_keys_result::Result::Response(response) => {
            response.verdict().as_str_name().to_owned()
        }
        v1::batch_validate_keys_result::Result::Error(error) => format!("{:?}", Code::from(error.code)),
    };
    answer.results.into_iter().map(decided).collect()
}

#[tokio::test]
async fn unreadable_key_fails_alone_in_batch_and_is_logged_once() {
    let log = TestLog::shared();
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = TestService::start_at(&database, &clock).await;
    let tenant = service.create_tenant("Acme").await;
    let mut keys = Vec::new();
    for _ in 0..10 {
        keys.push(service.issue_key(&tenant, &[]).await);
    }
    let bad = keys[3].1.clone();
    set_scopes(&database, &bad, BAD_SCOPES);
    let expected: Vec<_> = (0..10).map(|at| if at == 3 { "Unavailable" } else { "VERDICT_VALID" }).collect();
    for _ in 0..5 {
        assert_eq!(validate_batch(&service, &keys).await, expected);
        // All cached entries have expired, so every key is loaded again.
        clock.advance(Duration::from_secs(3_600));
    }

    let scrape = Scrape::collect(&service).await;
    scrape.assert_value(r#"tenant_auth_unreadable_records_total{table="api_keys"}"#, 5.0);
    scrape.assert_value("tenant_auth_database_up{operation=\"read\"}", 1.0);
    for untouched in [
        r#"tenant_auth_database_breaker_open{circuit="lookups"}"#,
        r#"tenant_auth_database_failures_total{operation="read",kind="invalid_response"}"#,
    ] {
        assert_eq!(scrape.value(untouched), 0.0, "{untouched}");
    }
    let text = log.text();
    let lines: Vec<_> =
        text.lines().filter(|line| line.contains("cannot be read") && line.contains(&bad)).collect();
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(!lines[0].contains("Orders:Read"), "the log must not contain the stored value");
}

#[tokio::test]
async fn coalesced_lookups_have_separate_outcomes() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let (bad, bad_id) = service.issue_key(&tenant, &[]).await;
    let mut keys = vec![bad];
    for _ in 0..40 {
        keys.push(service.issue_key(&tenant, &[]).await.0);
    }
    set_scopes(&database, &bad_id, BAD_SCOPES);
    let answers = futures::future::join_all(keys.iter().map(|key| service.validate(key))).await;
    let decided: Vec<_> = answers.iter().map(outcome).collect();
    assert_eq!(decided[0], "Unavailable");
    assert!(decided[1..].iter().all(|decided| decided == "VERDICT_VALID"), "{decided:?}");
}

/// The row exists and differs from the cached one: the cached record is used for its fresh time at most.
#[tokio::test]
async fn key_become_unreadable_is_not_served_stale() {
    for is_known in [false, true] {
        let database = TestDatabase::test_server().await;
        let clock = ManualClock::at(NOW);
        let service = TestService::start_at(&database, &clock).await;
        let tenant = service.create_tenant("Acme").await;
        let (key, id) = service.issue_key(&tenant, &["orders:read"]).await;
        service.poll_feed().await;
        let good = service.validate_for(&key, &["orders:read"]).await;
        assert_eq!(outcome(&good), "VERDICT_VALID");
        set_scopes(&database, &id, BAD_SCOPES);
        if is_known {
            service.poll_feed().await;
        } else {
            clock.advance(Duration::from_secs(30));
        }
        assert_eq!(outcome(&service.validate(&key).await), "Unavailable", "known: {is_known}");
        // Nor in an outage, in which only cached records are available.
        database.server().faults().set(Fault::ResetBeforeExecute);
        assert_eq!(outcome(&service.validate(&key).await), "Unavailable", "known: {is_known}");
        database.server().faults().clear();

        set_scopes(&database, &id, r#"["orders:read"]"#);
        let repaired = service.validate_for(&key, &["orders:read"]).await.unwrap();
        assert_eq!(repaired.verdict(), Verdict::Valid, "an unreadable key is read again each time");
        assert_eq!(repaired.provenance.unwrap().source(), Source::Database);
    }
}

/// A replica that knows a revocation keeps reporting it, even if the row has become unreadable.
#[tokio::test]
async fn known_revocation_survives_unreadable_row() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = TestService::start_at(&database, &clock).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, id) = service.issue_key(&tenant, &[]).await;
    service.poll_feed().await;
    service.validate(&key).await.unwrap();
    let sql = format!("UPDATE api_keys SET expires_at = 'soon', revoked_at = 1 WHERE id = '{id}'");
    database.server().execute(&sql).unwrap();
    service.poll_feed().await;
    assert_eq!(outcome(&service.validate(&key).await), "VERDICT_REVOKED");
    assert_eq!(outcome(&service.validate(&key).await), "VERDICT_REVOKED");
}

/// How an operator handles a key that cannot be decoded.
#[tokio::test]
async fn key_with_unreadable_scopes_can_be_revoked() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, id) = service.issue_key(&tenant, &[]).await;
    set_scopes(&database, &id, BAD_SCOPES);
    assert_eq!(outcome(&service.validate(&key).await), "Unavailable");
    service.revoke_key(&id).await;
    assert_eq!(outcome(&service.validate(&key).await), "VERDICT_REVOKED");
}

#[tokio::test]
async fn preload_skips_unreadable_rows() {
    let database = TestDatabase::test_server().await;
    let first = TestService::start(&database).await;
    let tenant = first.create_tenant("Acme").await;
    // More than a page of them, among readable rows.
    let many = format!(
        "WITH RECURSIVE series (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM series WHERE value < 1201) \
         INSERT INTO api_keys (key_hash, id, tenant_id, created_at, last_used_at, scopes) \
         SELECT randomblob(32), CASE WHEN value % 3 = 0 THEN 'no id: ' ELSE 'key_' END || value, '{tenant}', 1, \
                value / 7, CASE WHEN value BETWEEN 300 AND 899 THEN '{BAD_SCOPES}' ELSE '[]' END FROM series"
    );
    database.server().execute(&many).unwrap();
    // The start completes and waits for nothing.
    let second = TestService::start(&database).await;
    let readable = (1..=1_201).filter(|value| value % 3 != 0 && !(300..=899).contains(value)).count();
    assert_eq!(second.running.key_cache().size().records, readable as u64);
    let scrape = Scrape::collect(&second).await;
    scrape.assert_value(
        r#"tenant_auth_unreadable_records_total{table="api_keys"}"#,
        f64::from(u16::try_from(1_201 - readable).unwrap()),
    );
}

#[tokio::test]
async fn listings_skip_unreadable_rows() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        ids.push(service.issue_key(&tenant, &[]).await.1);
    }
    for bad in [0, 2, 3, 5] {
        set_scopes(&database, &ids[bad], BAD_SCOPES);
    }
    // Two of them do not even have a valid id.
    let sql = format!("UPDATE api_keys SET id = ' ' || id WHERE id IN ('{}', '{}')", ids[2], ids[5]);
    assert_eq!(database.server().execute(&sql), Ok(2));
    for (page_size, name_prefix) in [1, 2, 50].into_iter().flat_map(|size| [(size, ""), (size, "TE")]) {
        let (mut listed, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = v1::ListKeysRequest {
                tenant_id: tenant.clone(),
                page_size,
                page_token,
                include_inactive: true,
                prefix: String::new(),
                name_prefix: name_prefix.to_owned(),
            };
            let page = service.admin().list_keys(request).await.unwrap().into_inner();
            listed.extend(page.keys.into_iter().map(|key| key.key_id));
            page_token = page.next_page_token;
            if page_token.is_empty() {
                break;
            }
        }
        assert_eq!(listed, [&*ids[1], &*ids[4]], "by pages of {page_size}");
    }

    let other = service.create_tenant("Other").await;
    database.server().execute(&format!("UPDATE tenants SET name = x'00' WHERE id = '{tenant}'")).unwrap();
    let request = v1::ListTenantsRequest { page_size: 1, ..Default::default() };
    let tenants = service.admin().list_tenants(request).await.unwrap().into_inner().tenants;
    assert_eq!(tenants.into_iter().map(|tenant| tenant.tenant_id).collect::<Vec<_>>(), [other]);
    let request = v1::GetTenantRequest { tenant_id: tenant };
    assert_eq!(service.admin().get_tenant(request).await.unwrap_err().code(), Code::Unavailable);

    database.server().execute("UPDATE audit_log SET detail = x'00' WHERE seq % 2 = 0").unwrap();
    let request = v1::ListAuditEventsRequest { page_size: 500, ..Default::default() };
    let events = service.admin().list_audit_events(request).await.unwrap().into_inner().events;
    assert_eq!(events.len(), 4, "of eight");
}

#[tokio::test]
async fn unreadable_key_does_not_abort_import() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let import = async || {
        let key =
            |byte| v1::ImportKey { tenant_id: tenant.clone(), sha256: vec![byte; 32], ..Default::default() };
        let request = v1::ImportKeysRequest { keys: (1..=3).map(key).collect() };
        let results = service.admin().import_keys(request).await.unwrap().into_inner().results;
        let is_error = |result: v1::ImportKeyResult| {
            matches!(result.result, Some(v1::import_key_result::Result::Error(_)))
        };
        results.into_iter().map(is_error).collect::<Vec<_>>()
    };
    assert_eq!(import().await, [false; 3]);
    let sql = "UPDATE api_keys SET id = 'no id: ' WHERE key_hash = unhex('0202020202020202020202020202020202020202020202020202020202020202')";
    assert_eq!(database.server().execute(sql), Ok(1));
    assert_eq!(import().await, [false, true, false]);
}

#[tokio::test]
async fn unreadable_session_affects_no_other_session() {
    const SECRET: &str = "who-knows-it-may-speak";
    let log = TestLog::shared();
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, _) = service.issue_key(&tenant, &[]).await;
    let sessions = || v1::session_service_client::SessionServiceClient::new(service.channel.clone());
    for id in ["one", SECRET, "three"] {
        let request = v1::BindSessionRequest {
            session_id: id.to_owned(),
            key: key.clone(),
            ttl: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
            attributes: HashMap::new(),
            ..Default::default()
        };
        sessions().bind_session(request).await.unwrap();
    }
    database
        .server()
        .execute("UPDATE session_bindings SET attributes = '[1]' WHERE session_id = 'who-knows-it-may-speak'")
        .unwrap();
    let ask = async |id: &str| {
        let request = v1::ValidateSessionRequest { session_id: id.to_owned(), ..Default::default() };
        let answer = service.validation().validate_session(request).await;
        answer.map(|answer| answer.into_inner().verdict()).map_err(|status| status.code())
    };
    let decided = tokio::join!(ask("one"), ask(SECRET), ask("three"));
    assert_eq!(decided, (Ok(Verdict::Valid), Err(Code::Unavailable), Ok(Verdict::Valid)));
    let request = v1::ListSessionsRequest { tenant_id: tenant, page_size: 1, ..Default::default() };
    let page = sessions().list_sessions(request).await.unwrap().into_inner();
    assert_eq!(page.sessions.len(), 1);
    let scrape = Scrape::collect(&service).await;
    assert!(scrape.value(r#"tenant_auth_unreadable_records_total{table="session_bindings"}"#) >= 1.0);
    let shown = log.text().lines().any(|line| line.contains("cannot be read") && line.contains(SECRET));
    assert!(!shown, "the log must not contain a session id");
}

#[tokio::test]
async fn unreadable_usage_record_affects_no_other_request() {
    let database = TestDatabase::test_server().await;
    let service = Arc::new(TestService::start(&database).await);
    let tenant = service.create_tenant("Acme").await;
    let record = async |id: &str| {
        let event = v1::UsageEvent {
            tenant_id: tenant.clone(),
            metric: "calls".to_owned(),
            quantity: 1,
            occurred_at: None,
        };
        let request = v1::RecordUsageRequest { request_id: id.to_owned(), events: vec![event] };
        let mut usage = v1::usage_service_client::UsageServiceClient::new(service.channel.clone());
        usage
            .record_usage(request)
            .await
            .map(|answer| answer.into_inner().accepted)
            .map_err(|status| status.code())
    };
    assert_eq!(record("bad").await, Ok(1));
    let sql = "UPDATE usage_requests SET refused = '[\"no such thing\"]' WHERE request_id = 'bad'";
    assert_eq!(database.server().execute(sql), Ok(1));
    let decided = tokio::join!(record("one"), record("bad"), record("two"));
    assert_eq!(decided, (Ok(1), Err(Code::Unavailable), Ok(1)));
}
