//! The feed at its default interval: how soon every replica knows of a revocation, and the cost of an idle
//! replica.
//!
//! The service's own loop waits in real time. Here the same intervals, the configured one with up to 10 %
//! jitter in either direction, pass in simulated time, and the same poll function runs after each.

use std::time::Duration;

use tenant_auth_svc::config::{ServiceConfig, Settings};

use super::{
    cluster::{Cluster, LONG_TIMEOUTS, REPLICAS},
    report::{AnswerCounts, print_uncaptured},
};

/// Number of keys to revoke, each at another time between two polls.
const REVOCATIONS: usize = 40;
/// Step of the simulated time.
const TIME_STEP: Duration = Duration::from_millis(5);

/// Returns the default of `TENANT_AUTH_FEED_INTERVAL`.
fn default_feed_interval() -> Duration {
    let settings = Settings::default()
        .with_flag("TENANT_AUTH_DATABASE_URL", Some("file:unused.db".to_owned()))
        .with_flag("TENANT_AUTH_LISTEN", Some("127.0.0.1:0".to_owned()));
    ServiceConfig::read(settings).unwrap().0.cache.feed_interval.expect("the feed polls by default")
}

/// Returns the interval before a poll: 10 % shorter to 10 % longer, evenly distributed, in a different order
/// for each replica.
fn jittered_wait(replica: usize, reading: usize) -> Duration {
    let step = (reading * 37 + replica * 11) % 101;
    default_feed_interval().mul_f64(0.9 + 0.002 * step as f64)
}

#[tokio::test]
async fn revocation_reaches_other_replicas_within_one_second() {
    let mut cluster = Cluster::start(LONG_TIMEOUTS).await;
    let mut next_reading = [Duration::ZERO; REPLICAS];
    let mut readings = [0; REPLICAS];
    let mut now = Duration::ZERO;
    let mut slowest = Duration::ZERO;
    for revocation in 0..REVOCATIONS {
        let number = 2 + revocation;
        cluster.revoke_on_first(number).await;
        let revoked_at = now;
        loop {
            for replica in 0..REPLICAS {
                if next_reading[replica] <= now && cluster.poll_feed(replica).await {
                    next_reading[replica] = now + jittered_wait(replica, readings[replica]);
                    readings[replica] += 1;
                }
            }
            let mut counts = AnswerCounts::default();
            cluster.validate_keys(&[number], &mut counts).await;
            assert_eq!(
                (counts.wrong_allows, counts.wrong_denials, counts.unanswered),
                (0, 0, 0),
                "{counts:?}"
            );
            if counts.correct == REPLICAS as u64 {
                break;
            }
            cluster.clock.advance(TIME_STEP);
            now += TIME_STEP;
        }
        slowest = slowest.max(now - revoked_at);
        // Moves the next revocation to another time between two polls.
        cluster.clock.advance(TIME_STEP * 7);
        now += TIME_STEP * 7;
    }
    print_uncaptured(&format!(
        "\nrevoked on one replica, denied by all: within {slowest:?} of simulated time\n"
    ));
    assert!(slowest <= Duration::from_secs(1), "{slowest:?}");
    assert!(slowest >= default_feed_interval() / 2, "no revocation was delayed: {slowest:?}");
}

/// Simulates six minutes and multiplies by ten.
#[tokio::test]
async fn idle_replica_costs_about_14_400_requests_per_hour() {
    let mut cluster = Cluster::start(LONG_TIMEOUTS).await;
    let before = cluster.feed_requests();
    let mut readings = 0;
    let mut elapsed = Duration::ZERO;
    while elapsed < Duration::from_secs(360) {
        let wait = jittered_wait(0, readings);
        cluster.clock.advance(wait);
        elapsed += wait;
        cluster.poll_feed(0).await;
        readings += 1;
    }
    let requests = cluster.feed_requests() - before;
    // On a busy machine, a poll may need a second attempt within its short timeout.
    let besides = requests - readings as u64;
    assert!(besides <= 30, "a poll is one request: {requests} for {readings}");
    let hourly = requests * 10;
    print_uncaptured(&format!(
        "\nidle: {hourly} requests per hour and replica (six minutes simulated, times ten)\n"
    ));
    assert!((12_960..=15_840).contains(&hourly), "{hourly}");
}
