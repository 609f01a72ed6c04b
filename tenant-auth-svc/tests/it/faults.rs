//! Injects every database fault, one call at a time. Checks how the engine classifies it, and that no caller
//! ever receives an unknown verdict because of it.

use std::time::Duration;

use tenant_auth_proto::v1;
use tenant_auth_svc::{
    config::Settings,
    database::engine::{Engine as _, Statement},
    domain::{
        clock::SystemClock,
        store::{Call, FailureKind, Lane},
    },
};
use tenant_auth_testkit::Fault;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{TestDatabase, TestService, backend, http_request, outcome, unknown_key};

fn faults() -> Vec<(Fault, FailureKind)> {
    vec![
        (Fault::Hang, FailureKind::TimedOut),
        (Fault::Latency(Duration::from_secs(60)), FailureKind::TimedOut),
        (Fault::ResetBeforeExecute, FailureKind::Unreachable),
        (Fault::ResetMidBody, FailureKind::Unreachable),
        (Fault::ResetAfterCommit, FailureKind::Unreachable),
        (Fault::unauthorized(), FailureKind::Denied),
        (Fault::forbidden(), FailureKind::Denied),
        (Fault::namespace_not_found(), FailureKind::SchemaMissing),
        (Fault::too_many_requests(7), FailureKind::Throttled),
        (Fault::service_unavailable(), FailureKind::Unreachable),
        (Fault::html_ok(), FailureKind::InvalidResponse),
        (Fault::binary_error(), FailureKind::Unreachable),
        (Fault::TruncatedJson, FailureKind::InvalidResponse),
        (Fault::blocked(), FailureKind::Blocked),
        (Fault::Sql { code: "SQLITE_FULL", message: "database or disk is full" }, FailureKind::DiskFull),
        (
            Fault::Sql { code: "SQLITE_READONLY", message: "attempt to write a readonly database" },
            FailureKind::ReadOnly,
        ),
        (Fault::locked(), FailureKind::Busy),
        (Fault::Sql { code: "SQLITE_CORRUPT", message: "malformed" }, FailureKind::InvalidResponse),
        (
            Fault::Sql { code: "SQL_INPUT_ERROR", message: "no such table: api_keys" },
            FailureKind::SchemaMissing,
        ),
    ]
}

/// Short timeouts if the fault is a timeout; long ones otherwise, so that a busy machine does not cause one.
fn settings(database: &TestDatabase, expected: FailureKind) -> Settings {
    if !matches!(expected, FailureKind::TimedOut) {
        return database.settings();
    }
    database
        .settings()
        .with_flag("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", Some("60ms".to_owned()))
        .with_flag("TENANT_AUTH_DATABASE_TIMEOUT", Some("150ms".to_owned()))
}

#[tokio::test]
async fn each_database_fault_maps_to_its_failure_kind() {
    let database = TestDatabase::test_server().await;
    let engine = backend(&database);
    for (fault, expected) in faults() {
        database.server().faults().set(fault.clone());
        let time = Duration::from_millis(if expected == FailureKind::TimedOut { 100 } else { 30_000 });
        let call = || Call::within(Lane::Maintenance, time);
        let read = engine.query(call(), Statement::new("SELECT 1")).await.unwrap_err();
        assert_eq!(read.kind, expected, "{fault:?}: {read}");
        let write = engine.transaction(call(), vec![Statement::new("SELECT 1")]).await.unwrap_err();
        // Data that may not be written may still be readable; a rejected read is a rejected token.
        let forbidden = fault == Fault::forbidden();
        assert_eq!(
            write.kind,
            if forbidden { FailureKind::ReadOnly } else { expected },
            "{fault:?}: {write}"
        );
        assert!(!read.message.chars().any(char::is_control), "fit for a log: {}", read.message);
    }
}

#[tokio::test]
async fn uncached_key_is_unavailable_and_never_unknown_in_outage() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    let mut faults = faults();
    // A well-formed response without rows, which a careless reader takes for "no such key".
    faults.push((Fault::MissingRows, FailureKind::InvalidResponse));

    for (fault, kind) in faults {
        // Clears the faults each time: so many failures in a row would open the breaker and hide each kind.
        database.server().faults().clear();
        let service = TestService::start_with(settings(&database, kind), SystemClock::shared()).await;
        database.server().faults().set(fault.clone());
        for key in [&key, &unknown_key()] {
            let answer = service.validate(key).await;
            assert_eq!(outcome(&answer), "Unavailable", "{fault:?}");
            let details = answer.unwrap_err().get_error_details();
            let reason = &details.error_info().unwrap().reason;
            assert_eq!(*reason, format!("DATABASE_{}", kind.as_str().to_uppercase()), "{fault:?}");
            let wait = details.retry_info().unwrap().retry_delay.unwrap();
            let asked_for = matches!(kind, FailureKind::Throttled);
            assert_eq!(wait, Duration::from_secs(if asked_for { 7 } else { 1 }), "{fault:?}");
        }
    }
    database.server().faults().clear();
    assert_eq!(
        service.validate(&key).await.unwrap().verdict(),
        v1::Verdict::Valid,
        "after the fault the key is valid"
    );
}

