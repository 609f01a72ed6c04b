//! Several replicas of the service on one remote database: how load is spread, what a rolling restart and a hung one do to callers, and
//! what a replica costs the database.
//!
//! The replicas are the program itself, as processes; the database is the test server in this process, which counts
//! requests; callers are the Rust client, without its near-cache, so that each call travels. The tables that it prints are
//! where `deploy/SCALING.md` has its numbers from.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod cost;
mod hung;
mod load;

use std::io::Write as _;

use tokio::sync::Mutex;

use self::{
    cluster::{Cluster, REPLICAS},
    load::{Load, validate},
};

/// One after the other: each of them takes the whole machine.
static EXCLUSIVE: Mutex<()> = Mutex::const_new(());

/// Past the capture of passing tests: it is meant to be seen.
fn print(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn load_is_spread_evenly_over_replicas() {
    /// Programs that call, each with a client of its own, and what each of them asks.
    const CALLERS: usize = 9;
    const CALLS: usize = 400;

    let _turn = EXCLUSIVE.lock().await;
    let cluster = Cluster::start().await;
    let keys = cluster.prepare_keys(4).await;
    let before = cluster.validation_counts().await;
    let asking = (0..CALLERS).map(|_| {
        let (client, keys) = (cluster.client_of_all_replicas(), &keys);
        async move {
            for turn in 0..CALLS {
                validate(&client, &keys[turn % keys.len()]).await.unwrap();
            }
        }
    });
    futures::future::join_all(asking).await;
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
            // Callers go on without it.
            load.until_more_calls(100).await;
            replica.restart().unwrap();
            replica.until_ready().await.unwrap();
            // And come back to it.
            replica.until_validations(50).await.unwrap();
            starts.push(replica.scrape().await.unwrap().database_calls("maintenance"));
        }
    }
    let told = load.stop().await;
    print(&format!(
        "\n{} restarts under load of {TASKS} tasks: {} calls answered, {} errors, {} wrong verdicts; the slowest call \
         took {:?}; a start is {starts:?} HTTP requests to the database\n",
        starts.len(),
        told.answered,
        told.errors.len(),
        told.wrong.len(),
        told.slowest
    ));
    assert!(told.errors.is_empty(), "{:#?}", &told.errors[..told.errors.len().min(10)]);
    assert!(told.wrong.is_empty(), "{:#?}", &told.wrong[..told.wrong.len().min(10)]);
    assert!(told.answered > 1_000, "{}", told.answered);
}
