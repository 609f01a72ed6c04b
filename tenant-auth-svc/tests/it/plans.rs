//! Background statements read only the rows that they need: checks their query plans and the number of rows
//! read.
//!
//! [`budget`] counts the rows of every operation on the test server, and [`rows_read`] those of former statements on
//! a real server, if its program is there: `TENANT_AUTH_TEST_SQLD`. With `TENANT_AUTH_TEST_LONG` both count with a
//! million keys.

mod budget;
mod former_statements;
mod one_key;
mod rows_read;

use tenant_auth_proto::v1::{
    self, session_service_client::SessionServiceClient, usage_service_client::UsageServiceClient,
};

use crate::harness::{
    TestDatabase, TestService,
    statements::{
        LAST_OPENER, PRUNE, READ_AHEAD, SWEEP_ENDED, SWEEP_EVENTS, SWEEP_REQUESTS, SWEEP_SESSIONS,
        query_plan, sent_statements,
    },
};

#[tokio::test]
async fn background_statements_scan_no_table() {
    let parts = [SWEEP_EVENTS, SWEEP_REQUESTS, READ_AHEAD, PRUNE, SWEEP_SESSIONS, SWEEP_ENDED, LAST_OPENER];
    let (database, statements) = sent_statements(&parts).await;
    for statement in statements {
        let plan = query_plan(database.server(), &statement);
        assert!(!plan.is_empty());
        for (outermost, step) in &plan {
            for table in
                ["usage_events", "old", "api_keys", "changes", "session_bindings", "next", "ended", "tenants"]
            {
                let scans = step.starts_with(&format!("SCAN {table}"));
                // In the order of an index, up to a LIMIT.
                let is_cut = statement.contains(SWEEP_SESSIONS) && step.contains("USING COVERING INDEX");
                assert!(!scans || is_cut, "{statement}\n{plan:#?}");
            }
            // Sorting a page is acceptable, sorting a table is not.
            let sorts = step.starts_with("USE TEMP B-TREE");
            assert!(!sorts || (*outermost && statement.contains("LEFT JOIN")), "{statement}\n{plan:#?}");
        }
    }
    let tables = [("usage_events", SWEEP_EVENTS), ("api_keys", READ_AHEAD), ("changes", PRUNE)];
    for (table, part) in tables {
        let statement = database.server().statements_with(part).remove(0);
        let searches = |(_, step): &(bool, String)| step.starts_with(&format!("SEARCH {table}"));
        assert!(query_plan(database.server(), &statement).iter().any(searches), "{part}");
    }
}

#[tokio::test]
async fn import_finds_existing_keys_by_their_hash() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant_id = service.create_tenant("Acme").await;
    let key = v1::ImportKey { tenant_id, sha256: vec![7; 32], ..Default::default() };
    service.admin().import_keys(v1::ImportKeysRequest { keys: vec![key] }).await.unwrap();
    let statement = database.server().statements_with("AS held").remove(0);
    let plan = query_plan(database.server(), &statement);
    for table in ["api_keys", "held"] {
        let starts = |verb: &str| plan.iter().any(|(_, step)| step.starts_with(&format!("{verb} {table}")));
        assert!(starts("SEARCH") && !starts("SCAN"), "{table}: {plan:#?}");
    }
}

