//! Ownership of usage request ids: two services that choose the same id do not collide, whichever builds run
//! side by side.

mod older_build;

use std::sync::Arc;

use tempfile::TempDir;
use tenant_auth_proto::v1::{self, usage_service_client::UsageServiceClient};
use tenant_auth_svc::domain::{access::TokenHash, clock::SystemClock};
use tenant_auth_testkit::Fault;
use tonic::{Code, Status};

use crate::harness::{
    TestDatabase, TestService, error_reason,
    usage::{USAGE_WRITE, until_waiting, usage_event},
    wire::with_token,
};

/// Starts a replica with named callers.
async fn service_with_callers(database: &TestDatabase) -> (TestService, TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("callers.toml");
    let entry = |name: &str, role: &str| {
        format!(
            "[[caller]]\nname = '{name}'\nroles = ['{role}']\ntoken_sha256 = ['{}']\n",
            TokenHash::of(name)
        )
    };
    std::fs::write(&path, entry("api", "meter") + &entry("mcp", "meter") + &entry("ops", "admin")).unwrap();
    let callers = Some(path.display().to_string());
    let settings = database.settings().with_flag("TENANT_AUTH_CALLERS_FILE", callers);
    (TestService::start_with(settings, SystemClock::shared()).await, folder)
}

async fn record_usage_as(
    service: &TestService,
    caller: &str,
    id: &str,
    event: v1::UsageEvent,
) -> Result<v1::RecordUsageResponse, Status> {
    let request = v1::RecordUsageRequest { request_id: id.to_owned(), events: vec![event] };
    let mut client = UsageServiceClient::new(service.channel.clone());
    Ok(client.record_usage(with_token(caller, request)).await?.into_inner())
}

/// Records a request; returns whether an earlier call had recorded it.
async fn was_already_recorded(service: &TestService, caller: &str, id: &str, event: v1::UsageEvent) -> bool {
    let response = record_usage_as(service, caller, id, event).await.unwrap();
    assert_eq!(response.accepted, 1);
    response.already_recorded
}

/// Creates a tenant in the database that all replicas of the test share.
async fn create_shared_tenant(service: &TestService) -> String {
    let request = v1::CreateTenantRequest { name: "Acme".to_owned(), ..Default::default() };
    let created = service.admin().create_tenant(with_token("ops", request)).await.unwrap();
    created.into_inner().tenant.unwrap().tenant_id
}

