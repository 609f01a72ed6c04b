//! Batches and streams of consumption, and sessions.

use futures::StreamExt as _;
use tenant_auth_proto::v1::{self, batch_consume_result, limit_credential::Credential};
use tonic::Code;

use crate::harness::{
    TestDatabase,
    limits::{consumption, limit_client, limit_of, per_day, service_with_key, store_limit},
    sessions::bind_session,
};

#[tokio::test]
async fn entries_of_a_batch_are_decided_in_order_and_fail_alone() {
    let database = TestDatabase::test_server().await;
    let (service, tenant, key, _) = service_with_key(&database).await;
    store_limit(&service, limit_of(&tenant, "requests.daily", per_day(2))).await;
    let good = consumption(&key, &[("requests", 1)]);
    let requests = vec![good.clone(), consumption(&key, &[]), good.clone(), good.clone()];
    let response = limit_client(&service).batch_consume(v1::BatchConsumeRequest { requests }).await.unwrap();
    let results = response.into_inner().results.into_iter().map(|result| match result.result.unwrap() {
        batch_consume_result::Result::Response(response) => response.verdict().as_str_name().to_owned(),
        batch_consume_result::Result::Error(error) => format!("{:?}", Code::from(error.code)),
    });
    let mut results: Vec<_> = results.collect();
    assert_eq!(results.remove(1), "InvalidArgument");
    results.sort();
    assert_eq!(results, ["VERDICT_QUOTA_EXCEEDED", "VERDICT_VALID", "VERDICT_VALID"]);
}

#[tokio::test]
async fn each_message_of_a_stream_is_decided() {
    let database = TestDatabase::test_server().await;
    let (service, tenant, key, _) = service_with_key(&database).await;
    store_limit(&service, limit_of(&tenant, "requests.daily", per_day(5))).await;
    let requests = (0..8).map(|correlation_id| v1::StreamConsumeRequest {
        correlation_id,
        request: Some(consumption(&key, &[("requests", 1)])),
    });
    let requests: Vec<_> = requests.collect();
    let responses = limit_client(&service).stream_consume(futures::stream::iter(requests)).await.unwrap();
    let responses: Vec<_> = responses.into_inner().map(Result::unwrap).collect().await;
    let mut ids: Vec<_> = responses.iter().map(|response| response.correlation_id).collect();
    ids.sort_unstable();
    assert_eq!(ids, (0..8).collect::<Vec<_>>());
    let admitted = responses.iter().filter(|response| match response.result.as_ref().unwrap() {
        v1::stream_consume_response::Result::Response(response) => response.verdict() == v1::Verdict::Valid,
        v1::stream_consume_response::Result::Error(error) => panic!("{error:?}"),
    });
    assert_eq!(admitted.count(), 5);
}

#[tokio::test]
async fn session_takes_from_the_limits_of_its_key() {
    let database = TestDatabase::test_server().await;
    let (service, tenant, key, _) = service_with_key(&database).await;
    store_limit(&service, limit_of(&tenant, "requests.daily", per_day(2))).await;
    bind_session(&service, "session-1", &key, 60, v1::SessionExpiry::Fixed).await.unwrap();
    let session = v1::ValidateSessionRequest { session_id: "session-1".to_owned(), ..Default::default() };
    let request = v1::ConsumeRequest {
        credential: Some(v1::LimitCredential { credential: Some(Credential::Session(session)) }),
        ..consumption(&key, &[("requests", 1)])
    };
    let mut verdicts = Vec::new();
    for _ in 0..3 {
        let response = limit_client(&service).consume(request.clone()).await.unwrap().into_inner();
        assert!(matches!(response.validation, Some(v1::consume_response::Validation::Session(_))));
        verdicts.push(response.verdict());
    }
    assert_eq!(verdicts, [v1::Verdict::Valid, v1::Verdict::Valid, v1::Verdict::QuotaExceeded]);
}