/// The check of a tenant's session limit reads its keys, and not its live sessions.
#[tokio::test]
async fn session_cap_check_reads_no_live_sessions() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, _) = service.issue_key(&tenant, &[]).await;
    let ttl = Some(prost_types::Duration { seconds: 60, nanos: 0 });
    let request =
        v1::BindSessionRequest { session_id: "session-1".to_owned(), key, ttl, ..Default::default() };
    SessionServiceClient::new(service.channel.clone()).bind_session(request).await.unwrap();
    let statement = database.server().statements_with("SELECT over.session_id").remove(0);
    let steps: Vec<_> = query_plan(database.server(), &statement).into_iter().map(|(_, step)| step).collect();
    let reads = |table: &str, by: &str| {
        steps.iter().any(|step| step.starts_with(&format!("SEARCH {table} ")) && step.ends_with(by))
    };
    assert!(reads("session_counts", "(tenant_id=?)"), "the session count is found by tenant: {steps:#?}");
    assert!(
        reads("session_bindings", "(tenant_id=? AND key_id>?)"),
        "from opening key to opening key: {steps:#?}"
    );
    assert!(reads("over", "(tenant_id=? AND key_id=? AND expires_at<?)"), "expired sessions: {steps:#?}");
    let scans = |step: &&String| step.starts_with("SCAN ") && **step != "SCAN openers";
    assert_eq!(steps.iter().find(scans), None, "{steps:#?}");
}

/// Finding the owner of a usage request id takes one index lookup, however many requests are stored.
#[tokio::test]
async fn usage_request_is_found_by_index_on_id() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let event = v1::UsageEvent {
        tenant_id: service.create_tenant("Acme").await,
        metric: "calls".to_owned(),
        quantity: 1,
        occurred_at: None,
    };
    let request = v1::RecordUsageRequest { request_id: "order-1".to_owned(), events: vec![event] };
    UsageServiceClient::new(service.channel.clone()).record_usage(request).await.unwrap();
    for part in ["INSERT INTO usage_requests", "INSERT INTO usage_events", "hex(requests.payload_hash)"] {
        let statement = database.server().statements_with(part).remove(0);
        let plan = query_plan(database.server(), &statement);
        let of_requests = |step: &&(bool, String)| {
            ["plain", "own", "requests", "usage_requests"].iter().any(|table| {
                ["SCAN", "SEARCH"].iter().any(|how| step.1.starts_with(&format!("{how} {table}")))
            })
        };
        let steps: Vec<_> = plan.iter().filter(of_requests).collect();
        assert!(!steps.is_empty() && steps.iter().all(|step| step.1.starts_with("SEARCH")), "{plan:#?}");
    }
}

#[tokio::test]
async fn former_statements_scan_whole_tables() {
    let (database, _) = sent_statements(&[]).await;
    let steps = |statement| {
        query_plan(database.server(), statement).into_iter().map(|(_, step)| step).collect::<Vec<_>>()
    };
    let sweep = steps(former_statements::SWEEP_EVENTS);
    assert!(sweep.iter().any(|step| step.starts_with("SCAN old")), "{sweep:#?}");
    let former_steps = steps(former_statements::READ_AHEAD);
    let sorts = former_steps.iter().filter(|step| step.starts_with("USE TEMP B-TREE"));
    assert_eq!(sorts.count(), 2, "the page, and all recently used keys before it: {former_steps:#?}");
}

#[tokio::test]
async fn change_log_is_pruned_in_pages_keeping_newest_entries() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let server = database.server();
    server
        .execute(
            "WITH RECURSIVE series (seq) AS (SELECT 100 UNION ALL SELECT seq + 1 FROM series WHERE seq < 2599) \
             INSERT INTO changes (seq, kind, ref, tenant_id, at) SELECT seq, 'key', 'x', 'y', 1 FROM series",
        )
        .unwrap();
    // A gap that is wider than a page, and the remaining rows: the newest hundred thousand, counted from the
    // last.
    for seq in [50_000, 60_000, 60_001, 160_000] {
        let entry =
            format!("INSERT INTO changes (seq, kind, ref, tenant_id, at) VALUES ({seq}, 'key', 'x', 'y', 1)");
        server.execute(&entry).unwrap();
    }
    service.running.feed().prune().await.unwrap();
    let left = server.query("SELECT seq FROM changes ORDER BY seq").unwrap();
    let left: Vec<_> = left.iter().map(|row| row[0]["value"].as_str().unwrap()).collect();
    assert_eq!(left, ["60001", "160000"]);
    assert_eq!(server.requests_with(PRUNE), 5, "of a thousand entries at most");
}
