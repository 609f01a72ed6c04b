//! Several replicas, retries, TLS, and caller tokens.

use std::time::Duration;

use tenant_auth_client::{CallerToken, Client, Error, PresentedKey, Tls};
use tonic::{
    Code, Status,
    transport::{Certificate, Identity, ServerTlsConfig},
};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::harness::{
    Pair, SECOND,
    server::{FakeServer, valid},
    until_async,
};

const CA: &str = include_str!("tls/ca.pem");
const SERVER: (&str, &str) = (include_str!("tls/server.pem"), include_str!("tls/server.key"));
const CLIENT: (&str, &str) = (include_str!("tls/client.pem"), include_str!("tls/client.key"));

async fn ask(client: &Client) -> Result<bool, Error> {
    client.validate(&PresentedKey::new("k"), &[]).await.map(|validation| validation.is_valid())
}

async fn replica() -> FakeServer {
    let fake = FakeServer::start().await;
    fake.answer("k", valid("k"));
    fake
}

fn client_of(endpoints: &[&FakeServer]) -> Client {
    let builder = Client::builder(endpoints[0].endpoint()).timeout(SECOND * 60).without_near_cache();
    let more = endpoints[1..].iter().map(|fake| fake.endpoint());
    more.fold(builder, |builder, endpoint| builder.endpoint(endpoint)).connect_lazy().unwrap()
}

#[tokio::test]
async fn transient_failures_are_retried_and_answers_are_not() {
    let pair = Pair::with(|builder| builder.without_near_cache()).await;
    pair.fake.answer("k", valid("k"));
    pair.fake.fail(Status::unavailable("the database is unreachable"));
    let soon = ErrorDetails::with_retry_info(Some(Duration::from_millis(1)));
    pair.fake.fail(Status::with_error_details(Code::ResourceExhausted, "busy", soon));
    assert!(ask(&pair.client).await.unwrap());
    assert_eq!(pair.fake.asked(), 3);
    // A denial is an answer, and these errors are permanent.
    assert!(!pair.validate("stranger", &[]).await.is_valid());
    assert_eq!(pair.fake.asked(), 4);
    for status in
        [Status::resource_exhausted("full"), Status::internal("defect"), Status::invalid_argument("no")]
    {
        pair.fake.fail(status);
        ask(&pair.client).await.unwrap_err();
    }
    assert_eq!(pair.fake.asked(), 7);
}

#[tokio::test]
async fn calls_rotate_over_all_endpoints() {
    let replicas = [replica().await, replica().await, replica().await];
    let client = client_of(&replicas.each_ref());
    // All replicas are connected once each has received a request.
    until_async(async || {
        ask(&client).await.unwrap();
        replicas.iter().all(|replica| replica.asked() > 0)
    })
    .await;
    let before = replicas.each_ref().map(FakeServer::asked);
    for _ in 0..30 {
        assert!(ask(&client).await.unwrap());
    }
    let after = replicas.each_ref().map(FakeServer::asked);
    assert_eq!([0, 1, 2].map(|index| after[index] - before[index]), [10, 10, 10]);
}

#[tokio::test]
async fn calls_rotate_over_all_addresses_of_a_name() {
    let replica = replica().await;
    let endpoint = format!("http://localhost:{}", replica.address().port());
    let client = Client::builder(endpoint).timeout(SECOND * 60).without_near_cache().connect().await.unwrap();
    // If the name also resolves to ::1, there is no listener at that address.
    for _ in 0..4 {
        assert!(ask(&client).await.unwrap());
    }
    assert_eq!(replica.asked(), 4);
}

#[tokio::test]
async fn replica_failure_is_masked_by_others() {
    let (mut first, second) = (replica().await, replica().await);
    let client = client_of(&[&first, &second]);
    until_async(async || {
        ask(&client).await.unwrap();
        first.asked() > 0 && second.asked() > 0
    })
    .await;
    first.kill().await;
    let before = second.asked();
    for _ in 0..20 {
        assert!(ask(&client).await.unwrap());
    }
    assert_eq!(second.asked(), before + 20);
}

#[tokio::test]
async fn caller_token_is_sent_and_redacted() {
    let token = CallerToken::fixed("canary");
    let pair = Pair::with(|builder| builder.caller_token(token)).await;
    pair.fake.answer("k", valid("k"));
    assert!(ask(&pair.client).await.unwrap());
    assert_eq!(pair.fake.authorization().as_deref(), Some("Bearer canary"));
    assert!(!format!("{:?}", pair.client).contains("canary"));
    let unreadable = Client::builder("http://host:1").caller_token(CallerToken::file("/nowhere/token"));
    assert!(matches!(unreadable.connect_lazy(), Err(Error::Setup { .. })));
}

#[tokio::test]
async fn tls_verifies_both_sides() {
    let identity = Identity::from_pem(SERVER.0, SERVER.1);
    let tls = ServerTlsConfig::new().identity(identity).client_ca_root(Certificate::from_pem(CA));
    let fake = FakeServer::with_tls(tls).await;
    fake.answer("k", valid("k"));
    let ask = async |tls: Tls| {
        let endpoint = format!("https://localhost:{}", fake.address().port());
        let builder = Client::builder(endpoint).timeout(SECOND * 60).without_near_cache().tls(tls);
        ask(&builder.connect_lazy().unwrap()).await
    };
    let known = || Tls::new().root(CA);
    assert!(ask(known().identity(CLIENT.0, CLIENT.1)).await.unwrap());
    for tls in [known(), Tls::new().identity(CLIENT.0, CLIENT.1)] {
        let printed = format!("{tls:?}");
        assert!(!printed.contains("KEY"), "{printed}");
        let error = ask(tls).await.unwrap_err();
        assert!(matches!(error, Error::Unreachable { .. }), "{error:?}");
    }
    assert_eq!(fake.asked(), 1);
}
