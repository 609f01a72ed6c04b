//! `StreamValidateKeys`: each response is sent as soon as it is ready, with the id of its query, and the
//! server accepts no more queries than it can hold.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use tenant_auth_proto::v1::{self, Verdict, stream_validate_keys_response::Result as Outcome};
use tenant_auth_svc::domain::clock::SystemClock;
use tenant_auth_testkit::Fault;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::harness::{TestDatabase, TestService, settings_with_long_timeouts, stream_request, unknown_key};

#[tokio::test]
async fn stream_matches_answers_to_requests_and_survives_errors() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
        let empty = v1::StreamValidateKeysRequest { correlation_id: 3, request: None };
        let asked = vec![
            stream_request(7, &key),
            stream_request(1, "!"),
            empty,
            stream_request(9, &unknown_key()),
            stream_request(8, &key),
        ];
        let answers = service.validation().stream_validate_keys(tokio_stream::iter(asked)).await.unwrap();
        let answers: BTreeMap<_, _> = answers
            .into_inner()
            .map(|answer| {
                let answer = answer.unwrap();
                (answer.correlation_id, answer.result.unwrap())
            })
            .collect()
            .await;
        let verdict = |id| match &answers[&id] {
            Outcome::Response(response) => response.verdict(),
            Outcome::Error(error) => panic!("{error:?}"),
        };
        assert_eq!(answers.len(), 5);
        assert_eq!((verdict(7), verdict(8)), (Verdict::Valid, Verdict::Valid));
        assert_eq!((verdict(1), verdict(9)), (Verdict::Malformed, Verdict::Unknown));
        assert!(
            matches!(&answers[&3], Outcome::Error(error) if error.code == i32::from(Code::InvalidArgument))
        );
    }
}

#[tokio::test]
async fn cached_answer_overtakes_database_answer_on_stream() {
    let database = TestDatabase::test_server().await;
    let service =
        TestService::start_with(settings_with_long_timeouts(&database), SystemClock::shared()).await;
    let (known, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    service.validate(&known).await.unwrap();
    database.server().faults().set(Fault::Hang);

    let (sender, asked) = mpsc::channel(8);
    sender.send(stream_request(1, &unknown_key())).await.unwrap();
    let answers = service.validation().stream_validate_keys(ReceiverStream::new(asked)).await.unwrap();
    let mut answers = answers.into_inner();
    database.server().wait_for(|counters| counters.open_requests == 1).await;
    sender.send(stream_request(2, &known)).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().correlation_id, 2);
    database.server().faults().clear();
    assert_eq!(answers.message().await.unwrap().unwrap().correlation_id, 1);
    drop(sender);
    assert!(answers.message().await.unwrap().is_none(), "a half-closed stream ends after the last response");
}

#[tokio::test]
async fn stream_applies_backpressure_and_answers_each_request_once() {
    const REQUEST_COUNT: u64 = 3_000;
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let asked = tokio_stream::iter((0..REQUEST_COUNT).map(|id| stream_request(id, &unknown_key())));
    let answers = service.validation().stream_validate_keys(asked).await.unwrap();
    let mut ids: Vec<_> = answers.into_inner().map(|answer| answer.unwrap().correlation_id).collect().await;
    ids.sort_unstable();
    assert_eq!(ids, (0..REQUEST_COUNT).collect::<Vec<_>>());
    let most = database.server().counters().max_open_requests;
    assert!(most <= 16, "at most 16 uncached keys may be in flight, found {most}");
}