/// Returns the total of everything counted for the tenant.
fn counted_total(database: &TestDatabase, tenant: &str) -> i64 {
    let sql = format!("SELECT coalesce(sum(quantity), 0) FROM usage_totals WHERE tenant_id = '{tenant}'");
    database.server().query(&sql).unwrap()[0][0]["value"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn usage_request_id_is_scoped_to_caller() {
    let database = TestDatabase::test_server().await;
    let (service, _file) = service_with_callers(&database).await;
    let tenant = create_shared_tenant(&service).await;
    let calls = |quantity| usage_event(&tenant, "calls", quantity, None);
    for round in [false, true] {
        assert_eq!(was_already_recorded(&service, "api", "order-1", calls(1)).await, round);
        assert_eq!(
            was_already_recorded(&service, "mcp", "order-1", calls(10)).await,
            round,
            "of other events"
        );
        assert_eq!(was_already_recorded(&service, "api", "order-2", calls(100)).await, round);
        assert_eq!(
            was_already_recorded(&service, "mcp", "order-2", calls(100)).await,
            round,
            "of the same events"
        );
    }
    assert_eq!(counted_total(&database, &tenant), 211);
    for (caller, id) in [("api", "order-1"), ("mcp", "order-1"), ("mcp", "order-2")] {
        let refused = record_usage_as(&service, caller, id, calls(7)).await.unwrap_err();
        assert_eq!((refused.code(), &*error_reason(&refused)), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
    }
    assert_eq!(counted_total(&database, &tenant), 211);
}

#[tokio::test]
async fn concurrent_callers_with_same_id_are_counted_separately() {
    let database = TestDatabase::test_server().await;
    let (service, _file) = service_with_callers(&database).await;
    let service = Arc::new(service);
    let tenant = create_shared_tenant(&service).await;
    // While another request is in flight.
    let before = database.server().counters();
    database.server().faults().set_where(USAGE_WRITE, 1, Fault::Hang);
    let (first, other) = (Arc::clone(&service), usage_event(&tenant, "other", 0, None));
    let first = tokio::spawn(async move { was_already_recorded(&first, "api", "order-0", other).await });
    database.server().wait_for(|counters| counters.requests > before.requests).await;
    let tasks: Vec<_> = ["api", "mcp", "api", "mcp"]
        .into_iter()
        .map(|caller| {
            let (service, event) = (Arc::clone(&service), usage_event(&tenant, "calls", 1, None));
            tokio::spawn(async move { was_already_recorded(&service, caller, "order-1", event).await })
        })
        .collect();
    until_waiting(&service, 5).await;
    database.server().faults().clear();
    assert!(!first.await.unwrap());
    let mut repeated = 0;
    for task in tasks {
        repeated += usize::from(task.await.unwrap());
    }
    assert_eq!((repeated, counted_total(&database, &tenant)), (2, 2));
}

/// The previous build has no callers: it uses the plain id for every caller.
#[tokio::test]
async fn usage_retry_on_older_build_is_counted_once() {
    let database = TestDatabase::test_server().await;
    let (service, _file) = service_with_callers(&database).await;
    let tenant = create_shared_tenant(&service).await;
    let calls = |quantity| usage_event(&tenant, "calls", quantity, None);

    // First on the old build, then on the new one.
    assert!(!older_build::record_as_older_build(&database, &tenant, "crossing-1", 1).await.unwrap());
    for caller in ["api", "api"] {
        assert!(
            was_already_recorded(&service, caller, "crossing-1", calls(1)).await,
            "the usage is counted for any caller"
        );
    }
    assert_eq!(counted_total(&database, &tenant), 1);
    // A request with other content is not a retry.
    assert!(!was_already_recorded(&service, "mcp", "crossing-1", calls(10)).await);
    assert!(was_already_recorded(&service, "mcp", "crossing-1", calls(10)).await);
    assert_eq!(counted_total(&database, &tenant), 11);

    // First on the new build, then on the old one.
    assert!(!was_already_recorded(&service, "api", "crossing-2", calls(100)).await);
    assert!(older_build::record_as_older_build(&database, &tenant, "crossing-2", 100).await.unwrap());
    assert_eq!(counted_total(&database, &tenant), 111);
    // On the old build both callers share the id, as before: the second request is rejected or treated as the
    // first, and not counted twice.
    assert!(!was_already_recorded(&service, "mcp", "crossing-2", calls(1_000)).await);
    assert!(older_build::record_as_older_build(&database, &tenant, "crossing-2", 1_000).await.is_err());
    assert_eq!(counted_total(&database, &tenant), 1_111);
}

/// The same if a replica gains or loses its callers file between the two attempts.
#[tokio::test]
async fn usage_retry_under_other_caller_config_is_counted_once() {
    let database = TestDatabase::test_server().await;
    let (named, _file) = service_with_callers(&database).await;
    let nameless = TestService::start(&database).await;
    let tenant = create_shared_tenant(&named).await;
    let calls = |quantity| usage_event(&tenant, "calls", quantity, None);
    assert!(!was_already_recorded(&nameless, "", "crossing-1", calls(1)).await);
    assert!(was_already_recorded(&named, "api", "crossing-1", calls(1)).await);
    assert!(!was_already_recorded(&named, "api", "crossing-2", calls(10)).await);
    assert!(was_already_recorded(&nameless, "", "crossing-2", calls(10)).await);
    assert_eq!(counted_total(&database, &tenant), 11);
    // Without caller names there is one id space for all.
    let refused = record_usage_as(&nameless, "", "crossing-2", calls(7)).await.unwrap_err();
    assert_eq!(error_reason(&refused), "REQUEST_ID_REUSED");
}

/// A request stored under a caller's own id is found after the plain id has become free again.
#[tokio::test]
async fn caller_scoped_id_is_found_after_plain_id_is_pruned() {
    let database = TestDatabase::test_server().await;
    let (service, _file) = service_with_callers(&database).await;
    let tenant = create_shared_tenant(&service).await;
    let calls = |quantity| usage_event(&tenant, "calls", quantity, None);
    was_already_recorded(&service, "api", "order-1", calls(1)).await;
    was_already_recorded(&service, "mcp", "order-1", calls(10)).await;
    let forget = "DELETE FROM usage_requests WHERE request_id = 'order-1' AND caller = 'api'";
    assert_eq!(database.server().execute(forget), Ok(1));
    assert!(was_already_recorded(&service, "mcp", "order-1", calls(10)).await);
    assert_eq!(counted_total(&database, &tenant), 11);
}
