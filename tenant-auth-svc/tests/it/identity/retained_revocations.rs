//! Revocations known before a database was rolled back are held against it.

use std::time::Duration;

use tenant_auth_proto::v1::{self, DatabaseDistrustReason, Verdict, retained_revocation::Subject};
use tenant_auth_testkit::Fault;
use tonic::Code;

use crate::harness::{
    outcome,
    replicas::{Replicas, accept_database, cached_keys, database_state, poll_until_noticed},
};

/// Revokes a key, rolls the database back to before that, and accepts it.
async fn revoke_then_roll_back(replicas: &Replicas, key_id: &str) {
    let backup = replicas.database.server().backup().unwrap();
    replicas.first.revoke_key(key_id).await;
    replicas.first.poll_feed().await;
    replicas.poll_second().await;
    replicas.database.server().restore(&backup).await.unwrap();
    poll_until_noticed(replicas).await;
    accept_database(&replicas.second).await;
}

#[tokio::test]
async fn revocations_survive_accepted_rollback() {
    let replicas = Replicas::start().await;
    let [(good, _), (revoked, revoked_id)] = cached_keys(&replicas).await;
    let backup = replicas.database.server().backup().unwrap();
    let (lost, _) = replicas.first.issue_key(&replicas.tenant, &[]).await;
    replicas.first.revoke_key(&revoked_id).await;
    replicas.first.poll_feed().await;
    replicas.poll_second().await;
    assert_eq!(replicas.validate_on_second(&lost).await.0, Verdict::Valid);
    replicas.database.server().restore(&backup).await.unwrap();
    poll_until_noticed(&replicas).await;

    let accepted = accept_database(&replicas.second).await;
    let retained: Vec<_> =
        accepted.retained_revocations.iter().map(|retained| retained.subject.clone().unwrap()).collect();
    assert_eq!(retained, [Subject::KeyId(revoked_id.clone())], "the revocations to repeat");
    assert!(accepted.retained_revocations[0].revoked_at.is_some());
    // The other replica learns it from its next poll.
    replicas.first.poll_feed().await;
    for service in [&replicas.first, &replicas.second] {
        assert_eq!(database_state(service).await.distrust_reason(), DatabaseDistrustReason::Unspecified);
        assert_eq!(outcome(&service.validate(&good).await), "VERDICT_VALID");
        assert_eq!(
            outcome(&service.validate(&lost).await),
            "VERDICT_UNKNOWN",
            "keys missing from the backup no longer exist"
        );
        for _ in 0..3 {
            assert_eq!(
                outcome(&service.validate(&revoked).await),
                "VERDICT_REVOKED",
                "the revocation is held against the database"
            );
            replicas.clock.advance(Duration::from_secs(100));
        }
        assert_eq!(database_state(service).await.retained_revocations.len(), 1);
    }
    // Once repeated, the revocation is in the database again.
    replicas.first.revoke_key(&revoked_id).await;
    replicas.first.poll_feed().await;
    replicas.poll_second().await;
    for service in [&replicas.first, &replicas.second] {
        assert!(database_state(service).await.retained_revocations.is_empty());
        assert_eq!(outcome(&service.validate(&revoked).await), "VERDICT_REVOKED");
    }
    let audit = v1::ListAuditEventsRequest::default();
    let events = replicas.first.admin().list_audit_events(audit).await.unwrap().into_inner().events;
    assert!(events.iter().any(|event| event.action == "database.accept"), "{events:?}");
}

/// Repeating a retained revocation, as requested, may fail because the database accepts no writes yet.
/// A key that was paused because it leaked must not come back with a backup.
#[tokio::test]
async fn paused_key_stays_denied_after_accepted_rollback() {
    let replicas = Replicas::start().await;
    let [_, (paused, paused_id)] = cached_keys(&replicas).await;
    let backup = replicas.database.server().backup().unwrap();
    let update = |enabled| v1::UpdateKeyRequest {
        key_id: paused_id.clone(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["enabled".to_owned()] }),
        enabled,
        ..Default::default()
    };
    replicas.first.admin().update_key(update(false)).await.unwrap();
    replicas.first.poll_feed().await;
    replicas.poll_second().await;
    replicas.database.server().restore(&backup).await.unwrap();
    poll_until_noticed(&replicas).await;
    let accepted = accept_database(&replicas.second).await;
    let retained = accepted.retained_revocations.into_iter().map(|retained| retained.subject.unwrap());
    assert_eq!(retained.collect::<Vec<_>>(), [Subject::DisabledKeyId(paused_id.clone())]);
    replicas.first.poll_feed().await;
    for service in [&replicas.first, &replicas.second] {
        assert_eq!(outcome(&service.validate(&paused).await), "VERDICT_DISABLED");
    }
    // A later change of the key is in the database, which then decides.
    replicas.first.admin().update_key(update(false)).await.unwrap();
    replicas.first.admin().update_key(update(true)).await.unwrap();
    replicas.first.poll_feed().await;
    replicas.poll_second().await;
    for service in [&replicas.first, &replicas.second] {
        assert_eq!(outcome(&service.validate(&paused).await), "VERDICT_VALID");
    }
}

#[tokio::test]
async fn retained_revocation_survives_failed_attempt_to_repeat_it() {
    let replicas = Replicas::start().await;
    let [_, (revoked, revoked_id)] = cached_keys(&replicas).await;
    revoke_then_roll_back(&replicas, &revoked_id).await;

    replicas.database.server().faults().set_writes(Fault::blocked());
    let again = v1::RevokeKeyRequest { key_id: revoked_id, reason: "again".to_owned() };
    assert_eq!(replicas.second.admin().revoke_key(again).await.unwrap_err().code(), Code::Unavailable);
    assert_eq!(outcome(&replicas.second.validate(&revoked).await), "VERDICT_REVOKED");
}

/// A key that was rotated and then revoked is only rotated after the rollback. It cannot be rotated again,
/// and a rejected attempt changes nothing.
#[tokio::test]
async fn retained_revocation_survives_refused_rotation() {
    let replicas = Replicas::start().await;
    let [_, (revoked, revoked_id)] = cached_keys(&replicas).await;
    let rotate = v1::RotateKeyRequest { key_id: revoked_id.clone(), ..Default::default() };
    replicas.first.admin().rotate_key(rotate.clone()).await.unwrap();
    revoke_then_roll_back(&replicas, &revoked_id).await;

    let refused = replicas.second.admin().rotate_key(rotate).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(outcome(&replicas.second.validate(&revoked).await), "VERDICT_REVOKED");
}

/// A position that both databases shared when the first one was accepted may be missing from the second one.
#[tokio::test]
async fn revocations_survive_second_earlier_rollback() {
    let replicas = Replicas::start().await;
    let [_, (revoked, revoked_id)] = cached_keys(&replicas).await;
    let server = replicas.database.server();
    let before = server.backup().unwrap();
    replicas.first.revoke_key(&revoked_id).await;
    let after = server.backup().unwrap();
    for backup in [after, before] {
        replicas.first.issue_key(&replicas.tenant, &[]).await;
        replicas.first.poll_feed().await;
        replicas.poll_second().await;
        server.restore(&backup).await.unwrap();
        poll_until_noticed(&replicas).await;
        accept_database(&replicas.second).await;
        replicas.first.poll_feed().await;
        for service in [&replicas.first, &replicas.second] {
            assert_eq!(outcome(&service.validate(&revoked).await), "VERDICT_REVOKED");
        }
    }
}
