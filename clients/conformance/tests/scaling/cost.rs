//! Database requests per replica.
//!
//! Each replica reports its calls by lane; the database reports the HTTP requests that it received. The two
//! must agree.

use std::time::Instant;

use tenant_auth_client::{KeyQuery, PresentedKey};
use tenant_auth_conformance::service::{Scrape, Service};

use crate::{
    cluster::{Cluster, EXCLUSIVE, REPLICAS, never_issued_key, print},
    load::{ExpectedAnswer, validate},
};

/// Polls of the change log per hour with a `TENANT_AUTH_FEED_INTERVAL` of 250 ms.
const FEED_POLLS_PER_HOUR: u64 = 14_400;
const VALIDATIONS: usize = 1_000;
/// The shortest time for which an entry is fresh: 5 s minus a fifth of jitter.
const MIN_FRESH_SECONDS: u64 = 4;

/// Returns the number of lookup calls.
fn lookup_calls(scrape: &Scrape) -> u64 {
    scrape.database_calls("known") + scrape.database_calls("unknown")
}

/// Waits until the replica has polled the change log this many times.
async fn until_feed_polls(replica: &Service, readings: u64) {
    let read =
        async || replica.scrape().await.is_ok_and(|scraped| scraped.database_calls("feed") >= readings);
    replica.wait_until("the replica does not poll the change log", read).await.unwrap();
}

/// Returns the number of database calls of one replica while a future runs.
async fn database_calls_during(cluster: &Cluster, number: usize, doing: impl Future<Output = ()>) -> u64 {
    let replica = &cluster.replicas[number];
    let before = lookup_calls(&replica.scrape().await.unwrap());
    doing.await;
    lookup_calls(&replica.scrape().await.unwrap()) - before
}

async fn validate_in_turn(cluster: &Cluster, number: usize, keys: &[ExpectedAnswer], calls: usize) {
    let client = cluster.client_of_replica(number);
    for known in keys.iter().cycle().take(calls) {
        assert!(validate(&client, known).await.unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replica_database_requests_stay_within_bounds() {
    const IDLE_FEED_POLLS: u64 = 20;
    const KEYS: usize = 97;

    let _turn = EXCLUSIVE.lock().await;
    let cluster = Cluster::start().await;
    let started: Vec<_> =
        cluster.scrapes().await.iter().map(|scraped| scraped.database_calls("maintenance")).collect();

    // Idle. Time is measured in polls, because their duration depends on the machine.
    let (before, requests_before) = (cluster.scrapes().await, cluster.database.counters().requests);
    for (replica, scraped) in cluster.replicas.iter().zip(&before) {
        until_feed_polls(replica, scraped.database_calls("feed") + IDLE_FEED_POLLS).await;
    }
    let (after, requests_after) = (cluster.scrapes().await, cluster.database.counters().requests);
    let mut made = 0;
    let mut hourly = Vec::new();
    for (before, after) in before.iter().zip(&after) {
        let readings = after.database_calls("feed") - before.database_calls("feed");
        let calls = after.all_database_calls() - before.all_database_calls();
        // One heartbeat per second, written by whichever replica is first, is one per four polls.
        assert!(calls - readings <= 4 + readings / 4, "idle: {calls} calls for {readings} polls");
        made += calls;
        hourly.push(calls * FEED_POLLS_PER_HOUR / readings);
    }
    let came = requests_after - requests_before;
    assert!(
        came.abs_diff(made) <= 2 * REPLICAS as u64,
        "{made} calls were made, but {came} requests arrived"
    );

    // A hundred keys: uncached on the second replica, then in constant use, and then uncached on the third.
    let keys = cluster.prepare_keys(KEYS).await;
    let began = Instant::now();
    let cold = database_calls_during(&cluster, 1, validate_in_turn(&cluster, 1, &keys, VALIDATIONS)).await;
    let distinct = keys.len() as u64 - 1; // Two of the requests are for the same key.
    let reloads = distinct * (began.elapsed().as_secs() / MIN_FRESH_SECONDS);
    assert!((distinct..=distinct + reloads).contains(&cold), "{cold} for {distinct} keys");

    let (readings_before, asked_before) = {
        let scraped = cluster.replicas[1].scrape().await.unwrap();
        (scraped.database_calls("feed"), scraped.validation_count())
    };
    let began = Instant::now();
    let until = readings_before + 2 * IDLE_FEED_POLLS;
    let used = database_calls_during(&cluster, 1, async {
        tokio::select! {
            () = until_feed_polls(&cluster.replicas[1], until) => {}
            () = validate_in_turn(&cluster, 1, &keys, usize::MAX) => {}
        }
    })
    .await;
    let scraped = cluster.replicas[1].scrape().await.unwrap();
    let (readings, validations) =
        (scraped.database_calls("feed") - readings_before, scraped.validation_count() - asked_before);
    let most = distinct * (began.elapsed().as_secs() / MIN_FRESH_SECONDS + 2);
    assert!(used <= most, "{used} reloads of {distinct} keys, {most} at most");

    // As many keys as validations, so that nothing can be cached.
    let strange: Vec<_> = (1..=VALIDATIONS).map(never_issued_key).collect();
    let single =
        database_calls_during(&cluster, 2, validate_in_turn(&cluster, 2, &strange, VALIDATIONS)).await;
    assert_eq!(single, VALIDATIONS as u64);
    let others: Vec<_> = (1..=VALIDATIONS).map(|number| never_issued_key(VALIDATIONS + number)).collect();
    let request = |known: &ExpectedAnswer| KeyQuery::new(PresentedKey::new(known.key.expose()));
    let queries: Vec<_> = others.iter().map(request).collect();
    let batched = database_calls_during(&cluster, 2, async {
        for batch in queries.chunks(100) {
            let outcomes = cluster.client_of_replica(2).validate_batch(batch).await.unwrap();
            assert!(outcomes.iter().all(Result::is_ok));
        }
    })
    .await;
    assert!(batched * 10 <= single, "{batched} for batches of 100");

    print(&format!(
        "\nHTTP requests to the database\n\
         a start, when the schema is new, by replica                    {started:?}\n\
         idle, an hour, by replica                                      {hourly:?}\n\
         1,000 validations, {distinct} keys new to the replica, in turn           {cold}\n\
         the same keys in constant use, {readings} readings of the feed long      {used}, for {validations} validations\n\
         … an hour                                                      {}\n\
         1,000 validations, 1,000 keys new to the replica, in turn      {single}\n\
         … in batches of 100                                            {batched}\n",
        used * FEED_POLLS_PER_HOUR / readings,
    ));
}
