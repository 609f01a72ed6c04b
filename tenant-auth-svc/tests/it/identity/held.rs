//! Ends that were known before a database was rolled back hold against it.

use std::time::Duration;

use tenant_auth_proto::v1::{self, DatabaseDoubt, Verdict, held_end::Subject};
use tenant_auth_testkit::Fault;
use tonic::Code;

use super::{accept, all_look, known_keys, state};
use crate::{freshness::Replicas, harness::outcome};

/// Revokes a key, and has the database rolled back to before that, and accepted.
async fn lose_a_revocation(replicas: &Replicas, key_id: &str) {
    let backup = replicas.database.server().backup().unwrap();
    replicas.one.revoke(key_id).await;
    replicas.one.hears().await;
    replicas.two_hears().await;
    replicas.database.server().restore(&backup).await.unwrap();
    all_look(replicas).await;
    accept(&replicas.two).await;
}

#[tokio::test]
async fn revocations_survive_a_rollback_that_is_accepted() {
    let replicas = Replicas::start().await;
    let [(good, _), (revoked, revoked_id)] = known_keys(&replicas).await;
    let backup = replicas.database.server().backup().unwrap();
    let (lost, _) = replicas.one.key(&replicas.tenant, &[]).await;
    replicas.one.revoke(&revoked_id).await;
    replicas.one.hears().await;
    replicas.two_hears().await;
    assert_eq!(replicas.two_says(&lost).await.0, Verdict::Valid);
    replicas.database.server().restore(&backup).await.unwrap();
    all_look(&replicas).await;

    let accepted = accept(&replicas.two).await;
    let held: Vec<_> = accepted.held.iter().map(|held| held.subject.clone().unwrap()).collect();
    assert_eq!(held, [Subject::KeyId(revoked_id.clone())], "what is to be made again");
    assert!(accepted.held[0].revoked_at.is_some());
    // The other one sees it by itself, with its next reading.
    replicas.one.hears().await;
    for service in [&replicas.one, &replicas.two] {
        assert_eq!(state(service).await.doubt(), DatabaseDoubt::Unspecified);
        assert_eq!(outcome(&service.validate(&good).await), "VERDICT_VALID");
        assert_eq!(
            outcome(&service.validate(&lost).await),
            "VERDICT_UNKNOWN",
            "what the backup lacks is gone"
        );
        for _ in 0..3 {
            assert_eq!(
                outcome(&service.validate(&revoked).await),
                "VERDICT_REVOKED",
                "held against the database"
            );
            replicas.clock.advance(Duration::from_secs(100));
        }
        assert_eq!(state(service).await.held.len(), 1);
    }
    // Made again, it is the database's again.
    replicas.one.revoke(&revoked_id).await;
    replicas.one.hears().await;
    replicas.two_hears().await;
    for service in [&replicas.one, &replicas.two] {
        assert!(state(service).await.held.is_empty());
        assert_eq!(outcome(&service.validate(&revoked).await), "VERDICT_REVOKED");
    }
    let audit = v1::ListAuditEventsRequest::default();
    let events = replicas.one.admin().list_audit_events(audit).await.unwrap().into_inner().events;
    assert!(events.iter().any(|event| event.action == "database.accept"), "{events:?}");
}

/// Whoever makes a held end again, as it is asked to, may meet a database that takes no changes yet.
#[tokio::test]
async fn a_held_end_outlives_an_attempt_to_make_it_again_that_fails() {
    let replicas = Replicas::start().await;
    let [_, (revoked, revoked_id)] = known_keys(&replicas).await;
    lose_a_revocation(&replicas, &revoked_id).await;

    replicas.database.server().faults().set_writes(Fault::blocked());
    let again = v1::RevokeKeyRequest { key_id: revoked_id, reason: "again".to_owned() };
    assert_eq!(replicas.two.admin().revoke_key(again).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(outcome(&replicas.two.validate(&revoked).await), "VERDICT_REVOKED");
}

/// A key that was replaced, and then revoked, is again one that was replaced only: nobody can rotate it, and who tries to has
/// changed nothing.
#[tokio::test]
async fn a_held_end_outlives_a_rotation_that_is_refused() {
    let replicas = Replicas::start().await;
    let [_, (revoked, revoked_id)] = known_keys(&replicas).await;
    let rotate = v1::RotateKeyRequest { key_id: revoked_id.clone(), ..Default::default() };
    replicas.one.admin().rotate_key(rotate.clone()).await.unwrap();
    lose_a_revocation(&replicas, &revoked_id).await;

    let refused = replicas.two.admin().rotate_key(rotate).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(outcome(&replicas.two.validate(&revoked).await), "VERDICT_REVOKED");
}

/// What both databases have in common when the first one is accepted may be missing from the second one.
#[tokio::test]
async fn revocations_survive_a_second_rollback_to_before_the_first() {
    let replicas = Replicas::start().await;
    let [_, (revoked, revoked_id)] = known_keys(&replicas).await;
    let server = replicas.database.server();
    let before = server.backup().unwrap();
    replicas.one.revoke(&revoked_id).await;
    let after = server.backup().unwrap();
    for backup in [after, before] {
        replicas.one.key(&replicas.tenant, &[]).await;
        replicas.one.hears().await;
        replicas.two_hears().await;
        server.restore(&backup).await.unwrap();
        all_look(&replicas).await;
        accept(&replicas.two).await;
        replicas.one.hears().await;
        for service in [&replicas.one, &replicas.two] {
            assert_eq!(outcome(&service.validate(&revoked).await), "VERDICT_REVOKED");
        }
    }
}
