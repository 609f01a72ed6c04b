//! Replays the incident that this service was built for: two hours with a broken database, three replicas,
//! five callers and a thousand keys, in simulated time, once for each way in which a database can break.
//!
//! Prints a table with one row per outage. [`Report::check`] contains the expected values.

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;
mod feed_polls;
mod mutations;
mod outages;
mod partial;
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
    outages::{OUTAGE_DURATION, Outage, replay},
    partial::{DISK_FULL, PartialOutage},
    report::{Report, print_head},
};

/// Number of concurrent outages. Those that wait in real time come first, and leave the processor to the
/// others.
const MAX_CONCURRENT_OUTAGES: usize = 4;
/// Three replicas with at most one probe per half second each. (The steps of the simulation allow far fewer.)
const MAX_PROBE_REQUESTS: u64 = 3 * 2 * OUTAGE_DURATION.as_secs();

#[test]
fn two_hour_outages_cause_no_wrong_answers() {
    let outages = [
        ("hang", Outage::Constant(Fault::Hang), MAX_PROBE_REQUESTS),
        ("latency of 2 s", Outage::Constant(Fault::Latency(Duration::from_secs(2))), MAX_PROBE_REQUESTS),
        ("write lock stuck", Outage::Partial(PartialOutage::WriteLockStuck), MAX_PROBE_REQUESTS),
        ("flapping, 5 s", Outage::Flapping(Fault::ResetBeforeExecute), 20_000),
        ("refuse", Outage::Refusing, MAX_PROBE_REQUESTS),
        ("503", Outage::Constant(Fault::service_unavailable()), MAX_PROBE_REQUESTS),
        ("429", Outage::Constant(Fault::too_many_requests(1)), MAX_PROBE_REQUESTS),
        ("locked", Outage::Constant(Fault::locked()), MAX_PROBE_REQUESTS),
        ("reset mid-body", Outage::Constant(Fault::ResetMidBody), MAX_PROBE_REQUESTS),
        ("wrong token", Outage::Constant(Fault::unauthorized()), MAX_PROBE_REQUESTS),
        ("truncated response", Outage::Constant(Fault::TruncatedJson), MAX_PROBE_REQUESTS),
        ("missing rows", Outage::Constant(Fault::MissingRows), MAX_PROBE_REQUESTS),
        ("web page", Outage::Constant(Fault::html_ok()), MAX_PROBE_REQUESTS),
        ("down at start", Outage::DownAtStart, MAX_PROBE_REQUESTS),
        ("past the grace", Outage::LongerThanGrace, MAX_PROBE_REQUESTS),
        ("revocations", Outage::Revocations, MAX_PROBE_REQUESTS),
        ("clock jumps", Outage::ClockJumps, MAX_PROBE_REQUESTS),
        ("writes blocked", Outage::Partial(PartialOutage::Writes(Fault::blocked())), MAX_PROBE_REQUESTS),
        ("writes forbidden", Outage::Partial(PartialOutage::Writes(Fault::forbidden())), MAX_PROBE_REQUESTS),
        ("disk full", Outage::Partial(PartialOutage::Writes(DISK_FULL)), MAX_PROBE_REQUESTS),
        ("listings locked", Outage::Partial(PartialOutage::Listings(Fault::locked())), MAX_PROBE_REQUESTS),
        (
            "reads refused",
            Outage::Partial(PartialOutage::Reads(Fault::service_unavailable())),
            MAX_PROBE_REQUESTS,
        ),
        ("replica lags", Outage::Partial(PartialOutage::ReadReplicaLagging), MAX_PROBE_REQUESTS),
        ("replica stalled", Outage::Partial(PartialOutage::ReadReplicaStalled), MAX_PROBE_REQUESTS),
        ("emptied", Outage::Partial(PartialOutage::Emptied), MAX_PROBE_REQUESTS),
        ("replaced", Outage::Partial(PartialOutage::Replaced), MAX_PROBE_REQUESTS),
        ("rolled back", Outage::Partial(PartialOutage::RolledBack), MAX_PROBE_REQUESTS),
    ];
    let next = AtomicUsize::new(0);
    let reports: Mutex<Vec<Option<Report>>> = Mutex::new((0..outages.len()).map(|_| None).collect());
    thread::scope(|scope| {
        for _ in 0..MAX_CONCURRENT_OUTAGES {
            scope.spawn(|| {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                loop {
                    let turn = next.fetch_add(1, Ordering::Relaxed);
                    let Some((name, outage, _)) = outages.get(turn) else { return };
                    let report = runtime.block_on(replay(outage));
                    // Shows the progress, and which outage hangs.
                    println!("finished: {name}");
                    reports.lock().unwrap()[turn] = Some(report);
                }
            });
        }
    });
    let reports = reports.into_inner().unwrap();
    print_head();
    for ((name, ..), report) in outages.iter().zip(&reports) {
        report.as_ref().unwrap().print_row(name);
    }
    for ((name, _, most_requests), report) in outages.iter().zip(&reports) {
        report.as_ref().unwrap().check(name, *most_requests);
    }
}
