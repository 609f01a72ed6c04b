//! The incident that this service exists for, as a test: two hours of a broken database, three replicas, five callers,
//! a thousand keys, in simulated time, once for each way in which a database can be broken.
//!
//! At the end, a table with a line for each. What it must say is written down in [`Report::check`].

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod hands;
mod outages;
mod partial;
mod readings;
mod report;
mod traffic;

use std::{
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tenant_auth_testkit::Fault;

use self::{
    outages::{OUTAGE, Outage, replay},
    partial::{FULL, Partial},
    report::{Report, print_head},
};

/// How many are replayed at once: those that are made of real waits come first, and leave the processor to the others.
const AT_ONCE: usize = 4;
/// Three replicas with at most one probe per half second each. (The strides of the simulation allow for far fewer.)
const MOST: u64 = 3 * 2 * OUTAGE.as_secs();

#[test]
fn two_hours_without_a_database() {
    let outages = [
        ("hang", Outage::Constant(Fault::Hang), MOST),
        ("latency of 2 s", Outage::Constant(Fault::Latency(Duration::from_secs(2))), MOST),
        ("write lock stuck", Outage::Partial(Partial::LockStuck), MOST),
        ("flapping, 5 s", Outage::Flapping(Fault::ResetBeforeExecute), 20_000),
        ("refuse", Outage::Refusing, MOST),
        ("503", Outage::Constant(Fault::service_unavailable()), MOST),
        ("429", Outage::Constant(Fault::too_many_requests(1)), MOST),
        ("locked", Outage::Constant(Fault::locked()), MOST),
        ("reset mid-body", Outage::Constant(Fault::ResetMidBody), MOST),
        ("wrong token", Outage::Constant(Fault::unauthorized()), MOST),
        ("truncated answer", Outage::Constant(Fault::TruncatedJson), MOST),
        ("missing rows", Outage::Constant(Fault::MissingRows), MOST),
        ("web page", Outage::Constant(Fault::html_ok()), MOST),
        ("away at the start", Outage::AwayAtTheStart, MOST),
        ("beyond the grace", Outage::BeyondTheGrace, MOST),
        ("revocations", Outage::Revocations, MOST),
        ("clock jumps", Outage::ClockJumps, MOST),
        ("writes blocked", Outage::Partial(Partial::Writes(Fault::blocked())), MOST),
        ("writes forbidden", Outage::Partial(Partial::Writes(Fault::forbidden())), MOST),
        ("disk full", Outage::Partial(Partial::Writes(FULL)), MOST),
        ("listings locked", Outage::Partial(Partial::Listings(Fault::locked())), MOST),
        ("reads refused", Outage::Partial(Partial::Reads(Fault::service_unavailable())), MOST),
        ("copy lags", Outage::Partial(Partial::CopyLags), MOST),
        ("copy stands still", Outage::Partial(Partial::CopyStandsStill), MOST),
        ("emptied", Outage::Partial(Partial::Emptied), MOST),
        ("replaced", Outage::Partial(Partial::Replaced), MOST),
        ("rolled back", Outage::Partial(Partial::RolledBack), MOST),
    ];
    let next = AtomicUsize::new(0);
    let reports: Mutex<Vec<Option<Report>>> = Mutex::new((0..outages.len()).map(|_| None).collect());
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    let Some((name, outage, _)) = outages.get(turn) else { return };
                    let report = runtime.block_on(replay(outage));
                    // Whoever waits for the table sees that it comes, and which of them does not.
                    println!("over: {name}");
                    reports.lock().unwrap()[turn] = Some(report);
                }
            });
        }
    });
    let reports = reports.into_inner().unwrap();
    print_head();
    for ((name, ..), report) in outages.iter().zip(&reports) {
        report.as_ref().unwrap().print(name);
    }
    for ((name, _, most_requests), report) in outages.iter().zip(&reports) {
        report.as_ref().unwrap().check(name, *most_requests);
    }
}
