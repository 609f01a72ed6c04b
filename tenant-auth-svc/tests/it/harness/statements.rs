//! The statements that a service sends in the background, and their query plans.

use tenant_auth_svc::domain::clock::ManualClock;
use tenant_auth_testkit::HranaServer;

use super::{NOW, TestDatabase, TestService};

/// Parts that occur only in the statements that delete expired rows, preload and prune.
pub(crate) const SWEEP_EVENTS: &str = "DELETE FROM usage_events";
pub(crate) const SWEEP_REQUESTS: &str = "DELETE FROM usage_requests";
pub(crate) const READ_AHEAD: &str = "ORDER BY last_used_at DESC";
pub(crate) const PRUNE: &str = "DELETE FROM changes";
pub(crate) const SWEEP_SESSIONS: &str = "FROM session_bindings WHERE expires_at <";
pub(crate) const SWEEP_ENDED: &str = "SELECT ended.session_id";
pub(crate) const LAST_OPENER: &str = "FROM openers WHERE position = ?3";

/// Returns the statements as the service sends them today.
pub(crate) async fn sent_statements(parts: &[&str]) -> (TestDatabase, Vec<String>) {
    let database = TestDatabase::test_server().await;
    let service = TestService::start_at(&database, &ManualClock::at(NOW)).await;
    service.running.sweep_usage().await.unwrap();
    service.running.sweep_sessions().await.unwrap();
    service.running.feed().prune().await.unwrap();
    let found = parts.iter().map(|part| {
        let mut found = database.server().statements_with(part);
        assert_eq!(found.len(), 1, "{part}: {found:?}");
        found.remove(0)
    });
    let found = found.collect();
    (database, found)
}

/// Returns the query plan: each step, and whether it belongs to the statement itself and not to a subquery.
pub(crate) fn query_plan(server: &HranaServer, statement: &str) -> Vec<(bool, String)> {
    let steps = server.query(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
    let text = |value: &serde_json::Value| value["value"].as_str().unwrap().to_owned();
    steps.iter().map(|step| (text(&step[1]) == "0", text(&step[3]))).collect()
}
