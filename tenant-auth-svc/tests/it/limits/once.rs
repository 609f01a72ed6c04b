//! Consumption with an id counts once.

use tenant_auth_proto::v1;
use tenant_auth_testkit::Fault;
use tonic::Code;

use crate::harness::{
    TestDatabase, error_reason,
    limits::{
        consumption, count_admitted, limit_client, limit_of, limit_state, per_day, service_with_key,
        store_limit,
    },
};

#[tokio::test]
async fn repeated_id_takes_nothing_again() {
    for database in TestDatabase::all().await {
        let (service, tenant, key, _) = service_with_key(&database).await;
        store_limit(&service, limit_of(&tenant, "requests.daily", per_day(5))).await;
        let once =
            v1::ConsumeRequest { consume_id: "a-1".to_owned(), ..consumption(&key, &[("requests", 2)]) };
        let mut client = limit_client(&service);
        let first = client.consume(once.clone()).await.unwrap().into_inner();
        assert_eq!(
            (first.verdict(), first.already_consumed),
            (v1::Verdict::Valid, false),
            "{}",
            database.name()
        );
        for _ in 0..3 {
            let again = client.consume(once.clone()).await.unwrap().into_inner();
            assert_eq!((again.verdict(), again.already_consumed), (v1::Verdict::Valid, true));
        }
        assert_eq!(count_admitted(&service, &key, 5).await, 3);
        // Also when nothing is left, which the repetition of an admitted request does not need.
        let again = client.consume(once.clone()).await.unwrap().into_inner();
        assert_eq!((again.verdict(), again.already_consumed), (v1::Verdict::Valid, true));
        let other = v1::ConsumeRequest { costs: consumption("", &[("requests", 3)]).costs, ..once };
        let error = client.consume(other).await.unwrap_err();
        assert_eq!((error.code(), error_reason(&error).as_str()), (Code::AlreadyExists, "ID_REUSED"));
    }
}

/// What was set aside for the reused id can be taken at once.
#[tokio::test]
async fn reused_id_takes_nothing_from_what_is_left() {
    let database = TestDatabase::test_server().await;
    let (service, tenant, key, _) = service_with_key(&database).await;
    store_limit(&service, limit_of(&tenant, "requests.daily", per_day(3))).await;
    let consume = async |id: &str, amount| {
        let consume_id = id.to_owned();
        let request = v1::ConsumeRequest { consume_id, ..consumption(&key, &[("requests", amount)]) };
        limit_client(&service).consume(request).await.map(|response| response.into_inner().verdict())
    };
    assert_eq!(consume("c-1", 2).await.unwrap(), v1::Verdict::Valid);
    assert_eq!(consume("c-1", 1).await.unwrap_err().code(), Code::AlreadyExists);
    assert_eq!(consume("c-2", 2).await.unwrap(), v1::Verdict::QuotaExceeded);
    assert_eq!(consume("c-3", 1).await.unwrap(), v1::Verdict::Valid);
    assert_eq!(consume("c-4", 1).await.unwrap(), v1::Verdict::QuotaExceeded);
}

#[tokio::test]
async fn concurrent_requests_with_one_id_take_once() {
    let database = TestDatabase::test_server().await;
    let (service, tenant, key, _) = service_with_key(&database).await;
    store_limit(&service, limit_of(&tenant, "requests.daily", per_day(100))).await;
    let once = v1::ConsumeRequest { consume_id: "b".to_owned(), ..consumption(&key, &[("requests", 10)]) };
    let calls = (0..8).map(|_| {
        let (mut client, once) = (limit_client(&service), once.clone());
        async move { client.consume(once).await.unwrap().into_inner() }
    });
    let responses = futures::future::join_all(calls).await;
    assert!(responses.iter().all(|response| response.verdict() == v1::Verdict::Valid));
    assert_eq!(responses.iter().filter(|response| !response.already_consumed).count(), 1);
    assert_eq!(count_admitted(&service, &key, 100).await, 90);
}

#[tokio::test]
async fn lost_response_to_the_commit_counts_once() {
    let database = TestDatabase::test_server().await;
    let (service, tenant, key, _) = service_with_key(&database).await;
    store_limit(&service, limit_of(&tenant, "requests.daily", per_day(100))).await;
    assert_eq!(count_admitted(&service, &key, 1).await, 1);
    database.server().faults().set_where("INSERT INTO limit_ids", 1, Fault::ResetAfterCommit);
    let once = v1::ConsumeRequest { consume_id: "c".to_owned(), ..consumption(&key, &[("requests", 9)]) };
    let response = limit_client(&service).consume(once).await.unwrap().into_inner();
    assert_eq!((response.verdict(), response.already_consumed), (v1::Verdict::Valid, false));
    service.running.stop().await;
    let after = crate::harness::TestService::start(&database).await;
    let [state] = limit_state(&after, &tenant).await.try_into().unwrap();
    assert_eq!((state.used, state.leased, state.unaccounted), (10, 0, 0), "{state:?}");
}
