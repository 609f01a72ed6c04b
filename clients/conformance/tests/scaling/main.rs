//! Several replicas of the service on one remote database: the distribution of load, the effect of a rolling
//! restart and of a hung replica on callers, and the database cost of a replica.
//!
//! The replicas are processes of the program itself; the database is the test server in this process, which
//! counts requests; callers use the Rust client without its near-cache, so that each call reaches a replica.
//! The printed tables are the source of the numbers in `deploy/SCALING.md`.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod cost;
mod hung;
mod load;
mod streams;
mod updates;

use self::{
    cluster::{Cluster, EXCLUSIVE, REPLICAS, print},
    load::{Load, validate},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_is_spread_evenly_over_replicas() {
    /// Number of callers, each with its own client, and the number of calls of each.
    const CALLERS: usize = 9;
    const CALLS: usize = 400;

    let _turn = EXCLUSIVE.lock().await;
    let cluster = Cluster::start().await;
    let keys = cluster.prepare_keys(4).await;
    let before = cluster.validation_counts().await;
    let callers = (0..CALLERS).map(|_| {
        let (client, keys) = (cluster.client_of_all_replicas(), &keys);
        async move {
            for turn in 0..CALLS {
                validate(&client, &keys[turn % keys.len()]).await.unwrap();
            }
        }
    });
    futures::future::join_all(callers).await;
    let after = cluster.validation_counts().await;

    let shares: [u64; REPLICAS] = std::array::from_fn(|replica| after[replica] - before[replica]);
    let total = (CALLERS * CALLS) as u64;
    print(&format!("\n{total} validations by {CALLERS} callers, by replica: {shares:?}\n"));
    assert_eq!(shares.iter().sum::<u64>(), total, "each call is one request");
    let third = total / REPLICAS as u64;
    for share in shares {
        assert!(share.abs_diff(third) * 10 <= third, "{shares:?}: not within a tenth of {third}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rolling_restart_fails_no_call() {
    const ROUNDS: usize = 2;
    const TASKS: usize = 48;

    let _turn = EXCLUSIVE.lock().await;
    let mut cluster = Cluster::start().await;
    let keys = cluster.prepare_keys(24).await;
    let load = Load::start(&cluster.client_of_all_replicas(), &keys, TASKS);
    load.until_more_calls(500).await;
    let mut starts = Vec::new();
    for _ in 0..ROUNDS {
        for number in 0..REPLICAS {
            let replica = &mut cluster.replicas[number];
            replica.stop().await.unwrap();
            // Callers continue without it.
            load.until_more_calls(100).await;
            replica.restart().unwrap();
            replica.until_ready().await.unwrap();
            // Callers use it again.
            replica.until_validations(50).await.unwrap();
            starts.push(replica.scrape().await.unwrap().database_calls("maintenance"));
        }
    }
    let results = load.stop().await;
    print(&format!(
        "\n{} restarts under load of {TASKS} tasks: {} calls answered, {} errors, {} wrong verdicts; the slowest call \
         took {:?}; a start is {starts:?} HTTP requests to the database\n",
        starts.len(),
        results.answered,
        results.errors.len(),
        results.wrong.len(),
        results.slowest
    ));
    assert!(results.errors.is_empty(), "{:#?}", &results.errors[..results.errors.len().min(10)]);
    assert!(results.wrong.is_empty(), "{:#?}", &results.wrong[..results.wrong.len().min(10)]);
    assert!(results.answered > 1_000, "{}", results.answered);
}
