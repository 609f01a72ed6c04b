//! One run: traffic, kills and pauses, the outage, and the end.

use std::{sync::Arc, time::Duration};

use tenant_auth_testkit::Random;

use crate::{
    client::LONG_RESERVATION,
    client_log::ClientLog,
    cluster::{Cluster, JUMP},
    drain::{exchange_until_none, take_the_rest},
    oracle::Evidence,
    population::tenants,
    report::Troubles,
    setup,
    stored::Stored,
    traffic::Traffic,
};

/// Longer than the lease of a quota is valid without its holder, and than any reservation.
const ALL_ENDED: Duration = LONG_RESERVATION.saturating_add(Duration::from_secs(15 * 60));
/// Reservations that end soon; the others outlast the traffic.
const SHORT_RESERVATIONS: &str = "SELECT count(*) FROM limit_reservations \
                                  WHERE state = 'held' AND expires_at < (SELECT at FROM limit_log) + 60000";
/// The running replica still has leases.
const EXPIRED: &str = "SELECT (SELECT count(*) FROM limit_leases WHERE expires_at < (SELECT at FROM limit_log) - 1000) \
                       + (SELECT count(*) FROM limit_reservations WHERE state = 'held')";

/// What happens in a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) kills: usize,
    pub(crate) pauses: usize,
    pub(crate) seed: u64,
}

pub(crate) async fn run(plan: Plan) -> (Evidence, Troubles) {
    let mut random = Random::new(plan.seed);
    let log = Arc::new(ClientLog::new());
    let mut cluster = Cluster::start(&log);
    let scale = i64::try_from(plan.kills.div_ceil(40).max(1)).unwrap();
    let tenants = Arc::new(setup::create(&cluster.endpoints(), tenants(scale)).await);
    let set_up = log.now();
    let mut traffic = Traffic::start(&cluster.endpoints(), &tenants, &log, &mut random);
    let mut jumped = None;
    for kill in 0..plan.kills {
        if kill == plan.kills / 2 {
            jumped = Some(cluster.take_database_down(&mut traffic).await);
        }
        // Spread evenly over the kills.
        while cluster.pauses * plan.kills < kill * plan.pauses {
            cluster.pause_one(&mut random);
        }
        cluster.kill_one(&mut traffic, &mut random).await;
    }
    cluster.proceed(&mut traffic, 300).await;
    cluster.resume_all();
    traffic.stop().await;
    let ended = log.now();
    cluster.stop_replicas().await;

    cluster.add_replica();
    let [endpoint] = &cluster.endpoints()[..] else { unreachable!("one replica") };
    let file = cluster.database.file.clone();
    exchange_until_none(endpoint, &tenants, &log, (&file, SHORT_RESERVATIONS)).await;
    let drained = take_the_rest(endpoint, &tenants, &log).await;
    let stored_when_drained = Stored::read(&file).await;
    let ahead = if jumped.is_some() { JUMP } else { Duration::ZERO };
    cluster.advance_database(ahead + ALL_ENDED).await;
    exchange_until_none(endpoint, &tenants, &log, (&file, EXPIRED)).await;
    cluster.stop_replicas().await;
    let troubles = Troubles {
        replica_kills: cluster.crashes.len(),
        database_kills: cluster.database_kills,
        mid_flight: cluster.mid_flight,
        pauses: cluster.pauses,
        phases: [set_up, ended - set_up, log.now() - ended],
    };
    let evidence = Evidence {
        tenants: (*tenants).clone(),
        entries: log.take(),
        crashes: cluster.crashes,
        jumped,
        drained,
        stored_when_drained,
        stored: Stored::read(&file).await,
    };
    (evidence, troubles)
}
