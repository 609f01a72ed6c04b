//! A database that is not the known one: emptied, replaced or rolled back.

mod retained_revocations;

use std::time::Duration;

use tenant_auth_proto::v1::{
    self, DatabaseDistrustReason, Source, Verdict, usage_service_client::UsageServiceClient,
};
use tenant_auth_svc::domain::clock::SharedClock;
use tenant_auth_testkit::{Backup, Fault};
use tonic::{Code, Status};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic_types::StatusExt as _;

use crate::harness::{
    TestService, http_request, outcome,
    replicas::{Replicas, accept_database, cached_keys, database_state, poll_until_noticed},
    unknown_key,
};

async fn database_health(service: &TestService) -> ServingStatus {
    let request = HealthCheckRequest { service: "tenantauth.Database".to_owned() };
    HealthClient::new(service.channel.clone()).check(request).await.unwrap().into_inner().status()
}

async fn record_usage(service: &TestService, tenant: &str) -> Result<v1::RecordUsageResponse, Status> {
    let event = v1::UsageEvent {
        tenant_id: tenant.to_owned(),
        metric: "calls".to_owned(),
        quantity: 1,
        occurred_at: None,
    };
    let request = v1::RecordUsageRequest { request_id: "once".to_owned(), events: vec![event] };
    let mut usage = UsageServiceClient::new(service.channel.clone());
    usage.record_usage(request).await.map(tonic::Response::into_inner)
}

enum Disaster {
    Wiped,
    WipedWithNewSchema,
    Replaced,
    RolledBack,
    RolledBackAndContinued,
}

/// Causes the disaster. An old backup contains the state from before the test's changes.
async fn cause_disaster(replicas: &mut Replicas, disaster: &Disaster, old: &Backup) {
    let server = replicas.database.server();
    match disaster {
        Disaster::Wiped => server.wipe().await.unwrap(),
        Disaster::WipedWithNewSchema => {
            server.wipe().await.unwrap();
            migrate(replicas).await;
        }
        Disaster::Replaced => {
            server.wipe().await.unwrap();
            migrate(replicas).await;
            // The other database has a longer log than the known one.
            for number in 0..50 {
                let tenant = format!(
                    "INSERT INTO tenants (id, name, created_at, updated_at) VALUES ('other-{number}', 'x', 0, 0)"
                );
                replicas.database.server().execute(&tenant).unwrap();
            }
        }
        Disaster::RolledBack => server.restore(old).await.unwrap(),
        Disaster::RolledBackAndContinued => {
            server.restore(old).await.unwrap();
            for number in 0..50 {
                let tenant = format!(
                    "INSERT INTO tenants (id, name, created_at, updated_at) VALUES ('later-{number}', 'x', 0, 0)"
                );
                server.execute(&tenant).unwrap();
            }
        }
    }
}

/// Does what `tenant-auth-svc migrate` does.
async fn migrate(replicas: &Replicas) {
    let clock = std::sync::Arc::clone(&replicas.clock) as SharedClock;
    tenant_auth_svc::database::migrate::migrate(&replicas.database.client(), &clock).await.unwrap();
}

