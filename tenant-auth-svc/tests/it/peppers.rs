//! Peppers that are added and removed while replicas run: a key issued by one replica must be found by the
//! others, or be reported as undecided.

use std::collections::BTreeMap;

use tempfile::TempDir;
use tenant_auth_proto::v1::{self, Verdict, batch_validate_keys_result::Result as Outcome};
use tenant_auth_svc::{config::Settings, database::migrate, domain::clock::SystemClock, server::StartError};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{TestDatabase, TestService, error_reason, http_request, unknown_key};

const OLD_PEPPER: &str = "old oooooooooooooooooooooooooooooooo";
const NEW_PEPPER: &str = "new nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn";

/// A replica with its own pepper file.
struct Replica {
    service: TestService,
    _folder: TempDir,
}

fn settings(database: &TestDatabase, folder: &TempDir, lines: &str) -> Settings {
    let path = folder.path().join("peppers");
    std::fs::write(&path, lines).unwrap();
    database.settings().with_flag("TENANT_AUTH_PEPPER_FILE", Some(path.display().to_string()))
}

impl Replica {
    async fn start(database: &TestDatabase, lines: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(database, &folder, lines);
        Self { service: TestService::start_with(settings, SystemClock::shared()).await, _folder: folder }
    }

    async fn readyz(&self) -> String {
        let ops = self.service.running.ops_address().unwrap();
        let reported = http_request(ops, "GET /readyz?verbose").await.unwrap().body;
        reported.lines().find(|line| line.starts_with("peppers ")).unwrap().to_owned()
    }

    async fn pepper_metrics(&self) -> String {
        let reported =
            http_request(self.service.running.ops_address().unwrap(), "GET /metrics").await.unwrap().body;
        reported.lines().find(|line| line.starts_with("tenant_auth_pepper_missing ")).unwrap().to_owned()
    }
}

#[track_caller]
fn assert_unavailable_for_pepper(answer: Result<v1::ValidateKeyResponse, Status>) {
    let status = answer.expect_err("the key may be stored under a pepper that this replica lacks");
    assert_eq!((status.code(), &*error_reason(&status)), (Code::Unavailable, "DATABASE_PEPPER_MISSING"));
    assert!(status.get_error_details().retry_info().is_some());
}

/// Applies each file of the documented rotation to one replica after the other. After each step both replicas
/// issue keys, and each validates every key that either has issued.
#[tokio::test]
async fn pepper_rotation_makes_no_live_key_unknown() {
    let database = TestDatabase::test_server().await;
    let steps = [
        format!("issue {OLD_PEPPER}\n"),
        format!("issue {OLD_PEPPER}\naccept {NEW_PEPPER}\n"),
        format!("accept {OLD_PEPPER}\nissue {NEW_PEPPER}\n"),
        format!("issue {NEW_PEPPER}\n"),
    ];
    let mut one = Replica::start(&database, &steps[0]).await;
    let mut two = Replica::start(&database, &steps[0]).await;
    let tenant = one.service.create_tenant("Acme").await;
    let mut keys = BTreeMap::new();
    for (number, step) in steps.iter().enumerate() {
        if number == steps.len() - 1 {
            // The old pepper may be removed: all its remaining keys have expired or were revoked.
            database.server().execute("UPDATE api_keys SET expires_at = 1 WHERE pepper_id = 'old'").unwrap();
            let some = "UPDATE api_keys SET revoked_at = 1, expires_at = NULL \
                        WHERE id = (SELECT max(id) FROM api_keys WHERE pepper_id = 'old')";
            database.server().execute(some).unwrap();
            keys.retain(|_, pepper| pepper != "\"old\"");
            assert!(!keys.is_empty());
        }
        for first in [true, false] {
            let replica = if first { &mut one } else { &mut two };
            *replica = Replica::start(&database, step).await;
            for issuer in [&one, &two] {
                let (key, id) = issuer.service.issue_key(&tenant, &[]).await;
                let pepper = format!("SELECT pepper_id FROM api_keys WHERE id = '{id}'");
                keys.insert(key, database.server().query(&pepper).unwrap()[0][0]["value"].to_string());
            }
            for key in keys.keys() {
                for replica in [&one, &two] {
                    let verdict = replica.service.validate(key).await.unwrap().verdict();
                    assert_eq!(verdict, Verdict::Valid, "step {number}, first of both: {first}");
                }
            }
        }
    }
    assert_eq!(one.service.validate(&unknown_key()).await.unwrap().verdict(), Verdict::Unknown);
}

