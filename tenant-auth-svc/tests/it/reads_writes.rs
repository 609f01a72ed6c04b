//! Reads and writes are reported to operators separately, in every report.

use std::{sync::Arc, time::Duration};

use serde_json::{Value, json};
use tenant_auth_proto::v1;
use tenant_auth_svc::domain::clock::{ManualClock, SharedClock, SystemClock};
use tenant_auth_testkit::Fault;
use tonic_health::pb::{
    HealthCheckRequest,
    health_check_response::ServingStatus::{self, NotServing, Serving, Unknown},
    health_client::HealthClient,
};
use tonic_types::StatusExt as _;

use crate::harness::{NOW, TestDatabase, TestService, http_request, scrape::Scrape, unknown_key};

/// Returns the rejections of a write, each with its kind and a part of its cause.
fn write_refusals() -> [(Fault, &'static str, &'static str); 5] {
    let read_only = Fault::Sql { code: "SQLITE_READONLY", message: "attempt to write a readonly database" };
    let full = Fault::Sql { code: "SQLITE_FULL", message: "database or disk is full" };
    [
        (Fault::blocked(), "blocked", "over a quota"),
        (Fault::forbidden(), "read_only", "use a token for reading and writing"),
        (read_only, "read_only", "use a token for reading and writing"),
        (full, "disk_full", "make room on it"),
        (Fault::unauthorized(), "denied", "the token is refused"),
    ]
}

/// The status of reads and writes, as one service reports it.
struct ReportedStatus {
    text: String,
    json: Value,
    metrics: Scrape,
    health: [ServingStatus; 2],
}

impl ReportedStatus {
    async fn collect(service: &TestService) -> Self {
        let ops = service.running.ops_address().unwrap();
        let get = async |path: &str| http_request(ops, &format!("GET {path}")).await.unwrap().body;
        let health = async |name: &str| {
            let request = HealthCheckRequest { service: name.to_owned() };
            HealthClient::new(service.channel.clone()).check(request).await.unwrap().into_inner().status()
        };
        Self {
            text: get("/readyz?verbose").await,
            json: serde_json::from_str(&get("/readyz?verbose&format=json").await).unwrap(),
            metrics: Scrape::collect(service).await,
            health: [health("tenantauth.Database").await, health("tenantauth.DatabaseWrites").await],
        }
    }

    fn line(&self, name: &str) -> &str {
        let line = self.text.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("{name} of {}", self.text))
    }

    /// Asserts that reads or writes work (`None`), or fail in this way.
    #[track_caller]
    fn assert_status(&self, name: &str, failure: Option<&str>) {
        let state = match failure {
            None => "works since ".to_owned(),
            Some(kind) => format!("failing ({kind}) since "),
        };
        let line = self.line(name);
        assert!(line.starts_with(&format!("{name:8}  {state}")) && line.contains("; last tried "), "{line}");
        let (state, up) = if failure.is_none() { ("works", 1.0) } else { ("failing", 0.0) };
        assert_eq!(self.json[name]["state"], state, "{}", self.json);
        assert_eq!(self.json[name]["failure"], json!(failure), "{}", self.json);
        let operation = name.trim_end_matches('s');
        let number = |metric: &str| self.metrics.value(&format!("{metric}{{operation=\"{operation}\"}}"));
        assert_eq!(number("tenant_auth_database_up"), up, "{}", self.metrics.text);
        assert!(number("tenant_auth_database_last_attempt_timestamp_seconds") > 0.0);
    }

    fn failures(&self, operation: &str, kind: &str) -> f64 {
        let name = "tenant_auth_database_failures_total";
        self.metrics.count(&format!("{name}{{operation=\"{operation}\",kind=\"{kind}\"}}"))
    }
}

async fn create_tenant(service: &TestService) -> Result<(), String> {
    let create = v1::CreateTenantRequest { name: "x".to_owned(), ..Default::default() };
    let outcome = service.admin().create_tenant(create).await;
    outcome.map(drop).map_err(|status| status.get_error_details().error_info().unwrap().reason.clone())
}

#[tokio::test]
async fn each_write_refusal_is_reported_by_cause() {
    for (fault, kind, cause) in write_refusals() {
        let database = TestDatabase::test_server().await;
        let service = TestService::start(&database).await;
        database.server().faults().set_writes(fault.clone());
        assert_eq!(
            create_tenant(&service).await,
            Err(format!("DATABASE_{}", kind.to_uppercase())),
            "{fault:?}"
        );
        service.validate(&unknown_key()).await.unwrap();
        let reported = ReportedStatus::collect(&service).await;
        reported.assert_status("reads", None);
        reported.assert_status("writes", Some(kind));
        assert!(reported.line("writes").contains(cause), "{}", reported.line("writes"));
        assert_eq!(reported.health, [Serving, NotServing], "{fault:?}");
        assert!(reported.failures("write", kind) >= 1.0, "{fault:?}");
        assert_eq!(reported.failures("read", kind), 0.0, "{fault:?}");
        assert!(!reported.text.contains("token") || kind != "disk_full", "{}", reported.text);

        database.server().faults().clear();
        assert_eq!(create_tenant(&service).await, Ok(()));
        let reported = ReportedStatus::collect(&service).await;
        reported.assert_status("writes", None);
        assert_eq!(reported.health, [Serving, Serving]);
    }
}

