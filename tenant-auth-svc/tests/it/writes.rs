//! Writes are sent one at a time, and their outcomes do not affect reads.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use tenant_auth_proto::v1::{self, usage_service_client::UsageServiceClient};
use tenant_auth_svc::domain::clock::{ManualClock, SharedClock, SystemClock};
use tenant_auth_testkit::Fault;
use tonic::{Code, Request};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

use crate::harness::{
    NOW, TestDatabase, TestService, http_request, outcome, replicas::Replicas, unknown_key,
};

async fn health(service: &TestService, name: &str) -> ServingStatus {
    let request = HealthCheckRequest { service: name.to_owned() };
    HealthClient::new(service.channel.clone()).check(request).await.unwrap().into_inner().status()
}

async fn record_usage(service: &TestService, tenant: &str, id: usize) -> Result<(), Code> {
    let event = v1::UsageEvent {
        tenant_id: tenant.to_owned(),
        metric: "calls".to_owned(),
        quantity: 1,
        ..Default::default()
    };
    let request = v1::RecordUsageRequest { request_id: format!("r-{id}"), events: vec![event] };
    let answer = UsageServiceClient::new(service.channel.clone()).record_usage(request).await;
    answer.map(drop).map_err(|status| status.code())
}

/// A database over its quota, under usage traffic.
#[tokio::test]
async fn refused_writes_do_not_affect_reads() {
    for fault in
        [Fault::blocked(), Fault::forbidden(), Fault::Sql { code: "SQLITE_FULL", message: "disk is full" }]
    {
        let replicas = Replicas::start().await;
        let mut keys = Vec::new();
        for _ in 0..20 {
            keys.push(replicas.first.issue_key(&replicas.tenant, &[]).await);
        }
        replicas.poll_second().await;
        let server = replicas.database.server();
        server.faults().set_writes(fault.clone());
        for id in 0..40 {
            assert_eq!(record_usage(&replicas.second, &replicas.tenant, id).await, Err(Code::Unavailable));
        }
        for (key, key_id) in &keys {
            let cold = replicas.validate_on_second(key).await;
            assert_eq!(cold.0, v1::Verdict::Valid, "{fault:?}");
            // Changed with SQL, because the service cannot write.
            server.execute(&format!("UPDATE api_keys SET revoked_at = 1 WHERE id = '{key_id}'")).unwrap();
            replicas.poll_second().await;
            assert_eq!(replicas.validate_on_second(key).await.0, v1::Verdict::Revoked, "{fault:?}");
        }
        assert_eq!(outcome(&replicas.second.validate(&unknown_key()).await), "VERDICT_UNKNOWN");
        assert_eq!(health(&replicas.second, "tenantauth.Database").await, ServingStatus::Serving);
        assert_eq!(health(&replicas.second, "tenantauth.DatabaseWrites").await, ServingStatus::NotServing);
        let ops = replicas.second.running.ops_address().unwrap();
        let verbose = http_request(ops, "GET /readyz?verbose").await.unwrap().body;
        assert!(verbose.contains("\nreads     works since "), "{verbose}");
        assert!(verbose.contains("\nwrites    failing ("), "{verbose}");
        assert!(verbose.contains("\nbreaker   open for writes: "), "{verbose}");
        let metrics = http_request(ops, "GET /metrics").await.unwrap().body;
        for line in [
            "tenant_auth_database_up{operation=\"read\"} 1",
            "tenant_auth_database_up{operation=\"write\"} 0",
            "tenant_auth_database_breaker_open{circuit=\"lookups\"} 0",
            "tenant_auth_database_breaker_open{circuit=\"writes\"} 1",
            "tenant_auth_database_failures_total{operation=\"read\",kind=\"denied\"} 0",
        ] {
            assert!(metrics.contains(line), "{line} of {metrics}");
        }
        for kind in ["unreachable", "circuit_open"] {
            let failed = format!("tenant_auth_database_failures_total{{operation=\"read\",kind=\"{kind}\"}}");
            assert!(!metrics.contains(&failed), "no read failed, so there is no {failed}");
        }
        let refused = "tenant_auth_database_failures_total{operation=\"write\",kind=\"circuit_open\"} ";
        let count = metrics.lines().find_map(|line| line.strip_prefix(refused)).unwrap();
        assert!(count.parse::<f64>().unwrap() > 0.0, "writes are reported separately: {count}");

        server.faults().clear();
        replicas.clock.advance(Duration::from_secs(1));
        assert_eq!(record_usage(&replicas.second, &replicas.tenant, 1_000).await, Ok(()), "the first probe");
        assert_eq!(health(&replicas.second, "tenantauth.DatabaseWrites").await, ServingStatus::Serving);
    }
}

