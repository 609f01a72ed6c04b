//! The outages: how the database breaks, and what else goes on meanwhile.

use std::time::Duration;

use tenant_auth_svc::domain::clock::{Clock as _, UnixMillis};
use tenant_auth_testkit::Fault;
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{
    cluster::{Cluster, ENDING, GROUP, IMPATIENT, KEYS, LIFETIME, PATIENCE, PATIENT},
    partial::{self, Partial},
    report::{Report, Told},
};

/// How long the database is broken.
pub(crate) const OUTAGE: Duration = Duration::from_secs(2 * 60 * 60);
/// How long it is flapping: one cycle is like any other, and each step of it costs real requests.
const FLAPPING: Duration = Duration::from_secs(2 * 60);
/// For how long known keys are honoured: `TENANT_AUTH_CACHE_GRACE`, its default.
const GRACE: Duration = Duration::from_secs(4 * 60 * 60);
/// The feed and the callers move once in this time: as in life at the start and after the repair, and rarely in
/// between, when nothing changes from one step to the next.
pub(crate) const STEP: Duration = Duration::from_millis(250);
pub(crate) const START: Duration = Duration::from_secs(15);
const STRIDE: Duration = Duration::from_secs(120);
/// What is neither at the start nor long.
const SHORT: Duration = Duration::from_secs(10);

/// What happens.
#[derive(Clone, Debug)]
pub(crate) enum Outage {
    /// The database is broken like this, all the time.
    Constant(Fault),
    /// Connections are refused.
    Refusing,
    /// Like this for five seconds, well for five seconds, and so on.
    Flapping(Fault),
    /// The replicas start while it is away.
    AwayAtTheStart,
    /// It is away for longer than the grace.
    BeyondTheGrace,
    /// Keys are revoked just before, meanwhile by another hand, and just after.
    Revocations,
    /// The wall clock jumps.
    ClockJumps,
    /// Something is broken, and something is not.
    Partial(Partial),
}

/// Lets it happen.
pub(crate) async fn replay(outage: &Outage) -> Report {
    let timeouts = match outage {
        Outage::Constant(Fault::Hang | Fault::Latency(_)) | Outage::Partial(Partial::LockStuck) => IMPATIENT,
        _ => PATIENT,
    };
    let with_copy = matches!(outage, Outage::Partial(Partial::CopyLags | Partial::CopyStandsStill));
    let mut cluster = Cluster::start_with(timeouts, with_copy).await;
    let before = cluster.requests();
    let mut report = Report { outage: OUTAGE, ..Report::default() };
    match outage {
        Outage::Constant(fault) => {
            cluster.database.faults().set(fault.clone());
            last(&mut cluster, OUTAGE, &mut report.told).await;
        }
        Outage::Refusing => {
            cluster.database.stop().await;
            last(&mut cluster, OUTAGE, &mut report.told).await;
        }
        Outage::Flapping(fault) => {
            report.outage = FLAPPING;
            flap(&mut cluster, fault, &mut report.told).await;
        }
        Outage::AwayAtTheStart => start_without(&mut cluster, &mut report).await,
        Outage::BeyondTheGrace => outlast_the_grace(&mut cluster, &mut report).await,
        Outage::Revocations => revoke(&mut cluster, &mut report).await,
        Outage::ClockJumps => jump(&mut cluster, &mut report).await,
        Outage::Partial(partial) => partial::replay(partial, &mut cluster, &mut report).await,
    }
    report.requests = cluster.requests() - before;

    cluster.repair().await;
    if matches!(outage, Outage::Revocations) {
        // The replicas have not heard that it is back.
        revoke_some(&mut cluster, 4);
        cluster.ask(&numbers(4), &mut report.told).await;
    }
    recover(&mut cluster, &mut report).await;
    let lost_some = matches!(outage, Outage::Partial(Partial::RolledBack));
    if !lost_some {
        cluster.traffic.check(&cluster).await;
    }
    match outage {
        Outage::AwayAtTheStart => are_ready(&mut cluster).await,
        Outage::Revocations => {
            assert!(report.told.late_allows > 0, "what nobody can have heard of was not asked about");
            // All have been heard of by now.
            let mut told = Told::default();
            for group in 2..=4 {
                cluster.ask(&numbers(group), &mut told).await;
            }
            assert_eq!(told.correct, told.answers(), "{told:?}");
        }
        _ => {}
    }
    report
}

/// Two seconds from the repair on.
async fn recover(cluster: &mut Cluster, report: &mut Report) {
    let repaired = cluster.requests();
    let mut since = Duration::ZERO;
    let mut normal = None;
    let is_blind = report.told_blindly.answers() > 0;
    while since < Duration::from_secs(2) {
        let recovering = is_blind && normal.is_none();
        let told = if recovering { &mut report.told_recovering } else { &mut report.told };
        cluster.step(STEP, told).await;
        since += STEP;
        if normal.is_none() && cluster.is_normal().await {
            normal = Some(since);
        }
    }
    report.recovery = normal.unwrap_or(Duration::MAX);
    report.requests_after = cluster.requests() - repaired;
}

