//! `StreamValidateKeys`: answers as they are ready, each to its question, and no more taken in than can be held.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use tenant_auth_proto::v1::{self, Verdict, stream_validate_keys_response::Result as Outcome};
use tenant_auth_svc::domain::clock::SystemClock;
use tenant_auth_testkit::Fault;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;

use crate::{
    cache::patient,
    harness::{Database, Service, strange_key},
};

pub(crate) fn ask(correlation_id: u64, key: &str) -> v1::StreamValidateKeysRequest {
    let request = v1::ValidateKeyRequest { key: key.to_owned(), required_scopes: Vec::new() };
    v1::StreamValidateKeysRequest { correlation_id, request: Some(request) }
}

#[tokio::test]
async fn each_answer_finds_its_question_and_errors_leave_the_stream_open() {
    for database in Database::all().await {
        let service = Service::start(&database).await;
        let (key, _) = service.key(&service.tenant("Acme").await, &[]).await;
        let empty = v1::StreamValidateKeysRequest { correlation_id: 3, request: None };
        let asked = vec![ask(7, &key), ask(1, "!"), empty, ask(9, &strange_key()), ask(8, &key)];
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
async fn an_answer_from_memory_overtakes_one_from_the_database() {
    let database = Database::test_server().await;
    let service = Service::start_with(patient(&database), SystemClock::shared()).await;
    let (known, _) = service.key(&service.tenant("Acme").await, &[]).await;
    service.validate(&known).await.unwrap();
    database.server().faults().set(Fault::Hang);

    let (questions, asked) = mpsc::channel(8);
    questions.send(ask(1, &strange_key())).await.unwrap();
    let answers = service.validation().stream_validate_keys(ReceiverStream::new(asked)).await.unwrap();
    let mut answers = answers.into_inner();
    database.server().wait_for(|counters| counters.open_requests == 1).await;
    questions.send(ask(2, &known)).await.unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().correlation_id, 2);
    database.server().faults().clear();
    assert_eq!(answers.message().await.unwrap().unwrap().correlation_id, 1);
    drop(questions);
    assert!(answers.message().await.unwrap().is_none(), "closed from one side, it ends when all is answered");
}

#[tokio::test]
async fn a_flood_is_held_back_and_every_question_answered_once() {
    const COUNT: u64 = 3_000;
    let database = Database::test_server().await;
    let service = Service::start(&database).await;
    let asked = tokio_stream::iter((0..COUNT).map(|id| ask(id, &strange_key())));
    let answers = service.validation().stream_validate_keys(asked).await.unwrap();
    let mut ids: Vec<_> = answers.into_inner().map(|answer| answer.unwrap().correlation_id).collect().await;
    ids.sort_unstable();
    assert_eq!(ids, (0..COUNT).collect::<Vec<_>>());
    let most = database.server().counters().max_open_requests;
    assert!(most <= 16, "the allowance of keys that are not in memory is 16, seen {most}");
}