#[tokio::test]
async fn unexpected_database_is_distrusted_and_cache_keeps_serving() {
    for (disaster, reason) in [
        (Disaster::Wiped, DatabaseDistrustReason::Empty),
        (Disaster::WipedWithNewSchema, DatabaseDistrustReason::AnotherDatabase),
        (Disaster::Replaced, DatabaseDistrustReason::AnotherDatabase),
        (Disaster::RolledBack, DatabaseDistrustReason::RolledBack),
        (Disaster::RolledBackAndContinued, DatabaseDistrustReason::RolledBack),
    ] {
        let mut replicas = Replicas::start().await;
        let backup = replicas.database.server().backup().unwrap();
        let [(good, _), (revoked, revoked_id)] = cached_keys(&replicas).await;
        replicas.first.revoke_key(&revoked_id).await;
        replicas.poll_second().await;
        replicas.first.poll_feed().await;
        cause_disaster(&mut replicas, &disaster, &backup).await;

        // Immediately, before any replica has polled the log, nothing is written or reported as written.
        let tenants = || replicas.database.server().query("SELECT count(*) FROM tenants");
        let before = tenants();
        let create = v1::CreateTenantRequest { name: "Lost".to_owned(), ..Default::default() };
        let created = replicas.first.admin().create_tenant(create).await;
        assert_eq!(created.unwrap_err().code(), Code::Unavailable, "{reason:?}");
        let recorded = record_usage(&replicas.second, &replicas.tenant).await;
        assert_eq!(recorded.unwrap_err().code(), Code::Unavailable, "{reason:?}");
        assert_eq!(tenants(), before);

        // Cached entries stay, and no key becomes unknown. (Only a database that was rolled back and has then
        // grown beyond the known position needs a poll of the log to be detected.)
        let shows = !matches!(disaster, Disaster::RolledBackAndContinued);
        replicas.clock.advance(Duration::from_secs(7));
        for service in [&replicas.first, &replicas.second].into_iter().filter(|_| shows) {
            assert_eq!(outcome(&service.validate(&unknown_key()).await), "Unavailable", "{reason:?}");
            assert_eq!(outcome(&service.validate(&good).await), "VERDICT_VALID", "{reason:?}");
            assert_eq!(outcome(&service.validate(&revoked).await), "VERDICT_REVOKED", "{reason:?}");
        }
        poll_until_noticed(&replicas).await;
        for service in [&replicas.first, &replicas.second] {
            for _ in 0..2 {
                let unknown = service.validate(&unknown_key()).await;
                assert_eq!(outcome(&unknown), "Unavailable", "{reason:?}");
                let reason = unknown.unwrap_err().get_error_details().error_info().unwrap().reason.clone();
                assert!(
                    ["DATABASE_UNTRUSTED", "DATABASE_SCHEMA_MISSING"].contains(&reason.as_str()),
                    "{reason}"
                );
                let known = service.validate(&good).await.unwrap();
                assert_eq!(
                    (known.verdict(), known.provenance.unwrap().source()),
                    (Verdict::Valid, Source::Stale)
                );
                assert_eq!(outcome(&service.validate(&revoked).await), "VERDICT_REVOKED");
                replicas.clock.advance(Duration::from_secs(600));
            }
            assert_eq!(database_state(service).await.distrust_reason(), reason);
            assert_eq!(database_health(service).await, ServingStatus::NotServing);
            let ops = service.running.ops_address().unwrap();
            let verbose = http_request(ops, "GET /readyz?verbose").await.unwrap().body;
            assert!(verbose.contains("NOT TRUSTED ("), "{verbose}");
            assert!(
                http_request(ops, "GET /metrics")
                    .await
                    .unwrap()
                    .body
                    .contains("tenant_auth_database_trusted 0")
            );
            // Nothing is written to it: an acknowledged write would be missing from the known database.
            let create = v1::CreateTenantRequest { name: "Lost".to_owned(), ..Default::default() };
            assert_eq!(service.admin().create_tenant(create).await.unwrap_err().code(), Code::Unavailable);
        }
    }
}

#[tokio::test]
async fn accepted_new_database_is_trusted_by_all_replicas() {
    let replicas = Replicas::start().await;
    let [(good, _), _] = cached_keys(&replicas).await;
    let before = database_state(&replicas.first).await.known.unwrap();
    replicas.database.server().wipe().await.unwrap();
    migrate(&replicas).await;
    poll_until_noticed(&replicas).await;
    for first in [true, false] {
        // Accepts it twice, as after a lost response.
        let accepted = accept_database(&replicas.first).await;
        assert_eq!(accepted.accepted, first);
        let accepted = accepted.database.unwrap();
        assert_ne!(accepted.database_id, before.database_id);
        assert!(accepted.epoch > before.epoch);
    }
    replicas.poll_second().await;
    for service in [&replicas.first, &replicas.second] {
        assert_eq!(
            outcome(&service.validate(&good).await),
            "VERDICT_UNKNOWN",
            "the accepted database has no such key"
        );
        let tenant = service.create_tenant("New").await;
        let (key, _) = service.issue_key(&tenant, &[]).await;
        assert_eq!(outcome(&service.validate(&key).await), "VERDICT_VALID");
    }
}

