//! The outages: how the database breaks, and what else happens meanwhile.

use std::time::Duration;

use tenant_auth_svc::domain::clock::{Clock as _, UnixMillis};
use tenant_auth_testkit::Fault;
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::{
    cluster::{
        Cluster, EXPIRING_INDEX, EXPIRING_KEY_LIFETIME, KEY_GROUP_SIZE, KEYS, LONG_TIMEOUTS, SHORT_TIMEOUTS,
        WAIT_TIMEOUT,
    },
    partial::{self, PartialOutage},
    report::{AnswerCounts, Report},
};

/// Duration of an outage.
pub(crate) const OUTAGE_DURATION: Duration = Duration::from_secs(2 * 60 * 60);
/// Duration of a flapping outage: its cycles are all alike, and each step costs real requests.
const FLAPPING_DURATION: Duration = Duration::from_secs(2 * 60);
/// The default of `TENANT_AUTH_CACHE_GRACE`: how long cached keys are accepted in an outage.
const GRACE: Duration = Duration::from_secs(4 * 60 * 60);
/// The step in which the feed polls and the callers send requests. It applies at the start and after the
/// repair, as in production; in between, when nothing changes, steps are rarer.
pub(crate) const STEP: Duration = Duration::from_millis(250);
pub(crate) const INITIAL_PHASE: Duration = Duration::from_secs(15);
const LONG_STEP: Duration = Duration::from_secs(120);
/// Duration of a short phase.
const SHORT_PHASE: Duration = Duration::from_secs(10);

/// A kind of outage.
#[derive(Clone, Debug)]
pub(crate) enum Outage {
    /// Every call fails with this fault.
    Constant(Fault),
    /// Connections are refused.
    Refusing,
    /// Five seconds with this fault alternate with five seconds without.
    Flapping(Fault),
    /// The database is down when the replicas start.
    DownAtStart,
    /// The database is down for longer than the grace.
    LongerThanGrace,
    /// Keys are revoked just before, with SQL during, and just after the outage.
    Revocations,
    /// The wall clock jumps.
    ClockJumps,
    /// Only a part is broken.
    Partial(PartialOutage),
}

/// Replays an outage.
pub(crate) async fn replay(outage: &Outage) -> Report {
    let timeouts = match outage {
        Outage::Constant(Fault::Hang | Fault::Latency(_))
        | Outage::Partial(PartialOutage::WriteLockStuck) => SHORT_TIMEOUTS,
        _ => LONG_TIMEOUTS,
    };
    let with_read_replica = matches!(
        outage,
        Outage::Partial(PartialOutage::ReadReplicaLagging | PartialOutage::ReadReplicaStalled)
    );
    let mut cluster = Cluster::start_with(timeouts, with_read_replica).await;
    let before = cluster.database_requests();
    let mut report = Report { outage: OUTAGE_DURATION, ..Report::default() };
    match outage {
        Outage::Constant(fault) => {
            cluster.database.faults().set(fault.clone());
            let_time_pass(&mut cluster, OUTAGE_DURATION, &mut report.answers).await;
        }
        Outage::Refusing => {
            cluster.database.stop().await;
            let_time_pass(&mut cluster, OUTAGE_DURATION, &mut report.answers).await;
        }
        Outage::Flapping(fault) => {
            report.outage = FLAPPING_DURATION;
            alternate_fault(&mut cluster, fault, &mut report.answers).await;
        }
        Outage::DownAtStart => start_without_database(&mut cluster, &mut report).await,
        Outage::LongerThanGrace => run_past_grace(&mut cluster, &mut report).await,
        Outage::Revocations => run_revocations(&mut cluster, &mut report).await,
        Outage::ClockJumps => jump_clocks(&mut cluster, &mut report).await,
        Outage::Partial(partial) => partial::replay(partial, &mut cluster, &mut report).await,
    }
    report.requests = cluster.database_requests() - before;

    cluster.repair().await;
    if matches!(outage, Outage::Revocations) {
        // The replicas do not know yet that the database is back.
        revoke_some(&mut cluster, 4);
        cluster.validate_keys(&key_numbers_at(4), &mut report.answers).await;
    }
    measure_recovery(&mut cluster, &mut report).await;
    let lost_some = matches!(outage, Outage::Partial(PartialOutage::RolledBack));
    if !lost_some {
        cluster.traffic.check(&cluster).await;
    }
    match outage {
        Outage::DownAtStart => until_ready(&mut cluster).await,
        Outage::Revocations => {
            assert!(
                report.answers.late_allows > 0,
                "no validation reached a replica that cannot know of the revocation"
            );
            // By now all replicas know of all revocations.
            let mut counts = AnswerCounts::default();
            for group in 2..=4 {
                cluster.validate_keys(&key_numbers_at(group), &mut counts).await;
            }
            assert_eq!(counts.correct, counts.total(), "{counts:?}");
        }
        _ => {}
    }
    report
}