#[tokio::test]
async fn admin_request_is_unavailable_and_never_not_found_in_outage() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let (_, key_id) = service.issue_key(&tenant, &[]).await;
    for fault in [Fault::MissingRows, Fault::html_ok(), Fault::service_unavailable(), Fault::blocked()] {
        database.server().faults().set(fault.clone());
        let get = service.admin().get_tenant(v1::GetTenantRequest { tenant_id: tenant.clone() }).await;
        assert_eq!(get.unwrap_err().code(), Code::Unavailable, "{fault:?}");
        let list = v1::ListKeysRequest { tenant_id: tenant.clone(), ..Default::default() };
        assert_eq!(service.admin().list_keys(list).await.unwrap_err().code(), Code::Unavailable, "{fault:?}");
        let revoke = v1::RevokeKeyRequest { key_id: key_id.clone(), reason: "x".to_owned() };
        assert_eq!(
            service.admin().revoke_key(revoke).await.unwrap_err().code(),
            Code::Unavailable,
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn transient_database_fault_is_hidden_from_caller() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let (key, key_id) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    database.server().faults().set_for(1, Fault::ResetBeforeExecute);
    assert_eq!(service.validate(&key).await.unwrap().verdict(), v1::Verdict::Valid);

    // The response to a commit is lost: the call is retried, executed once and reported once.
    database.server().faults().set_for(1, Fault::ResetAfterCommit);
    service.revoke_key(&key_id).await;
    let audit =
        database.server().query("SELECT count(*) FROM audit_log WHERE action = 'key.revoke'").unwrap();
    assert_eq!(audit[0][0]["value"], "1");

    database.server().faults().set_for(1, Fault::ResetAfterCommit);
    service.issue_key(&service.create_tenant("Other").await, &[]).await;
    let rows = database.server().query("SELECT count(*) FROM tenants WHERE name = 'Other'").unwrap();
    assert_eq!(rows[0][0]["value"], "1", "created once");
}

#[tokio::test]
async fn failed_statement_rolls_back_whole_transaction() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let database_client = database.client();
    let insert = "INSERT INTO tenants (id, name, created_at, updated_at) VALUES ('half', 'x', 1, 1)";
    let steps = vec![Statement::new(insert), Statement::new("INSERT INTO nowhere VALUES (1)")];
    let call = Call::within(Lane::Admin, Duration::from_secs(5));
    assert_eq!(database_client.transaction(call, steps).await.unwrap_err().kind, FailureKind::SchemaMissing);
    let request = v1::GetTenantRequest { tenant_id: "half".to_owned() };
    assert_eq!(service.admin().get_tenant(request).await.unwrap_err().code(), Code::NotFound);
}

#[tokio::test]
async fn read_only_token_can_read() {
    let database = TestDatabase::test_server().await;
    let (key, _) = {
        let service = TestService::start(&database).await;
        service.issue_key(&service.create_tenant("Acme").await, &[]).await
    };
    std::fs::write(database.token_file(), "reader").unwrap();
    let service = TestService::start(&database).await;
    assert_eq!(service.validate(&key).await.unwrap().verdict(), v1::Verdict::Valid);
    let create = v1::CreateTenantRequest { name: "x".to_owned(), ..Default::default() };
    assert_eq!(service.admin().create_tenant(create).await.unwrap_err().code(), Code::Unavailable);
}

/// If a working token file is overwritten, the old token is used until the new one has worked.
#[tokio::test]
async fn refused_database_token_does_not_replace_working_one() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let create = || v1::CreateTenantRequest { name: "x".to_owned(), ..Default::default() };
    let line = async || {
        let reported =
            http_request(service.running.ops_address().unwrap(), "GET /readyz?verbose").await.unwrap().body;
        reported.lines().find(|line| line.starts_with("files")).unwrap().to_owned()
    };
    for bad in ["wrong", "reader"] {
        std::fs::write(database.token_file(), bad).unwrap();
        service.running.reloader()();
        for _ in 0..3 {
            assert_eq!(service.validate(&unknown_key()).await.unwrap().verdict(), v1::Verdict::Unknown);
            service.admin().create_tenant(create()).await.unwrap();
        }
        let reported = line().await;
        assert!(reported.contains("reload refused for database token"), "{bad}: {reported}");
    }
    assert!(database.server().counters().unauthorized <= 4, "the token is not tried with every call");
    std::fs::write(database.token_file(), "good").unwrap();
    database.server().set_token("good");
    service.running.reloader()();
    assert_eq!(service.validate(&unknown_key()).await.unwrap().verdict(), v1::Verdict::Unknown);
    service.admin().create_tenant(create()).await.unwrap();
    assert_eq!(line().await, "files     in effect");
}

#[tokio::test]
async fn rotated_database_token_is_used_without_restart() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    database.server().set_token("rotated-token");
    assert_eq!(outcome(&service.validate(&unknown_key()).await), "Unavailable");
    std::fs::write(database.token_file(), "rotated-token\n").unwrap();
    assert_eq!(service.validate(&unknown_key()).await.unwrap().verdict(), v1::Verdict::Unknown);
    let info = database.server().counters();
    assert!(info.unauthorized >= 1);
}
