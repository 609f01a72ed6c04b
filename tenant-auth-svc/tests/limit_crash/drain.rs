//! After the traffic: one replica takes what is left of every limit, and the leases of killed replicas end.

use std::{path::Path, sync::Arc};

use futures::future::join_all;
use tenant_auth_proto::v1::DecidedBy;
use tenant_auth_testkit::Random;

use crate::{
    client::Client,
    client_log::{Call, ClientLog, Entry, Outcome},
    database::unix_millis,
    population::{CounterId, Kind, Tenant},
    process::WAIT_TIMEOUT,
    stored::count,
    traffic::connect,
};

/// How many tenants are under way at once.
const WORKERS: u64 = 32;

/// A counter of which nothing was left: the database was asked for 1 and refused.
#[derive(Clone, Debug)]
pub(crate) struct Drained {
    pub(crate) counter: CounterId,
    /// The window, if the limit has windows.
    pub(crate) window_start: Option<i64>,
    /// Before it was asked, by the clock of the machine in Unix milliseconds.
    pub(crate) asked_at: i64,
}

/// Takes what is left of all limits but rates. Several requests are under way, each for another tenant.
pub(crate) async fn take_the_rest(
    endpoint: &str,
    tenants: &Arc<Vec<Tenant>>,
    log: &Arc<ClientLog>,
) -> Vec<Drained> {
    let workers = (0..WORKERS).map(|worker| async move {
        let mut client = Client {
            replicas: connect(&[endpoint.to_owned()]),
            tenants: Arc::clone(tenants),
            log: Arc::clone(log),
            random: Random::new(worker),
        };
        let mut drained = Vec::new();
        for number in (0..tenants.len()).filter(|number| *number as u64 % WORKERS == worker) {
            for (key, metric) in what_to_take(&tenants[number]) {
                take_rest_of(&mut client, (number, key), metric, &mut drained).await;
            }
        }
        drained
    });
    join_all(workers).await.concat()
}

/// The keys and metrics that all counters of a tenant are reached with. Nothing if only rates limit it.
fn what_to_take(tenant: &Tenant) -> Vec<(usize, &'static str)> {
    let limits = tenant.limits.iter().filter(|limit| limit.kind != Kind::Rate);
    // The limits of the plan last: the first key has less of its own.
    let mut wanted: Vec<_> = limits.map(|limit| (limit.of_key.unwrap_or(0), limit.metric)).collect();
    wanted.sort_unstable();
    wanted.dedup();
    wanted
}

async fn take_rest_of(
    client: &mut Client,
    (tenant, key): (usize, usize),
    metric: &'static str,
    drained: &mut Vec<Drained>,
) {
    let mut amount = 64;
    loop {
        let drawn = Entry { key, costs: vec![(metric, amount)], ..client.draw(tenant, Call::Consume) };
        let asked_at = unix_millis();
        let entry = client.send(drawn).await;
        client.log.add(entry.clone());
        let Outcome::Denied(exceeded, decided_by) = entry.outcome else { continue };
        let of_tenant = &client.tenants[tenant];
        let limits: Vec<_> = of_tenant.limits_of(key, metric).collect();
        let is_rate = |name: &str| limits.iter().any(|limit| limit.name == name && limit.kind == Kind::Rate);
        let exceeded: Vec<_> = exceeded.into_iter().filter(|(name, _)| !is_rate(name)).collect();
        if amount > 1 {
            amount /= 2;
        } else if exceeded.is_empty() || decided_by != DecidedBy::Database {
            // Something flows into the rate that is spent; or the database is not asked again for a while.
            client.pause().await;
        } else {
            drained.extend(exceeded.into_iter().map(|(name, window_start)| {
                let limit = limits.iter().find(|limit| limit.name == name).expect("a limit of the key");
                Drained { counter: limit.counter(of_tenant), window_start, asked_at }
            }));
            return;
        }
    }
}

/// Makes exchanges, each of which ends what has expired, until a query counts nothing.
pub(crate) async fn exchange_until_none(
    endpoint: &str,
    tenants: &Arc<Vec<Tenant>>,
    log: &Arc<ClientLog>,
    (file, sql): (&Path, &str),
) {
    let mut client = Client {
        replicas: connect(&[endpoint.to_owned()]),
        tenants: Arc::clone(tenants),
        log: Arc::clone(log),
        random: Random::new(0),
    };
    let mut last = None;
    let exchanging = async {
        for number in 0.. {
            // Cancelling what does not exist is an exchange that takes nothing.
            let is_exchanged = client.cancel_unknown(&format!("none-{number}")).await;
            let left = count(file, sql).await;
            last = Some((is_exchanged, left));
            if is_exchanged && left == 0 {
                return;
            }
        }
    };
    let in_time = tokio::time::timeout(WAIT_TIMEOUT, exchanging).await;
    assert!(in_time.is_ok(), "everything must end: {sql}: answered and left {last:?}");
}