/// Measures the two seconds after the repair.
async fn measure_recovery(cluster: &mut Cluster, report: &mut Report) {
    let repaired = cluster.database_requests();
    let mut since = Duration::ZERO;
    let mut normal = None;
    let is_blind = report.answers_without_knowledge.total() > 0;
    while since < Duration::from_secs(2) {
        let recovering = is_blind && normal.is_none();
        let counts = if recovering { &mut report.answers_while_recovering } else { &mut report.answers };
        cluster.step(STEP, counts).await;
        since += STEP;
        if normal.is_none() && cluster.is_normal().await {
            normal = Some(since);
        }
    }
    report.recovery = normal.unwrap_or(Duration::MAX);
    report.requests_after = cluster.database_requests() - repaired;
}

/// Advances the time during an outage.
pub(crate) async fn let_time_pass(cluster: &mut Cluster, time: Duration, counts: &mut AnswerCounts) {
    let mut elapsed = Duration::ZERO;
    while elapsed < time {
        let step = if elapsed < INITIAL_PHASE { STEP } else { LONG_STEP };
        cluster.step(step, counts).await;
        elapsed += step;
    }
}

async fn alternate_fault(cluster: &mut Cluster, fault: &Fault, counts: &mut AnswerCounts) {
    let mut elapsed = Duration::ZERO;
    while elapsed < FLAPPING_DURATION {
        match (elapsed.as_secs() / 5).is_multiple_of(2) {
            true => cluster.database.faults().set(fault.clone()),
            false => cluster.database.faults().clear(),
        }
        cluster.step(STEP, counts).await;
        elapsed += STEP;
    }
}

/// Without any cached record, no replica may answer or report to be ready.
async fn start_without_database(cluster: &mut Cluster, report: &mut Report) {
    cluster.database.stop().await;
    cluster.replicas.clear();
    for _ in 0..super::cluster::REPLICAS {
        let replica = cluster.start_replica().await;
        cluster.replicas.push(replica);
    }
    report.outage = INITIAL_PHASE;
    let_time_pass(cluster, report.outage, &mut report.answers_without_knowledge).await;
    for status in serving_states(cluster).await {
        assert_eq!(status, ServingStatus::NotServing, "the database was never reached");
    }
}

/// Waits for the next check of the database, at most 5 s of real time later, which makes the replicas ready.
async fn until_ready(cluster: &mut Cluster) {
    for replica in &mut cluster.replicas {
        tokio::time::timeout(WAIT_TIMEOUT, replica.wait_until_ready())
            .await
            .expect("the replica must check the database again")
            .unwrap();
    }
    for status in serving_states(cluster).await {
        assert_eq!(status, ServingStatus::Serving);
    }
}

