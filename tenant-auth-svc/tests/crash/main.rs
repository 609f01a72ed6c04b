//! Checks that acknowledged usage is stored exactly once when the service or the database is killed at any
//! time.
//!
//! The program runs as a process. Sixteen clients record usage and repeat each request under its id until it
//! is acknowledged. At random times SIGKILL ends the service or the database, which are restarted on the same
//! port and file. At the end, the acknowledged usage is compared with the stored usage, request by request,
//! and with the totals that callers read; `reconcile` must agree.
//!
//! A seed always draws the same requests and times, but what happens in between depends on the machine: the
//! same seed need not reproduce a failure.
//!
//! - `TENANT_AUTH_TEST_SEED`: this seed; without it, a different one each time.
//! - `TENANT_AUTH_TEST_CRASHES`: number of kills in each scenario, 50 by default.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../processes/database.rs"]
mod database;
mod ledger;
#[path = "../processes/process.rs"]
mod process;
mod report;
mod service_under_test;
#[path = "../processes/settings.rs"]
mod settings;
mod traffic;

use std::thread;

use tenant_auth_testkit::Random;

use self::{
    ledger::{Ledger, execute_in_file},
    report::{Report, print_head},
    service_under_test::{DatabaseKind, ServiceUnderTest, Victim},
    settings::{number_from_env, print_uncaptured},
    traffic::Traffic,
};

const SCENARIOS: [(&str, DatabaseKind, Victim); 3] = [
    ("service, embedded database", DatabaseKind::Embedded, Victim::Service),
    ("service, remote database", DatabaseKind::Remote, Victim::Service),
    ("remote database", DatabaseKind::Remote, Victim::Database),
];

async fn run_scenario(
    (name, kind, victim): (&'static str, DatabaseKind, Victim),
    kills: usize,
    seed: u64,
) -> Report {
    let mut random = Random::new(seed);
    let mut setup = ServiceUnderTest::start(kind).await;
    let mut traffic = Traffic::start(&setup.endpoint(), &mut random);
    let (mut mid_flight, mut in_flight) = (0, 0);
    for _ in 0..kills {
        let found = setup.kill_during_traffic(victim, &mut traffic, &mut random).await;
        mid_flight += usize::from(found > 0);
        in_flight += found;
    }
    setup.until_more_acknowledged(&mut traffic, 1).await;
    let client_log = traffic.stop().await;
    let reported = setup.reported_totals().await;
    setup.stop().await;
    let reconcile = setup.reconcile().await;
    let stored = Ledger::read_stored(&setup.file()).await;
    Report {
        name,
        kills,
        mid_flight,
        in_flight,
        acknowledged: client_log.ledger.requests.len(),
        retried: client_log.retried,
        already_recorded: client_log.already_recorded,
        events_acknowledged: client_log.ledger.events,
        events_stored: stored.events,
        differences: client_log.ledger.compare(&stored, &reported),
        reconcile,
    }
}

#[test]
fn acknowledged_usage_is_stored_exactly_once_across_kills() {
    let kills = usize::try_from(number_from_env("TENANT_AUTH_TEST_CRASHES").unwrap_or(50)).unwrap();
    let seed = number_from_env("TENANT_AUTH_TEST_SEED").unwrap_or_else(|| getrandom::u64().unwrap());
    print_uncaptured(&format!("\nTENANT_AUTH_TEST_SEED={seed} TENANT_AUTH_TEST_CRASHES={kills}\n"));
    let reports = thread::scope(|scope| {
        let running = SCENARIOS.map(|scenario| {
            scope.spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(run_scenario(scenario, kills, seed))
            })
        });
        running.map(|scenario| scenario.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    });
    print_head();
    reports.iter().for_each(Report::print_row);
    reports.iter().for_each(Report::check);
    // With a remote database, responses are lost after the commit, also twice in a row, after which the
    // service gives up.
    let [_, service, database] = &reports;
    if kills >= 50 {
        assert!(service.already_recorded > 0 && database.already_recorded > 0, "no kill came after a commit");
    }
}

/// A comparison that detects nothing would be useless.
#[tokio::test]
async fn ledger_comparison_reports_lost_and_duplicated_usage() {
    let mut setup = ServiceUnderTest::start(DatabaseKind::Embedded).await;
    let mut traffic = Traffic::start(&setup.endpoint(), &mut Random::new(1));
    setup.until_more_acknowledged(&mut traffic, 50).await;
    let acknowledged = traffic.stop().await.ledger;
    let (reported, file) = (setup.reported_totals().await, setup.file());
    setup.stop().await;
    let stored = Ledger::read_stored(&file).await;
    let right = acknowledged.compare(&stored, &reported);
    assert!(right.lost.is_empty() && right.duplicated.is_empty(), "{right:?}");
    assert_eq!(stored.events, acknowledged.events);
    let (id, sums) = acknowledged.requests.first_key_value().unwrap();
    let (account, quantity) = sums.first_key_value().unwrap();

    // Acknowledged, but never sent.
    let mut doctored = acknowledged.clone();
    doctored.requests.insert("never-sent".to_owned(), sums.clone());
    let found = doctored.compare(&stored, &reported);
    assert!(found.lost.iter().any(|line| line == "request \"never-sent\" itself"), "{found:?}");
    assert!(found.lost.iter().any(|line| line.starts_with("total reported")), "{found:?}");
    assert!(found.duplicated.is_empty(), "{found:?}");

    // The same amount again under one id: three differences, for the request, its account in the database,
    // and the total that callers read.
    let mut doctored = acknowledged.clone();
    *doctored.requests.get_mut(id).unwrap().get_mut(account).unwrap() -= quantity;
    let found = doctored.compare(&stored, &reported);
    assert!(found.lost.is_empty() && found.duplicated.len() == 3, "{found:?}");

    // Counted under a second id, with consistent totals, so `reconcile` cannot detect it.
    let again = "INSERT INTO usage_requests (request_id, payload_hash, first_seen_at, batch, refused, unknown_tenants) \
                 SELECT 'again', payload_hash, first_seen_at, batch, refused, unknown_tenants FROM usage_requests LIMIT 1";
    execute_in_file(&file, again).await;
    let events = "INSERT INTO usage_events SELECT tenant_id, hour, metric, (SELECT max(seq) FROM usage_requests), quantity \
                  FROM usage_events WHERE request = (SELECT min(seq) FROM usage_requests)";
    assert!(execute_in_file(&file, events).await > 0);
    assert_eq!(setup.reconcile().await.0, Some(0));
    let found = acknowledged.compare(&Ledger::read_stored(&file).await, &reported);
    assert!(found.duplicated.iter().any(|line| line == "request \"again\" itself"), "{found:?}");
    assert!(found.duplicated.iter().any(|line| line.starts_with("total stored")), "{found:?}");

    // A total that is not the sum of its events.
    assert!(execute_in_file(&file, "UPDATE usage_totals SET quantity = quantity + 1").await > 0);
    assert_eq!(setup.reconcile().await.0, Some(1));
}
