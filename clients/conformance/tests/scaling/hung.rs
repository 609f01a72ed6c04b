//! A replica that hangs: it accepts connections and does not respond.

use std::time::{Duration, Instant};

use tenant_auth_client::{NearCache, Verdict};
use tenant_auth_conformance::WAIT_TIMEOUT;
use tenant_auth_testkit::Fault;

use crate::{
    cluster::{Cluster, EXCLUSIVE, client_with, never_issued_key},
    load::validate,
};

/// The client's hedge delay. A call to the hung replica takes at least this long, and no response of a running
/// replica is that slow, however busy the machine is.
const HEDGE_AFTER: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hung_replica_fails_no_call_and_is_skipped_until_it_resumes() {
    let _turn = EXCLUSIVE.lock().await;
    let cluster = Cluster::start().await;
    let keys = cluster.prepare_keys(4).await;
    let client = client_with(&cluster.replicas[..2], |builder| builder.hedge_after(HEDGE_AFTER));
    let [hung, other] = [&cluster.replicas[0], &cluster.replicas[1]];
    let before = hung.scrape().await.unwrap().validation_count();
    let mut validations = keys.iter().cycle();
    let mut asks = async || {
        let began = Instant::now();
        assert!(validate(&client, validations.next().unwrap()).await.unwrap());
        began.elapsed()
    };
    while hung.scrape().await.unwrap().validation_count() < before + 5 {
        asks().await;
    }

    hung.signal("STOP").await.unwrap();
    // One call goes to the hung replica, is answered by the other one, and detects that the replica is
    // unresponsive.
    let mut slowest = Duration::ZERO;
    while slowest < HEDGE_AFTER {
        slowest = slowest.max(asks().await);
    }
    assert!(slowest < 2 * HEDGE_AFTER, "{slowest:?}");
    let answered = other.scrape().await.unwrap().validation_count();
    for _ in 0..100 {
        let took = asks().await;
        assert!(took < HEDGE_AFTER, "{took:?}: the replica was used again");
    }
    assert_eq!(other.scrape().await.unwrap().validation_count(), answered + 100);

    hung.signal("CONT").await.unwrap();
    hung.until_ready().await.unwrap();
    let back = hung.scrape().await.unwrap().validation_count();
    while hung.scrape().await.unwrap().validation_count() < back + 5 {
        asks().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_database_makes_no_replica_look_hung() {
    let _turn = EXCLUSIVE.lock().await;
    let cluster = Cluster::start().await;
    let keys = cluster.prepare_keys(1).await;
    let client = client_with(&cluster.replicas[..1], |builder| builder.hedge_after(Duration::from_millis(1)));
    assert!(validate(&client, &keys[0]).await.unwrap());
    let before = cluster.replicas[0].scrape().await.unwrap().validation_count();
    // Longer than a replica may leave a ping unanswered, with a key that is not cached.
    cluster.database.faults().set(Fault::Latency(Duration::from_secs(1)));
    assert!(validate(&client, &never_issued_key(7)).await.unwrap());
    cluster.database.faults().clear();
    // The replica answered pings meanwhile, so its connection was not aborted and the request was sent once.
    assert_eq!(cluster.replicas[0].scrape().await.unwrap().validation_count(), before + 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn watch_stream_moves_away_from_hung_replica() {
    let _turn = EXCLUSIVE.lock().await;
    let cluster = Cluster::start().await;
    let keys = cluster.prepare_keys(2).await;
    let watching = client_with(&cluster.replicas[..2], |builder| builder.near_cache(NearCache::new()));
    let others = cluster.client_of_replica(2);
    let revision = || watching.watch_state().unwrap().revision;
    // The stream is connected to one of the two.
    for (number, known) in keys[..2].iter().enumerate() {
        let principal = watching.require(&known.key, &[]).await.unwrap();
        cluster.replicas[number].signal("STOP").await.unwrap();
        // No calls go to it: the stream alone has to detect the hang.
        others.admin().revoke_key(principal.key_id(), "a test").await.unwrap();
        let seen_revision = others.validate(&known.key, &[]).await.unwrap().provenance.revision;
        let detected = async {
            while revision() < seen_revision {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(WAIT_TIMEOUT, detected).await.unwrap();
        cluster.replicas[number].signal("CONT").await.unwrap();
        // The near-cache is cleared. The replica that receives the call may learn of the change a little
        // later.
        let denied =
            async { while watching.validate(&known.key, &[]).await.unwrap().verdict != Verdict::Revoked {} };
        tokio::time::timeout(WAIT_TIMEOUT, denied).await.unwrap();
        cluster.replicas[number].until_ready().await.unwrap();
    }
}