#[tokio::test]
async fn replica_missing_a_pepper_never_answers_unknown() {
    let database = TestDatabase::test_server().await;
    let (behind, rotated) = (
        Replica::start(&database, &format!("issue {OLD_PEPPER}")).await,
        Replica::start(&database, &format!("accept {OLD_PEPPER}\nissue {NEW_PEPPER}")).await,
    );
    let tenant = rotated.service.create_tenant("Acme").await;
    let (found, _) = behind.service.issue_key(&tenant, &[]).await;
    assert_eq!(behind.service.validate(&unknown_key()).await.unwrap().verdict(), Verdict::Unknown);
    assert_eq!(behind.readyz().await, "peppers   none is missing");

    let (hidden, hidden_id) = rotated.service.issue_key(&tenant, &[]).await;
    assert_unavailable_for_pepper(behind.service.validate(&hidden).await);
    assert_unavailable_for_pepper(behind.service.validate(&unknown_key()).await);
    assert_eq!(behind.service.validate(&found).await.unwrap().verdict(), Verdict::Valid);
    assert_eq!(behind.service.validate("!").await.unwrap().verdict(), Verdict::Malformed);
    let reported = behind.readyz().await;
    assert!(reported.contains("new is missing here") && reported.contains("UNAVAILABLE"), "{reported}");
    assert_eq!(behind.pepper_metrics().await, "tenant_auth_pepper_missing 1");
    assert_eq!(rotated.pepper_metrics().await, "tenant_auth_pepper_missing 0");

    // Each key of a batch is decided separately.
    let request = |key: &str| v1::ValidateKeyRequest {
        key: key.to_owned(),
        required_scopes: Vec::new(),
        ..Default::default()
    };
    let batch = v1::BatchValidateKeysRequest { requests: vec![request(&found), request(&hidden)] };
    let results = behind.service.validation().batch_validate_keys(batch).await.unwrap().into_inner().results;
    assert!(
        matches!(&results[0].result, Some(Outcome::Response(answer)) if answer.verdict() == Verdict::Valid)
    );
    assert!(
        matches!(&results[1].result, Some(Outcome::Error(error)) if error.code == i32::from(Code::Unavailable))
    );

    // No live key remains under this pepper.
    rotated.service.revoke_key(&hidden_id).await;
    assert_eq!(behind.service.validate(&unknown_key()).await.unwrap().verdict(), Verdict::Unknown);
    assert_eq!(behind.readyz().await, "peppers   none is missing");
}

#[tokio::test]
async fn replica_without_peppers_never_answers_unknown() {
    let database = TestDatabase::test_server().await;
    let plain = TestService::start(&database).await;
    let peppered = Replica::start(&database, &format!("issue {NEW_PEPPER}")).await;
    let (hidden, _) = peppered.service.issue_key(&plain.create_tenant("Acme").await, &[]).await;
    assert_unavailable_for_pepper(plain.validate(&hidden).await);
}

#[tokio::test]
async fn start_without_needed_pepper_names_file_and_missing_line() {
    let database = TestDatabase::test_server().await;
    let first = Replica::start(&database, &format!("issue {OLD_PEPPER}")).await;
    let (_, id) = first.service.issue_key(&first.service.create_tenant("Acme").await, &[]).await;
    let folder = tempfile::tempdir().unwrap();
    let settings = || settings(&database, &folder, &format!("issue {NEW_PEPPER}"));
    let mut service = TestService::start_unready(settings(), SystemClock::shared()).await;
    let Err(StartError::Schema(refused)) = service.running.wait_until_ready().await else {
        panic!("the start must fail")
    };
    let reported = refused.to_string();
    let path = folder.path().join("peppers").display().to_string();
    assert!(reported.contains("`accept old <secret>`") && reported.contains(&path), "{reported}");

    // A key that has expired by the database's clock has expired, whatever the service's clock shows.
    let expire = format!("UPDATE api_keys SET expires_at = 1 WHERE id = '{id}'");
    database.server().execute(&expire).unwrap();
    TestService::start_with(settings(), SystemClock::shared()).await;
}

/// With a changed secret, the replica would find none of the keys that others issue under this id, and they
/// would find none of its keys.
#[tokio::test]
async fn start_with_changed_pepper_secret_is_refused() {
    let database = TestDatabase::test_server().await;
    Replica::start(&database, &format!("issue {OLD_PEPPER}")).await;
    Replica::start(&database, &format!("issue {OLD_PEPPER}\naccept {NEW_PEPPER}")).await;
    let (folder, other) = (tempfile::tempdir().unwrap(), "p".repeat(32));
    for lines in [format!("issue old {other}"), format!("issue none\naccept new {other}")] {
        let settings = settings(&database, &folder, &lines);
        let mut service = TestService::start_unready(settings, SystemClock::shared()).await;
        let Err(StartError::Schema(refused)) = service.running.wait_until_ready().await else {
            panic!("{lines}")
        };
        let reported = refused.to_string();
        let path = folder.path().join("peppers").display().to_string();
        assert!(
            reported.contains("differs from the one")
                && reported.contains(&path)
                && !reported.contains(&other),
            "{reported}"
        );
    }
}

#[tokio::test]
async fn read_only_token_suffices_to_start_with_new_pepper() {
    let database = TestDatabase::test_server().await;
    TestService::start(&database).await;
    std::fs::write(database.token_file(), "reader").unwrap();
    let replica = Replica::start(&database, &format!("issue none\naccept {NEW_PEPPER}")).await;
    assert_eq!(replica.service.validate(&unknown_key()).await.unwrap().verdict(), Verdict::Unknown);
}

/// A lookup must not read the thousands of keys that expired under a removed pepper.
#[tokio::test]
async fn keys_expired_under_missing_pepper_are_skipped_by_index() {
    let database = TestDatabase::test_server().await;
    migrate::migrate(&database.client(), &SystemClock::shared()).await.unwrap();
    let server = database.server();
    let plan = server
        .query(
            "EXPLAIN QUERY PLAN SELECT 1 FROM api_keys AS live WHERE live.pepper_id = 'x' \
             AND live.revoked_at IS NULL AND live.expires_at > 5",
        )
        .unwrap();
    let plan = format!("{plan:?}");
    assert!(plan.contains("api_keys_by_pepper (pepper_id=? AND expires_at>?)"), "{plan}");
}
