//! The revision that a replica has applied: it proves that a change holds there.

use std::time::Duration;

use tenant_auth_proto::v1::{self, LookupState, Verdict, info_service_client::InfoServiceClient};
use tenant_auth_testkit::Fault;
use tonic::Status;

use crate::harness::{
    TestDatabase, TestService,
    replicas::{Replicas, cached_keys, replica_state},
    unknown_key, violated_fields,
};

async fn wait_for(
    service: &TestService,
    revision: i64,
    timeout: Option<Duration>,
) -> Result<v1::WaitForRevisionResponse, Status> {
    let timeout = timeout.map(|timeout| timeout.try_into().unwrap());
    let request = v1::WaitForRevisionRequest { revision, timeout };
    Ok(InfoServiceClient::new(service.channel.clone()).wait_for_revision(request).await?.into_inner())
}

async fn revoke(service: &TestService, key_id: &str) -> i64 {
    let request = v1::RevokeKeyRequest { key_id: key_id.to_owned(), reason: "test".to_owned() };
    service.admin().revoke_key(request).await.unwrap().into_inner().revision
}

/// A replica that has not read the change does not confirm it; one that confirms it denies the key.
#[tokio::test]
async fn confirmed_revision_is_applied() {
    let replicas = Replicas::start().await;
    let [(key, id), _] = cached_keys(&replicas).await;
    let revision = revoke(&replicas.first, &id).await;
    let behind = wait_for(&replicas.second, revision, Some(Duration::ZERO)).await.unwrap();
    assert!(!behind.applied && behind.replica.unwrap().applied_revision < revision);
    assert_eq!(replicas.validate_on_second(&key).await.0, Verdict::Valid, "it has not read the change");

    let waiting = wait_for(&replicas.second, revision, Some(Duration::from_secs(10)));
    let polling = async {
        replicas.poll_second().await;
    };
    let (confirmed, ()) = tokio::join!(waiting, polling);
    let confirmed = confirmed.unwrap();
    assert!(confirmed.applied && confirmed.replica.unwrap().applied_revision >= revision);
    assert_eq!(replicas.validate_on_second(&key).await.0, Verdict::Revoked);
    assert!(wait_for(&replicas.second, revision, None).await.unwrap().applied, "at once");
}

#[tokio::test]
async fn replica_reports_how_old_its_answers_may_be() {
    let replicas = Replicas::start().await;
    let [(key, id), _] = cached_keys(&replicas).await;
    assert_eq!(replicas.validate_on_second(&key).await.0, Verdict::Valid);
    let healthy = replica_state(&replicas.second).await;
    assert_eq!((healthy.lookups(), healthy.max_answer_age.unwrap().seconds), (LookupState::Healthy, 6));

    replicas.clock.advance(Duration::from_secs(2));
    let silent = replica_state(&replicas.second).await;
    assert_eq!((silent.lookups(), silent.max_answer_age.unwrap().seconds), (LookupState::FeedSilent, 6));

    let revision = revoke(&replicas.first, &id).await;
    replicas.database.server().faults().set(Fault::service_unavailable());
    replicas.clock.advance(Duration::from_secs(30));
    for _ in 0..30 {
        let _ = replicas.second.validate(&unknown_key()).await;
    }
    let cut_off = wait_for(&replicas.second, revision, Some(Duration::ZERO)).await.unwrap();
    let state = cut_off.replica.unwrap();
    assert_eq!((cut_off.applied, state.lookups()), (false, LookupState::BreakerOpen));
    assert_eq!(state.max_answer_age.unwrap().seconds, 4 * 60 * 60, "the outage grace");
    assert_eq!(replicas.validate_on_second(&key).await.0, Verdict::Valid, "as it says");
    let oldest = replica_state(&replicas.second).await.oldest_answer_age.unwrap();
    assert_eq!(oldest.seconds, 32);
}

#[tokio::test]
async fn invalid_wait_names_its_fields() {
    let service = TestService::start(&TestDatabase::test_server().await).await;
    for (revision, timeout, expected) in
        [(0, None, "revision"), (-1, None, "revision"), (1, Some(Duration::from_secs(11)), "timeout")]
    {
        assert_eq!(violated_fields(wait_for(&service, revision, timeout).await.unwrap_err()), [expected]);
    }
}
