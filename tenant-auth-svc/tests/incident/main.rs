//! The incident that this service exists for, as a test: two hours of a broken database, three replicas, five callers,
//! a thousand keys, in simulated time, once for each way in which a database can be broken.
//!
//! At the end of each, a line of a table. What it must say is written down in [`Report::check`].

#![allow(clippy::expect_used, clippy::panic, clippy::unwrap_used, reason = "a test fails by panicking")]

mod cluster;

use std::{io::Write as _, time::Duration};

use tenant_auth_testkit::Fault;

use self::cluster::{Cluster, Told};

/// How long the database is broken.
const OUTAGE: Duration = Duration::from_secs(2 * 60 * 60);
/// How long it is flapping: one cycle is like any other, and each step of it costs real requests.
const FLAPPING: Duration = Duration::from_secs(2 * 60);
/// The feed and the callers move once in this time: as in life at the start and after the repair, and rarely in
/// between, when nothing changes from one step to the next.
const STEP: Duration = Duration::from_millis(250);
const START: Duration = Duration::from_secs(15);
const STRIDE: Duration = Duration::from_secs(120);

/// How the database is broken.
enum Breakage {
    /// Like this, all the time.
    Constant(Fault),
    /// Connections are refused.
    Refusing,
    /// Like this for five seconds, well for five seconds, and so on.
    Flapping(Fault),
}

/// What came of it.
#[derive(Debug, Default)]
struct Report {
    told: Told,
    outage: Duration,
    /// Requests that reached the database while it was broken.
    requests: u64,
    /// Simulated time from the repair until every replica hears the feed and gives fresh answers.
    recovery: Duration,
    /// Requests in the two seconds after the repair.
    requests_after: u64,
}

impl Report {
    fn check(&self, name: &str) {
        let told = &self.told;
        assert_eq!(told.wrong_allows, 0, "{name}: a revoked key was honoured");
        assert_eq!(told.wrong_denials, 0, "{name}: a good key was denied");
        assert!(told.share() >= 0.9999, "{name}: only {:.4} % answered", told.share() * 100.0);
        assert!(self.recovery <= Duration::from_secs(2), "{name}: normal only after {:?}", self.recovery);
    }

    fn print(&self, name: &str) {
        let line = format!(
            "{name:<18} {:>9} {:>9.4} % {:>6} {:>6} {:>9} {:>8.2} {:>7.2} s {:>7}\n",
            self.told.answers(),
            self.told.share() * 100.0,
            self.told.wrong_allows,
            self.told.wrong_denials,
            self.requests,
            self.requests as f64 / self.outage.as_secs_f64(),
            self.recovery.as_secs_f64(),
            self.requests_after,
        );
        // Past the capture of passing tests: the table is meant to be seen.
        let _ = std::io::stderr().write_all(line.as_bytes());
    }
}

fn print_head() {
    let head =
        "\nfault                answers   correct   allows denials requests  per sec  normal   after\n";
    let _ = std::io::stderr().write_all(head.as_bytes());
}

async fn two_hours_of(breakage: Breakage) -> Report {
    let mut cluster = Cluster::start().await;
    cluster.warm_up().await;
    let before = cluster.requests();
    let outage = match &breakage {
        Breakage::Constant(_) | Breakage::Refusing => OUTAGE,
        Breakage::Flapping(_) => FLAPPING,
    };
    let mut report = Report { outage, ..Report::default() };
    let mut elapsed = Duration::ZERO;
    cluster.break_down(&breakage).await;
    while elapsed < report.outage {
        if let Breakage::Flapping(fault) = &breakage {
            let broken = (elapsed.as_secs() / 5).is_multiple_of(2);
            cluster.set_fault(broken.then(|| fault.clone()));
        }
        let step = match &breakage {
            Breakage::Constant(_) | Breakage::Refusing if elapsed >= START => STRIDE,
            _ => STEP,
        };
        cluster.step(step, &mut report.told).await;
        elapsed += step;
    }
    report.requests = cluster.requests() - before;

    cluster.repair().await;
    let repaired = cluster.requests();
    let mut since = Duration::ZERO;
    let mut normal = None;
    while since < Duration::from_secs(2) {
        cluster.step(STEP, &mut report.told).await;
        since += STEP;
        if normal.is_none() && cluster.is_normal().await {
            normal = Some(since);
        }
    }
    report.recovery = normal.unwrap_or(Duration::MAX);
    report.requests_after = cluster.requests() - repaired;
    report
}

/// Three replicas with at most one probe per half second each. (The strides of the simulation allow for far fewer.)
const MOST: u64 = 3 * 2 * OUTAGE.as_secs();

#[tokio::test]
async fn two_hours_without_a_database() {
    print_head();
    let locked = Fault::locked();
    for (name, breakage, most_requests) in [
        ("hang", Breakage::Constant(Fault::Hang), MOST),
        ("refuse", Breakage::Refusing, MOST),
        ("503", Breakage::Constant(Fault::service_unavailable()), MOST),
        ("429", Breakage::Constant(Fault::too_many_requests(1)), MOST),
        ("locked", Breakage::Constant(locked), MOST),
        ("latency of 2 s", Breakage::Constant(Fault::Latency(Duration::from_secs(2))), MOST),
        ("reset mid-body", Breakage::Constant(Fault::ResetMidBody), MOST),
        ("wrong token", Breakage::Constant(Fault::unauthorized()), MOST),
        ("truncated answer", Breakage::Constant(Fault::TruncatedJson), MOST),
        ("missing rows", Breakage::Constant(Fault::MissingRows), MOST),
        ("web page", Breakage::Constant(Fault::html_ok()), MOST),
        ("flapping, 5 s", Breakage::Flapping(Fault::ResetBeforeExecute), 20_000),
    ] {
        let report = two_hours_of(breakage).await;
        report.print(name);
        report.check(name);
        assert!(report.requests <= most_requests, "{name}: {} requests", report.requests);
        // A thousand keys on three replicas, 64 a statement, and the feed: nothing like one request per key.
        assert!(report.requests_after <= 300, "{name}: a stampede of {}", report.requests_after);
    }
}
