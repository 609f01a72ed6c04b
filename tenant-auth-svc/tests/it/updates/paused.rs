//! Paused keys: on every replica, in an outage, and where they would be used for something new.

use std::time::Duration;

use tenant_auth_proto::v1::{self, SessionExpiry, Verdict};
use tenant_auth_testkit::Fault;
use tonic::Code;

use crate::harness::{
    TestDatabase, TestService, outcome,
    replicas::{Replicas, cached_keys},
    sessions::bind_session,
    updates::{enable, update},
};

/// A paused key is denied on every replica after one poll, with its sessions, and while the database is away.
#[tokio::test]
async fn paused_key_is_denied_on_every_replica_and_in_an_outage() {
    let replicas = Replicas::start().await;
    let [(key, id), _] = cached_keys(&replicas).await;
    bind_session(&replicas.first, "s-1", &key, 3_600, SessionExpiry::Fixed).await.unwrap();
    let session = async |service: &TestService| {
        let request = v1::ValidateSessionRequest { session_id: "s-1".to_owned(), ..Default::default() };
        service.validation().validate_session(request).await.unwrap().into_inner().verdict()
    };
    assert_eq!(session(&replicas.second).await, Verdict::Valid);
    update(&replicas.first, enable(&id, false)).await.unwrap();
    assert_eq!(outcome(&replicas.first.validate(&key).await), "VERDICT_DISABLED", "at once");
    replicas.poll_second().await;
    assert_eq!(replicas.validate_on_second(&key).await.0, Verdict::Disabled);
    assert_eq!(session(&replicas.second).await, Verdict::Disabled);

    replicas.database.server().faults().set(Fault::service_unavailable());
    replicas.clock.advance(Duration::from_secs(600));
    for service in [&replicas.first, &replicas.second] {
        assert_eq!(outcome(&service.validate(&key).await), "VERDICT_DISABLED", "in an outage");
    }
    replicas.database.server().faults().clear();
    replicas.clock.advance(Duration::from_secs(10));
    update(&replicas.first, enable(&id, true)).await.unwrap();
    replicas.poll_second().await;
    assert_eq!(replicas.validate_on_second(&key).await.0, Verdict::Valid);
    assert_eq!(session(&replicas.second).await, Verdict::Valid, "its sessions are valid again");
}

#[tokio::test]
async fn paused_key_opens_no_session_and_cannot_be_rotated() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let (paused, paused_id) = service.issue_key(&tenant, &[]).await;
    let (other, other_id) = service.issue_key(&tenant, &[]).await;
    bind_session(&service, "s-1", &paused, 3_600, SessionExpiry::Fixed).await.unwrap();
    update(&service, enable(&paused_id, false)).await.unwrap();
    let denied = bind_session(&service, "s-2", &paused, 3_600, SessionExpiry::Fixed).await.unwrap();
    assert_eq!((denied.verdict(), denied.session), (Verdict::Disabled, None));
    // The customer goes on with another key.
    let bound = bind_session(&service, "s-1", &other, 3_600, SessionExpiry::Fixed).await.unwrap();
    assert_eq!((bound.already_bound, bound.session.unwrap().key_id), (false, other_id));

    let rotate = v1::RotateKeyRequest { key_id: paused_id, ..Default::default() };
    let refused = service.admin().rotate_key(rotate).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().ends_with("it is disabled"), "{refused:?}");
}