#[tokio::test]
async fn refused_reads_do_not_affect_writes() {
    let replicas = Replicas::start().await;
    let server = replicas.database.server();
    server.faults().set_reads(Fault::service_unavailable());
    for id in 0..40 {
        assert_eq!(outcome(&replicas.second.validate(&unknown_key()).await), "Unavailable");
        assert_eq!(record_usage(&replicas.second, &replicas.tenant, id).await, Ok(()));
    }
    assert_eq!(health(&replicas.second, "tenantauth.Database").await, ServingStatus::NotServing);
    assert_eq!(health(&replicas.second, "tenantauth.DatabaseWrites").await, ServingStatus::Serving);
}

/// Slow listings for an operator, a report or a console.
#[tokio::test]
async fn slow_read_lane_does_not_affect_validations() {
    let replicas = Replicas::start().await;
    let (key, key_id) = replicas.first.issue_key(&replicas.tenant, &[]).await;
    replicas.poll_second().await;
    let server = replicas.database.server();
    server.faults().set_where("FROM audit_log", u64::MAX, Fault::locked());
    for _ in 0..30 {
        let list = v1::ListAuditEventsRequest { page_size: 1, ..Default::default() };
        assert_eq!(
            replicas.second.admin().list_audit_events(list).await.unwrap_err().code(),
            Code::Unavailable
        );
    }
    assert_eq!(replicas.validate_on_second(&key).await.0, v1::Verdict::Valid);
    assert_eq!(health(&replicas.second, "tenantauth.Database").await, ServingStatus::Serving);
    replicas.first.revoke_key(&key_id).await;
    replicas.poll_second().await;
    assert_eq!(replicas.validate_on_second(&key).await.0, v1::Verdict::Revoked);
}

/// Sixteen callers that each wait a fifth of a second, and a database that takes longer. A service that sent
/// all their writes at once and abandoned them would block the database's write lock for every caller.
#[tokio::test]
async fn cancelled_writers_do_not_block_database() {
    let database = TestDatabase::test_server().await;
    let service = Arc::new(TestService::start(&database).await);
    let tenant = service.create_tenant("Acme").await;
    let server = database.server();
    let issue = |timeout: Duration| {
        let (service, tenant) = (Arc::clone(&service), tenant.clone());
        async move {
            let request =
                v1::IssueKeyRequest { tenant_id: tenant, name: "test".to_owned(), ..Default::default() };
            let mut request = Request::new(request);
            request.set_timeout(timeout);
            service.admin().issue_key(request).await.map(drop).map_err(|status| status.code())
        }
    };
    for _ in 0..3 {
        server.hold_writes(true);
        let outcomes = join_all((0..16).map(|_| issue(Duration::from_millis(200)))).await;
        assert!(outcomes.iter().all(Result::is_err), "{outcomes:?}");
        server.hold_writes(false);
        assert_eq!(issue(Duration::from_secs(30)).await, Ok(()), "writes continue at once");
    }
    assert!(!server.is_wedged());
    assert_eq!(server.counters().max_waiting_writers, 1, "only one write waits for the lock");
}

/// A database whose write lock is held by another client, or that leaves writes unanswered for another
/// reason, while reads work.
#[tokio::test]
async fn unanswered_writes_are_reported_as_own_state() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let settings =
        database.settings().with_flag("TENANT_AUTH_DATABASE_WRITE_TIMEOUT", Some("300ms".to_owned()));
    let service = TestService::start_with(settings, clock.clone() as SharedClock).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, _) = service.issue_key(&tenant, &[]).await;
    let server = database.server();
    server.faults().set_writes(Fault::Hang);

    let before = server.counters().requests;
    let create = || v1::CreateTenantRequest { name: "Late".to_owned(), ..Default::default() };
    let unanswered = service.admin().create_tenant(create()).await.unwrap_err();
    assert_eq!(unanswered.get_error_details().error_info().unwrap().reason, "DATABASE_TIMED_OUT");
    // The next write does not add to those that may be in flight.
    let refused = service.admin().create_tenant(create()).await.unwrap_err();
    assert_eq!(refused.get_error_details().error_info().unwrap().reason, "DATABASE_CIRCUIT_OPEN");
    assert_eq!(server.counters().requests - before, 1);

    assert_eq!(outcome(&service.validate(&key).await), "VERDICT_VALID");
    assert_eq!(outcome(&service.validate(&unknown_key()).await), "VERDICT_UNKNOWN");
    assert_eq!(health(&service, "tenantauth.Database").await, ServingStatus::Serving);
    assert_eq!(health(&service, "tenantauth.DatabaseWrites").await, ServingStatus::NotServing);
    let ops = service.running.ops_address().unwrap();
    let verbose = http_request(ops, "GET /readyz?verbose").await.unwrap().body;
    assert!(verbose.contains("\nwrites    failing (timed_out) since "), "{verbose}");
    assert!(
        http_request(ops, "GET /metrics")
            .await
            .unwrap()
            .body
            .contains("tenant_auth_database_writes_stalled 1")
    );

    server.faults().clear();
    clock.advance(Duration::from_secs(10));
    assert!(service.admin().create_tenant(create()).await.is_ok(), "the probe");
    assert!(
        http_request(ops, "GET /metrics")
            .await
            .unwrap()
            .body
            .contains("tenant_auth_database_writes_stalled 0")
    );
}

