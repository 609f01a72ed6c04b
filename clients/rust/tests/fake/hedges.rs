//! Hedging, with replicas that respond when the test allows it.

use std::time::Duration;

use tenant_auth_client::{Client, Error, PresentedKey};
use tonic::Status;

use crate::harness::{
    SECOND,
    server::{FakeServer, valid},
    until, until_async,
};

/// Long enough that a healthy replica is not hedged, even on a busy machine.
const HEDGE_AFTER: Duration = Duration::from_millis(500);

/// Two replicas and a client that is connected to both, with a short hedge delay.
struct TwoReplicas {
    replicas: [FakeServer; 2],
    client: Client,
    asked: u32,
}

impl TwoReplicas {
    async fn start() -> Self {
        let replicas = [FakeServer::start().await, FakeServer::start().await];
        for replica in &replicas {
            replica.answer("k", valid("k"));
        }
        let [first, second] = replicas.each_ref().map(FakeServer::endpoint);
        let client = Client::builder(format!("{first},{second}")).timeout(SECOND * 60).without_near_cache();
        let client = client.hedge_after(HEDGE_AFTER).connect_lazy().unwrap();
        until_async(async || {
            ask(client.clone()).await.unwrap() && replicas.iter().all(|replica| replica.asked() > 0)
        })
        .await;
        let asked = replicas.iter().map(FakeServer::asked).sum();
        Self { replicas, client, asked }
    }

    fn hold(&self, held: bool) {
        self.replicas.iter().for_each(|replica| replica.hold(held));
    }

    /// Returns how many requests both replicas have received since the start.
    fn asked(&self) -> u32 {
        self.replicas.iter().map(FakeServer::asked).sum::<u32>() - self.asked
    }
}

async fn ask(client: Client) -> Result<bool, Error> {
    client.validate(&PresentedKey::new("k"), &[]).await.map(|validation| validation.is_valid())
}

#[tokio::test]
async fn stalled_request_is_answered_by_another_replica() {
    let two = TwoReplicas::start().await;
    for held in &two.replicas {
        held.hold(true);
        // One of the two calls goes to the held replica.
        for _ in 0..2 {
            assert!(ask(two.client.clone()).await.unwrap());
        }
        held.hold(false);
    }
}

#[tokio::test]
async fn request_is_hedged_to_two_replicas_at_most() {
    let two = TwoReplicas::start().await;
    two.hold(true);
    let request = tokio::spawn(ask(two.client.clone()));
    until(|| two.asked() == 2).await;
    assert!(two.replicas.iter().all(|replica| replica.asked() > 0));
    two.hold(false);
    assert!(request.await.unwrap().unwrap());
    assert_eq!(two.asked(), 2);
}

#[tokio::test]
async fn first_success_wins_over_a_failure() {
    let two = TwoReplicas::start().await;
    two.hold(true);
    two.replicas[0].fail(Status::unavailable("the database is unreachable"));
    let request = tokio::spawn(ask(two.client.clone()));
    until(|| two.asked() == 2).await;
    two.replicas[0].hold(false);
    two.replicas[1].hold(false);
    assert!(request.await.unwrap().unwrap());
}

#[tokio::test]
async fn writes_are_not_hedged() {
    let two = TwoReplicas::start().await;
    two.hold(true);
    let client = two.client.clone();
    let unbind = tokio::spawn(async move { client.unbind_session("s", "acme").await });
    until(|| two.asked() == 1).await;
    // A read-only request that is sent later is hedged meanwhile.
    let request = tokio::spawn(ask(two.client.clone()));
    until(|| two.asked() == 3).await;
    two.hold(false);
    assert!(!unbind.await.unwrap().unwrap().was_bound);
    assert!(request.await.unwrap().unwrap());
    assert_eq!(two.asked(), 3);
}
