//! When a read replica counts as stalled, and what follows.

use std::time::Duration;

use tenant_auth_proto::v1::{Source, Verdict};
use tenant_auth_svc::domain::clock::{Clock as _, UnixMillis};
use tenant_auth_testkit::Fault;

use crate::harness::{http_request, outcome, read_replica::PrimaryAndReadReplica, unknown_key};

#[tokio::test]
async fn stalled_read_replica_is_detected_as_outage() {
    let region = PrimaryAndReadReplica::start().await;
    let (known, known_id) = region.at_primary.issue_key(&region.tenant, &[]).await;
    let (cold, _) = region.at_primary.issue_key(&region.tenant, &[]).await;
    region.poll_both_feeds().await;
    assert_eq!(region.validate_at_read_replica(&known).await.0, Verdict::Valid);
    for _ in 0..5 {
        region.advance_one_second().await;
        region.read_replica.catch_up().await.unwrap();
    }
    let ops = region.at_read_replica.running.ops_address().unwrap();
    let metric = async |name: &str| {
        let metrics = http_request(ops, "GET /metrics").await.unwrap().body;
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
        line.parse::<f64>().unwrap()
    };
    let stall = async || metric("tenant_auth_database_read_replica_stalled_seconds").await;
    let grace_ends = async || metric("tenant_auth_cache_grace_remaining_seconds{record=\"oldest\"}").await;
    assert_eq!(stall().await, 0.0, "the read replica is not stalled");
    assert_eq!(grace_ends().await, 14_400.0, "no key depends on the grace");

    // From here on the read replica is stalled, while its primary continues.
    region.at_primary.revoke_key(&known_id).await;
    let mut fresh_seconds = 0;
    for second in 0..20 {
        region.advance_one_second().await;
        let (verdict, source) = region.validate_at_read_replica(&known).await;
        assert_eq!(verdict, Verdict::Valid, "the revocation cannot be known yet");
        if source != Source::Stale {
            fresh_seconds = second;
        }
    }
    assert!(fresh_seconds <= 10, "after {fresh_seconds} s the answer was still fresh");
    assert!(stall().await >= 15.0);
    assert!(grace_ends().await <= 14_400.0 - 15.0, "the grace counts from the start of the stall");
    assert!(
        region.at_read_replica.running.feed().poll().await.is_err(),
        "the feed is not live: subscribers get no heartbeat"
    );
    assert_eq!(
        outcome(&region.at_read_replica.validate(&unknown_key()).await),
        "Unavailable",
        "a negative entry from before the stall is not used"
    );
    assert_eq!(
        region.validate_at_read_replica(&cold).await,
        (Verdict::Valid, Source::Stale),
        "a record from before the stall is served stale"
    );
    let verbose = http_request(ops, "GET /readyz?verbose").await.unwrap().body;
    assert!(verbose.contains("\ndatabase  the read replica has been stalled for "), "{verbose}");

    region.read_replica.catch_up().await.unwrap();
    region.at_read_replica.poll_feed().await;
    assert_eq!(region.validate_at_read_replica(&known).await.0, Verdict::Revoked);
    assert_eq!(outcome(&region.at_read_replica.validate(&unknown_key()).await), "VERDICT_UNKNOWN");
}

/// The link from the read replica to its primary is broken, so neither changes nor queries reach the primary.
#[tokio::test]
async fn read_replica_cut_off_from_primary_counts_as_outage() {
    let region = PrimaryAndReadReplica::start().await;
    let (known, _) = region.at_primary.issue_key(&region.tenant, &[]).await;
    region.poll_both_feeds().await;
    assert_eq!(region.validate_at_read_replica(&known).await.0, Verdict::Valid);
    region.read_replica.set_partitioned(true);
    region.clock.advance(Duration::from_secs(1));
    region.at_read_replica.poll_feed().await;
    for _ in 0..4 {
        assert!(region.at_read_replica.running.beat_if_due().await.is_err(), "the primary is unreachable");
        region.clock.advance(Duration::from_secs(1));
        let _ = region.at_read_replica.running.feed().poll().await;
    }
    region.clock.advance(Duration::from_secs(7));
    assert_eq!(region.validate_at_read_replica(&known).await, (Verdict::Valid, Source::Stale));
    assert_eq!(outcome(&region.at_read_replica.validate(&unknown_key()).await), "Unavailable");

    region.read_replica.set_partitioned(false);
    region.advance_one_second().await;
    region.read_replica.catch_up().await.unwrap();
    region.at_read_replica.poll_feed().await;
    assert_eq!(outcome(&region.at_read_replica.validate(&unknown_key()).await), "VERDICT_UNKNOWN");
}

/// The primary accepts no writes, so no heartbeat can be written, but it still answers reads.
#[tokio::test]
async fn read_only_primary_does_not_make_read_replica_stalled() {
    for fault in [Fault::blocked(), Fault::Hang] {
        let region = PrimaryAndReadReplica::start().await;
        let (key, key_id) = region.at_primary.issue_key(&region.tenant, &[]).await;
        region.poll_both_feeds().await;
        for server in [region.primary.server(), &region.read_replica] {
            server.faults().set_writes(fault.clone());
        }
        for second in 0..6 {
            region.clock.advance(Duration::from_secs(1));
            // One heartbeat attempt is enough, because each takes a while to fail.
            if second < 1 {
                let _ = region.at_read_replica.running.beat_if_due().await;
            }
            region.at_read_replica.poll_feed().await;
        }
        assert_eq!(
            outcome(&region.at_read_replica.validate(&unknown_key()).await),
            "VERDICT_UNKNOWN",
            "{fault:?}"
        );
        let revoke = format!("UPDATE api_keys SET revoked_at = 1 WHERE id = '{key_id}'");
        region.primary.server().execute(&revoke).unwrap();
        region.poll_read_replica_feed().await;
        assert_eq!(region.validate_at_read_replica(&key).await.0, Verdict::Revoked, "{fault:?}");
    }
}

/// The primary commits a heartbeat late: the read replica has had no time yet to show it.
#[tokio::test]
async fn slow_primary_does_not_make_read_replica_stalled() {
    let region = PrimaryAndReadReplica::start().await;
    region.clock.advance(Duration::from_secs(1));
    region.poll_read_replica_feed().await;
    let (server, write) = (&region.read_replica, "UPDATE heartbeat");
    let before = server.requests_with(write);
    server.faults().set_where(write, u64::MAX, Fault::Hang);
    let slowly = async {
        while server.requests_with(write) == before {
            tokio::task::yield_now().await;
        }
        region.clock.advance(Duration::from_secs(4));
        server.faults().clear();
    };
    tokio::join!(region.at_read_replica.running.beat_if_due(), slowly).0.unwrap();
    region.at_read_replica.running.feed().poll().await.unwrap();

    // From then on it has three seconds.
    region.clock.advance(Duration::from_secs(3));
    region.at_read_replica.running.feed().poll().await.unwrap_err();
}

/// A database whose clock was set back still produces heartbeats. Without them, a stalled read replica could
/// not be detected.
#[tokio::test]
async fn stalled_read_replica_is_detected_after_database_clock_set_back() {
    let region = PrimaryAndReadReplica::start().await;
    region.advance_one_second().await;
    region.clock.jump_to(UnixMillis(region.clock.now().0 - 3_600_000));
    region.poll_both_feeds().await;
    for _ in 0..6 {
        region.advance_one_second().await;
    }
    assert!(region.at_read_replica.running.feed().poll().await.is_err(), "the read replica is stalled");
}