/// On every kind of database, including a real one if configured: sends as many writes as fit into a short
/// time, from one caller and from sixteen. `TENANT_AUTH_TEST_WRITE_SECONDS` sets the time.
#[tokio::test]
async fn sixteen_concurrent_writers_are_all_served() {
    let seconds = std::env::var("TENANT_AUTH_TEST_WRITE_SECONDS").ok().and_then(|text| text.parse().ok());
    let duration = Duration::from_secs_f64(seconds.unwrap_or(0.5));
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let tenant = service.create_tenant("Acme").await;
        let mut rates = Vec::new();
        for callers in [1, 16] {
            let began = Instant::now();
            let change = || async {
                let mut changes = 0_u32;
                while began.elapsed() < duration {
                    service.issue_key(&tenant, &[]).await;
                    changes += 1;
                }
                changes
            };
            let changes: u32 = join_all((0..callers).map(|_| change())).await.into_iter().sum();
            assert!(changes >= callers, "every caller is served");
            rates.push(f64::from(changes) / began.elapsed().as_secs_f64());
        }
        let ratio = rates[1] / rates[0];
        let name = database.name();
        println!(
            "{name}: {:.0} writes per second from one caller, {:.0} from sixteen: {ratio:.2}x",
            rates[0], rates[1]
        );
    }
}

/// Reproduces an observed incident in real time: fifty callers of `RecordUsage` against a database over its
/// quota, and a few uncached validations a second. Prints the outcomes, and how long a key was still accepted
/// after its revocation on another replica.
#[tokio::test]
async fn refused_usage_does_not_affect_cold_keys_or_revocations() {
    let database = TestDatabase::test_server().await;
    let settings = || {
        // As in production, where a busy machine does not share its cores with a test.
        database
            .settings()
            .with_flag("TENANT_AUTH_FEED_INTERVAL", Some("250ms".to_owned()))
            .with_flag("TENANT_AUTH_CACHE_FRESH", Some("60s".to_owned()))
    };
    let one = TestService::start_with(settings(), SystemClock::shared()).await;
    let two = Arc::new(TestService::start_with(settings(), SystemClock::shared()).await);
    let tenant = one.create_tenant("Acme").await;
    let (known, known_id) = one.issue_key(&tenant, &[]).await;
    let mut cold = Vec::new();
    for _ in 0..20 {
        cold.push(one.issue_key(&tenant, &[]).await.0);
    }
    assert_eq!(outcome(&two.validate(&known).await), "VERDICT_VALID");
    database.server().faults().set_writes(Fault::blocked());
    let callers: Vec<_> = (0..50)
        .map(|caller| {
            let (two, tenant) = (Arc::clone(&two), tenant.clone());
            tokio::spawn(async move {
                for id in 0.. {
                    let _ = record_usage(&two, &tenant, caller * 1_000_000 + id).await;
                }
            })
        })
        .collect();
    for key in &cold {
        assert_eq!(outcome(&two.validate(key).await), "VERDICT_VALID");
    }
    let revoked_at = Instant::now();
    database
        .server()
        .execute(&format!("UPDATE api_keys SET revoked_at = 1 WHERE id = '{known_id}'"))
        .unwrap();
    let refused = async { while outcome(&two.validate(&known).await) != "VERDICT_REVOKED" {} };
    tokio::time::timeout(Duration::from_secs(30), refused)
        .await
        .expect("the feed must report the revocation");
    let accepted_for = revoked_at.elapsed();
    println!(
        "writes blocked, 50 callers of RecordUsage: 20 of 20 uncached keys decided; revoked key denied after {accepted_for:?}"
    );
    callers.iter().for_each(tokio::task::JoinHandle::abort);
}