async fn serving_states(cluster: &Cluster) -> Vec<ServingStatus> {
    let mut all = Vec::new();
    for replica in &cluster.replicas {
        let channel = Channel::from_shared(format!("http://{}", replica.address())).unwrap();
        let mut client = HealthClient::new(channel.connect().await.unwrap());
        let request = HealthCheckRequest { service: "tenantauth.v1.ValidationService".to_owned() };
        all.push(client.check(request).await.unwrap().into_inner().status());
    }
    all
}

/// Exact to the millisecond: every key is answered until 1 ms before the grace of the oldest answer ends, and
/// none once the grace of the youngest has ended.
async fn run_past_grace(cluster: &mut Cluster, report: &mut Report) {
    let all: Vec<usize> = (0..KEYS).collect();
    let instant = Duration::from_millis(1);
    report.outage = GRACE + OUTAGE_DURATION;
    cluster.database.faults().set(Fault::service_unavailable());
    let_time_pass(cluster, GRACE - LONG_STEP * 2, &mut report.answers).await;
    let ages = cluster.answer_ages().await;
    let (oldest, youngest) = (*ages.iter().max().unwrap(), *ages.iter().min().unwrap());

    cluster.clock.advance(GRACE - oldest - instant);
    cluster.validate_keys(&all, &mut report.answers).await;
    cluster.clock.advance(oldest - youngest + instant);
    cluster.validate_keys(&all, &mut report.answers_without_knowledge).await;
    for _ in 0..4 {
        cluster.step(OUTAGE_DURATION / 4, &mut report.answers_without_knowledge).await;
    }
}

/// Revocations that replicas cannot know of are ignored until their next poll of the feed, and no longer.
async fn run_revocations(cluster: &mut Cluster, report: &mut Report) {
    for number in key_numbers_at(2) {
        cluster.revoke_on_first(number).await;
    }
    cluster.database.faults().set(Fault::ResetBeforeExecute);
    let_time_pass(cluster, OUTAGE_DURATION / 2, &mut report.answers).await;
    revoke_some(cluster, 3);
    cluster.validate_keys(&key_numbers_at(3), &mut report.answers).await;
    let_time_pass(cluster, OUTAGE_DURATION / 2, &mut report.answers).await;
}

fn revoke_some(cluster: &mut Cluster, group: usize) {
    for number in key_numbers_at(group) {
        cluster.revoke_with_sql(number);
    }
}

/// Returns the keys at this index in each group.
pub(crate) fn key_numbers_at(index: usize) -> Vec<usize> {
    (index..KEYS).step_by(KEY_GROUP_SIZE).collect()
}

/// The wall clock is hours wrong in either direction. This must not change the age of answers or the lifetime
/// of entries; only a key's own expiry follows the wall clock.
async fn jump_clocks(cluster: &mut Cluster, report: &mut Report) {
    let hours = |hours: i64| hours * 60 * 60 * 1_000;
    cluster.database.faults().set(Fault::service_unavailable());
    let_time_pass(cluster, SHORT_PHASE, &mut report.answers).await;
    for by in [hours(9), hours(-14), hours(5)] {
        let ages = cluster.answer_ages().await;
        cluster.clock.jump_to(UnixMillis(cluster.clock.now().0 + by));
        assert_eq!(cluster.answer_ages().await, ages, "the monotonic clock has not advanced");
        let before = report.answers.correct;
        cluster.validate_keys(&key_numbers_at(EXPIRING_INDEX), &mut report.answers).await;
        assert!(report.answers.correct > before, "the expiring keys are cached");
        let_time_pass(cluster, SHORT_PHASE, &mut report.answers).await;
    }
    // From before the keys' expiry by any clock to after it.
    let_time_pass(cluster, EXPIRING_KEY_LIFETIME, &mut report.answers).await;
    cluster.validate_keys(&key_numbers_at(EXPIRING_INDEX), &mut report.answers).await;
    report.outage = SHORT_PHASE * 4 + EXPIRING_KEY_LIFETIME;
}
