//! Queries about one key use an index in the order of the list: no table is scanned in full, and none is
//! sorted.

use tenant_auth_proto::v1;

use crate::harness::{TestDatabase, TestService, statements::query_plan};

/// Returns the plan of the only statement that contains all of these parts.
fn plan_steps(database: &TestDatabase, parts: &[&str]) -> Vec<(bool, String)> {
    let mut found = database.server().statements_with(parts[0]);
    found.retain(|statement| parts.iter().all(|part| statement.contains(part)));
    assert_eq!(found.len(), 1, "{parts:?}: {found:#?}");
    query_plan(database.server(), &found[0])
}

fn assert_uses_index(steps: &[(bool, String)], table: &str, expected: &[&str]) {
    let searches: Vec<_> =
        steps.iter().filter(|(_, step)| step.starts_with(&format!("SEARCH {table} "))).collect();
    let by: Vec<_> =
        searches.iter().filter_map(|(_, step)| step.split_once(" INDEX ")).map(|(_, by)| by).collect();
    assert_eq!(by, expected, "{steps:#?}");
    assert!(!steps.iter().any(|(_, step)| step.starts_with(&format!("SCAN {table}"))), "{steps:#?}");
    // The result of a search is cut to a page before it is sorted: the step that reads the page is between
    // the two.
    let sorted_at_once = steps.windows(2).any(|pair| {
        pair[0].1.starts_with(&format!("SEARCH {table} ")) && pair[1].1.starts_with("USE TEMP B-TREE")
    });
    assert!(!sorted_at_once, "{steps:#?}");
}

#[tokio::test]
async fn each_audit_filter_uses_an_index() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let text = str::to_owned;
    let request = v1::ListAuditEventsRequest::default();
    for (request, by) in [
        (request.clone(), "audit_log_by_time (at<?)"),
        (
            v1::ListAuditEventsRequest { since: at(1), until: at(2), ..request.clone() },
            "audit_log_by_time (at>? AND at<?)",
        ),
        (
            v1::ListAuditEventsRequest { tenant_id: text("acme"), ..request.clone() },
            "audit_log_by_tenant (tenant_id=? AND at<?)",
        ),
        (
            v1::ListAuditEventsRequest { caller: text("api"), since: at(1), ..request.clone() },
            "audit_log_by_caller (caller=? AND at>? AND at<?)",
        ),
        (
            v1::ListAuditEventsRequest { action: text("key.revoke"), until: at(2), ..request.clone() },
            "audit_log_by_action (action=? AND at<?)",
        ),
        (
            v1::ListAuditEventsRequest {
                target: text("key_1"),
                tenant_id: text("acme"),
                caller: text("api"),
                action: text("key.revoke"),
                ..request.clone()
            },
            "audit_log_by_target (target=? AND at<?)",
        ),
    ] {
        let index = by.split(' ').next().unwrap();
        service.admin().list_audit_events(request.clone()).await.unwrap();
        let mut parts = vec!["FROM audit_log INDEXED BY", index];
        parts.extend(request.since.map(|_| "at >= "));
        let found = database.server().statements_with(parts[0]);
        let is_it = |statement: &&String| {
            parts.iter().all(|part| statement.contains(part))
                && statement.contains("at >= ") == request.since.is_some()
        };
        let statement = found.iter().find(is_it).unwrap();
        assert_uses_index(&query_plan(database.server(), statement), "audit_log", &[by]);
    }
}

#[tokio::test]
async fn key_prefix_search_uses_an_index() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let list = v1::ListKeysRequest { prefix: "ta_a".to_owned(), ..Default::default() };
    service.admin().list_keys(list).await.unwrap();
    let begins = "api_keys_by_prefix ((prefix_hint,id)>(?,?) AND prefix_hint<?)";
    let shorter = "api_keys_by_prefix (prefix_hint=? AND id>?)";
    let steps = plan_steps(&database, &["FROM api_keys INDEXED BY api_keys_by_prefix"]);
    // Three searches for shorter hints, and one for hints that start with the text.
    assert_uses_index(&steps, "api_keys", &[shorter, shorter, shorter, begins]);
}

/// Two ranges: the rest of one name, and the greater names.
#[tokio::test]
async fn name_search_uses_an_index() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let name_prefix = "Ac".to_owned();
    let tenants = v1::ListTenantsRequest { name_prefix: name_prefix.clone(), ..Default::default() };
    service.admin().list_tenants(tenants).await.unwrap();
    let keys = v1::ListKeysRequest { name_prefix, ..Default::default() };
    service.admin().list_keys(keys).await.unwrap();
    for (table, index) in [("tenants", "tenants_by_name"), ("api_keys", "api_keys_by_name")] {
        let steps = plan_steps(&database, &[&format!("FROM {table} INDEXED BY {index}")]);
        let same = format!("{index} (name=? AND id>?)");
        let greater = format!("{index} (name>? AND name<?)");
        assert_uses_index(&steps, table, &[&same, &greater]);
    }
}

#[tokio::test]
async fn key_lookup_by_id_uses_an_index() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let (_, key_id) = service.issue_key(&tenant, &[]).await;
    service.admin().get_key(v1::GetKeyRequest { key_id }).await.unwrap();
    let steps = plan_steps(&database, &["api_keys.key_hash, tenants.id"]);
    for table in ["api_keys", "tenants"] {
        assert!(steps.iter().any(|(_, step)| step.starts_with(&format!("SEARCH {table} "))), "{steps:#?}");
        assert!(!steps.iter().any(|(_, step)| step.starts_with(&format!("SCAN {table}"))), "{steps:#?}");
    }
}
