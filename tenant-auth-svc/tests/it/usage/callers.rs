//! Whose an id is: two services that choose the same one do not meet, whichever builds run side by side.

mod before;

use std::sync::Arc;

use tempfile::TempDir;
use tenant_auth_proto::v1::{self, usage_service_client::UsageServiceClient};
use tenant_auth_svc::domain::{access::TokenHash, clock::SystemClock};
use tenant_auth_testkit::Fault;
use tonic::{Code, Status};

use super::{event, reason, until_waiting};
use crate::{
    harness::{Database, Service, call},
    wire::with_token,
};

/// A replica that knows its callers by name.
async fn naming(database: &Database) -> (Service, TempDir) {
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
    (Service::start_with(settings, SystemClock::shared()).await, folder)
}

async fn record(
    service: &Service,
    caller: &str,
    id: &str,
    event: v1::UsageEvent,
) -> Result<v1::RecordUsageResponse, Status> {
    let request = v1::RecordUsageRequest { request_id: id.to_owned(), events: vec![event] };
    let mut client = UsageServiceClient::new(service.channel.clone());
    Ok(client.record_usage(with_token(caller, request)).await?.into_inner())
}

/// Whether it was counted by an earlier call.
async fn again(service: &Service, caller: &str, id: &str, event: v1::UsageEvent) -> bool {
    let response = record(service, caller, id, event).await.unwrap();
    assert_eq!(response.accepted, 1);
    response.already_recorded
}

/// A tenant of a database that every replica here shares.
async fn tenant(service: &Service) -> String {
    let request = v1::CreateTenantRequest { name: "Acme".to_owned(), ..Default::default() };
    let created = service.admin().create_tenant(with_token("ops", request)).await.unwrap();
    created.into_inner().tenant.unwrap().tenant_id
}

/// Everything that was ever counted of it.
fn counted(database: &Database, tenant: &str) -> i64 {
    let sql = format!("SELECT coalesce(sum(quantity), 0) FROM usage_totals WHERE tenant_id = '{tenant}'");
    database.server().query(&sql).unwrap()[0][0]["value"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn an_id_is_unique_to_its_caller() {
    let database = Database::test_server().await;
    let (service, _file) = naming(&database).await;
    let tenant = tenant(&service).await;
    let calls = |quantity| event(&tenant, "calls", quantity, None);
    for round in [false, true] {
        assert_eq!(again(&service, "api", "order-1", calls(1)).await, round);
        assert_eq!(again(&service, "mcp", "order-1", calls(10)).await, round, "of other events");
        assert_eq!(again(&service, "api", "order-2", calls(100)).await, round);
        assert_eq!(again(&service, "mcp", "order-2", calls(100)).await, round, "of the same events");
    }
    assert_eq!(counted(&database, &tenant), 211);
    for (caller, id) in [("api", "order-1"), ("mcp", "order-1"), ("mcp", "order-2")] {
        let refused = record(&service, caller, id, calls(7)).await.unwrap_err();
        assert_eq!((refused.code(), &*reason(&refused)), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
    }
    assert_eq!(counted(&database, &tenant), 211);
}

#[tokio::test]
async fn callers_that_come_together_do_not_meet_either() {
    let database = Database::test_server().await;
    let (service, _file) = naming(&database).await;
    let service = Arc::new(service);
    let tenant = tenant(&service).await;
    // While another one is under way.
    let before = database.server().counters();
    database.server().faults().set_where(super::WRITE, 1, Fault::Hang);
    let (first, other) = (Arc::clone(&service), event(&tenant, "other", 0, None));
    let first = tokio::spawn(async move { again(&first, "api", "order-0", other).await });
    database.server().wait_for(|counters| counters.requests > before.requests).await;
    let tasks: Vec<_> = ["api", "mcp", "api", "mcp"]
        .into_iter()
        .map(|caller| {
            let (service, event) = (Arc::clone(&service), event(&tenant, "calls", 1, None));
            tokio::spawn(async move { again(&service, caller, "order-1", event).await })
        })
        .collect();
    until_waiting(&service, 5).await;
    database.server().faults().clear();
    assert!(!first.await.unwrap());
    let mut repeated = 0;
    for task in tasks {
        repeated += usize::from(task.await.unwrap());
    }
    assert_eq!((repeated, counted(&database, &tenant)), (2, 2));
}

/// A build of before knows no callers: it takes the id as it is for everybody's.
#[tokio::test]
async fn a_retry_that_meets_another_build_is_counted_once() {
    let database = Database::test_server().await;
    let (service, _file) = naming(&database).await;
    let tenant = tenant(&service).await;
    let calls = |quantity| event(&tenant, "calls", quantity, None);

    // From the old build to the new one.
    assert!(!before::record(&database, &tenant, "crossing-1", 1).await.unwrap());
    for caller in ["api", "api"] {
        assert!(again(&service, caller, "crossing-1", calls(1)).await, "whoever it was, it is counted");
    }
    assert_eq!(counted(&database, &tenant), 1);
    // What says something else is no retry.
    assert!(!again(&service, "mcp", "crossing-1", calls(10)).await);
    assert!(again(&service, "mcp", "crossing-1", calls(10)).await);
    assert_eq!(counted(&database, &tenant), 11);

    // From the new build to the old one.
    assert!(!again(&service, "api", "crossing-2", calls(100)).await);
    assert!(before::record(&database, &tenant, "crossing-2", 100).await.unwrap());
    assert_eq!(counted(&database, &tenant), 111);
    // To which two callers are one, as ever: the second is refused or taken for the first, and not counted twice.
    assert!(!again(&service, "mcp", "crossing-2", calls(1_000)).await);
    assert!(before::record(&database, &tenant, "crossing-2", 1_000).await.is_err());
    assert_eq!(counted(&database, &tenant), 1_111);
}

/// The same where a replica is given a callers file, or loses it, between the two attempts.
#[tokio::test]
async fn a_retry_that_meets_another_configuration_is_counted_once() {
    let database = Database::test_server().await;
    let (named, _file) = naming(&database).await;
    let nameless = Service::start(&database).await;
    let tenant = tenant(&named).await;
    let calls = |quantity| event(&tenant, "calls", quantity, None);
    assert!(!again(&nameless, "", "crossing-1", calls(1)).await);
    assert!(again(&named, "api", "crossing-1", calls(1)).await);
    assert!(!again(&named, "api", "crossing-2", calls(10)).await);
    assert!(again(&nameless, "", "crossing-2", calls(10)).await);
    assert_eq!(counted(&database, &tenant), 11);
    // Without names there is one space of ids for all.
    let refused = record(&nameless, "", "crossing-2", calls(7)).await.unwrap_err();
    assert_eq!(reason(&refused), "REQUEST_ID_REUSED");
}

/// What stands under a caller's own id is found when the id as it is has become free again.
#[tokio::test]
async fn an_own_id_is_found_when_the_other_one_is_forgotten() {
    let database = Database::test_server().await;
    let (service, _file) = naming(&database).await;
    let tenant = tenant(&service).await;
    let calls = |quantity| event(&tenant, "calls", quantity, None);
    again(&service, "api", "order-1", calls(1)).await;
    again(&service, "mcp", "order-1", calls(10)).await;
    let forget = "DELETE FROM usage_requests WHERE request_id = 'order-1' AND caller = 'api'";
    assert_eq!(database.server().execute(forget), Ok(1));
    assert!(again(&service, "mcp", "order-1", calls(10)).await);
    assert_eq!(counted(&database, &tenant), 11);
}