#[tokio::test]
async fn read_failures_are_reported_apart_from_writes() {
    for (fault, kind) in [(Fault::blocked(), "blocked"), (Fault::unauthorized(), "denied")] {
        let database = TestDatabase::test_server().await;
        let service = TestService::start(&database).await;
        database.server().faults().set_reads(fault.clone());
        service.validate(&unknown_key()).await.unwrap_err();
        assert_eq!(create_tenant(&service).await, Ok(()), "{fault:?}");
        let reported = ReportedStatus::collect(&service).await;
        reported.assert_status("reads", Some(kind));
        reported.assert_status("writes", None);
        assert_eq!(reported.health, [NotServing, Serving], "{fault:?}");
        assert!(
            reported.failures("read", kind) >= 1.0 && reported.failures("write", kind) == 0.0,
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn writes_are_reported_untested_before_first_write() {
    let database = TestDatabase::test_server().await;
    // Another service has created the schema.
    drop(TestService::start(&database).await);
    let service = TestService::start(&database).await;
    let reported = ReportedStatus::collect(&service).await;
    reported.assert_status("reads", None);
    assert_eq!(reported.line("writes"), "writes    not tried yet");
    assert_eq!(reported.json["writes"]["state"], "not_tried");
    assert_eq!(reported.health, [Serving, Unknown]);
    for metric in ["tenant_auth_database_up", "tenant_auth_database_last_attempt_timestamp_seconds"] {
        let series = format!("{metric}{{operation=\"write\"}}");
        assert!(!reported.metrics.text.contains(&series), "{}", reported.metrics.text);
    }
    assert_eq!(create_tenant(&service).await, Ok(()));
    let reported = ReportedStatus::collect(&service).await;
    reported.assert_status("writes", None);
    assert_eq!(reported.health, [Serving, Serving]);
}

/// Some servers reject a read-only token for a read that could be followed by a write, and the heartbeat is
/// read that way.
#[tokio::test]
async fn refused_primary_read_counts_as_write_failure() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    database.follow_clock(&clock);
    let settings = database.settings().with_flag("TENANT_AUTH_HEARTBEAT_INTERVAL", Some("1s".to_owned()));
    let service = TestService::start_with(settings, Arc::clone(&clock) as SharedClock).await;
    service.poll_feed().await;
    database.server().faults().set_where("WHERE only = 0", u64::MAX, Fault::forbidden());
    for _ in 0..30 {
        clock.advance(Duration::from_millis(100));
        let _ = service.running.beat_if_due().await;
    }
    service.validate(&unknown_key()).await.unwrap();
    let reported = ReportedStatus::collect(&service).await;
    reported.assert_status("reads", None);
    reported.assert_status("writes", Some("read_only"));
    assert!(reported.failures("write", "read_only") >= 1.0, "{}", reported.metrics.text);
    for kind in ["denied", "read_only"] {
        assert_eq!(reported.failures("read", kind), 0.0, "{}", reported.metrics.text);
    }
    assert!(!reported.line("breaker").contains("maintenance"), "{}", reported.line("breaker"));
}

/// The write probe changes no value, and needs only its row.
#[tokio::test]
async fn write_probe_leaves_its_row_unchanged() {
    use tenant_auth_svc::{
        database::sql::probe,
        domain::store::{Call, FailureKind, Lane},
    };
    let call = || Call::within(Lane::Maintenance, Duration::from_secs(30));
    for database in [TestDatabase::embedded(), TestDatabase::test_server().await] {
        let database_client = database.client();
        let missing = probe::write(&database_client, call()).await.unwrap_err();
        assert_eq!(missing.kind, FailureKind::SchemaMissing, "{}", database.name());
        tenant_auth_svc::database::migrate::migrate(&database_client, &SystemClock::shared()).await.unwrap();
        probe::write(&database_client, call()).await.unwrap();
        if let TestDatabase::TestServer(server, _) = &database {
            let rows = server.query("SELECT beat, at FROM heartbeat").unwrap();
            assert_eq!((&rows[0][0]["value"], &rows[0][1]["value"]), (&json!("0"), &json!("0")));
            server.faults().set_writes(Fault::blocked());
            assert_eq!(probe::write(&database_client, call()).await.unwrap_err().kind, FailureKind::Blocked);
        }
    }
}