/// Lets it last.
pub(crate) async fn last(cluster: &mut Cluster, time: Duration, told: &mut Told) {
    let mut elapsed = Duration::ZERO;
    while elapsed < time {
        let step = if elapsed < START { STEP } else { STRIDE };
        cluster.step(step, told).await;
        elapsed += step;
    }
}

async fn flap(cluster: &mut Cluster, fault: &Fault, told: &mut Told) {
    let mut elapsed = Duration::ZERO;
    while elapsed < FLAPPING {
        match (elapsed.as_secs() / 5).is_multiple_of(2) {
            true => cluster.database.faults().set(fault.clone()),
            false => cluster.database.faults().clear(),
        }
        cluster.step(STEP, told).await;
        elapsed += STEP;
    }
}

/// Nobody knows anything, so nobody says anything, and no replica claims to be ready.
async fn start_without(cluster: &mut Cluster, report: &mut Report) {
    cluster.database.stop().await;
    cluster.replicas.clear();
    for _ in 0..super::cluster::REPLICAS {
        let replica = cluster.run().await;
        cluster.replicas.push(replica);
    }
    report.outage = START;
    last(cluster, report.outage, &mut report.told_blindly).await;
    for status in serving(cluster).await {
        assert_eq!(status, ServingStatus::NotServing, "without ever having reached the database");
    }
}

/// The next look at the database, 5 s later at most by a clock that nobody moves, makes them ready.
async fn are_ready(cluster: &mut Cluster) {
    for replica in &mut cluster.replicas {
        tokio::time::timeout(PATIENCE, replica.ready()).await.expect("it looks again").unwrap();
    }
    for status in serving(cluster).await {
        assert_eq!(status, ServingStatus::Serving);
    }
}

async fn serving(cluster: &Cluster) -> Vec<ServingStatus> {
    let mut all = Vec::new();
    for replica in &cluster.replicas {
        let channel = Channel::from_shared(format!("http://{}", replica.address())).unwrap();
        let mut client = HealthClient::new(channel.connect().await.unwrap());
        let request = HealthCheckRequest { service: "tenantauth.v1.ValidationService".to_owned() };
        all.push(client.check(request).await.unwrap().into_inner().status());
    }
    all
}

/// To the millisecond: everything is answered one before the grace of the oldest answer ends, and nothing once that of
/// the youngest has.
async fn outlast_the_grace(cluster: &mut Cluster, report: &mut Report) {
    let all: Vec<usize> = (0..KEYS).collect();
    let instant = Duration::from_millis(1);
    report.outage = GRACE + OUTAGE;
    cluster.database.faults().set(Fault::service_unavailable());
    last(cluster, GRACE - STRIDE * 2, &mut report.told).await;
    let ages = cluster.ages().await;
    let (oldest, youngest) = (*ages.iter().max().unwrap(), *ages.iter().min().unwrap());

    cluster.clock.advance(GRACE - oldest - instant);
    cluster.ask(&all, &mut report.told).await;
    cluster.clock.advance(oldest - youngest + instant);
    cluster.ask(&all, &mut report.told_blindly).await;
    for _ in 0..4 {
        cluster.step(OUTAGE / 4, &mut report.told_blindly).await;
    }
}

/// What the replicas cannot have heard of is honoured until they read the feed again, and no longer.
async fn revoke(cluster: &mut Cluster, report: &mut Report) {
    for number in numbers(2) {
        cluster.revoke(number).await;
    }
    cluster.database.faults().set(Fault::ResetBeforeExecute);
    last(cluster, OUTAGE / 2, &mut report.told).await;
    revoke_some(cluster, 3);
    cluster.ask(&numbers(3), &mut report.told).await;
    last(cluster, OUTAGE / 2, &mut report.told).await;
}

fn revoke_some(cluster: &mut Cluster, group: usize) {
    for number in numbers(group) {
        cluster.revoke_by_another_hand(number);
    }
}

/// Every key that is the one at `place` in its group.
pub(crate) fn numbers(place: usize) -> Vec<usize> {
    (place..KEYS).step_by(GROUP).collect()
}

/// The wall clock is hours wrong in either direction: answers grow no older, nothing is forgotten or kept for longer, and
/// a key's own end is the clock's.
async fn jump(cluster: &mut Cluster, report: &mut Report) {
    let hours = |hours: i64| hours * 60 * 60 * 1_000;
    cluster.database.faults().set(Fault::service_unavailable());
    last(cluster, SHORT, &mut report.told).await;
    for by in [hours(9), hours(-14), hours(5)] {
        let ages = cluster.ages().await;
        cluster.clock.jump_to(UnixMillis(cluster.clock.now().0 + by));
        assert_eq!(cluster.ages().await, ages, "no time has passed");
        let before = report.told.correct;
        cluster.ask(&numbers(ENDING), &mut report.told).await;
        assert!(report.told.correct > before, "the keys that end are known");
        last(cluster, SHORT, &mut report.told).await;
    }
    // From before their end by any clock to after it.
    last(cluster, LIFETIME, &mut report.told).await;
    cluster.ask(&numbers(ENDING), &mut report.told).await;
    report.outage = SHORT * 4 + LIFETIME;
}