/// A foreign database that was accepted more often in its own deployment than the known one here.
#[tokio::test]
async fn foreign_database_is_distrusted_despite_more_acceptances() {
    let replicas = Replicas::start().await;
    let [(good, _), _] = cached_keys(&replicas).await;
    replicas.database.server().wipe().await.unwrap();
    migrate(&replicas).await;
    let more_acceptances = "UPDATE database_identity SET epoch = 7, replaces = 'another one'";
    replicas.database.server().execute(more_acceptances).unwrap();
    poll_until_noticed(&replicas).await;
    assert_eq!(
        database_state(&replicas.second).await.distrust_reason(),
        DatabaseDistrustReason::AnotherDatabase
    );
    assert_eq!(accept_database(&replicas.second).await.database.unwrap().epoch, 8);
    replicas.first.poll_feed().await;
    assert_eq!(
        outcome(&replicas.first.validate(&good).await),
        "VERDICT_UNKNOWN",
        "once accepted, all replicas trust it"
    );
}

#[tokio::test]
async fn returning_known_database_is_trusted_without_acceptance() {
    let replicas = Replicas::start().await;
    let [(good, _), _] = cached_keys(&replicas).await;
    let all = replicas.database.server().backup().unwrap();
    replicas.database.server().wipe().await.unwrap();
    poll_until_noticed(&replicas).await;
    replicas.database.server().restore(&all).await.unwrap();
    replicas.poll_second().await;
    assert_eq!(database_state(&replicas.second).await.distrust_reason(), DatabaseDistrustReason::Unspecified);
    replicas.clock.advance(Duration::from_secs(7));
    assert_eq!(replicas.validate_on_second(&good).await, (Verdict::Valid, Source::Database));
    assert_eq!(outcome(&replicas.second.validate(&unknown_key()).await), "VERDICT_UNKNOWN");
}

/// The database answers, and the cache is still used instead.
#[tokio::test]
async fn grace_end_is_reported_while_database_is_distrusted() {
    let replicas = Replicas::start().await;
    cached_keys(&replicas).await;
    replicas.database.server().wipe().await.unwrap();
    migrate(&replicas).await;
    poll_until_noticed(&replicas).await;
    replicas.clock.advance(Duration::from_secs(3_600));
    let ops = replicas.second.running.ops_address().unwrap();
    let metrics = http_request(ops, "GET /metrics").await.unwrap().body;
    let line = "tenant_auth_cache_grace_remaining_seconds{record=\"oldest\"} ";
    let left: f64 = metrics.lines().find_map(|sample| sample.strip_prefix(line)).unwrap().parse().unwrap();
    assert!(left <= 3.0 * 3_600.0, "{left} of four hours");
    let verbose = http_request(ops, "GET /readyz?verbose").await.unwrap().body;
    assert!(verbose.contains("; ends for the oldest in "), "{verbose}");
}

/// The database was wiped and a replica starts. It must not create a schema, which would make every key
/// unknown.
#[tokio::test]
async fn start_creates_no_schema_unless_configured() {
    let replicas = Replicas::start().await;
    replicas.database.server().wipe().await.unwrap();
    let clock = || std::sync::Arc::clone(&replicas.clock) as SharedClock;
    let settings =
        replicas.database.settings().with_flag("TENANT_AUTH_CREATE_SCHEMA", Some("false".to_owned()));
    let started = TestService::start_unready(settings, clock()).await;
    let server = replicas.database.server();
    server
        .wait_for({
            let before = server.counters().requests;
            move |counters| counters.requests >= before + 2
        })
        .await;
    assert_eq!(server.query("SELECT count(*) FROM sqlite_master").unwrap()[0][0]["value"], "0");
    assert_eq!(outcome(&started.validate(&unknown_key()).await), "Unavailable");
}

#[tokio::test]
async fn accept_is_refused_before_any_database_is_known() {
    let replicas = Replicas::start().await;
    replicas.database.server().faults().set(Fault::service_unavailable());
    let clock = std::sync::Arc::clone(&replicas.clock) as SharedClock;
    let started = TestService::start_unready(replicas.database.settings(), clock).await;
    let request = v1::AcceptDatabaseRequest { reason: "restored".to_owned() };
    let refused = started.admin().accept_database(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let nameless = v1::AcceptDatabaseRequest { reason: String::new() };
    assert_eq!(started.admin().accept_database(nameless).await.unwrap_err().code(), Code::InvalidArgument);
}
