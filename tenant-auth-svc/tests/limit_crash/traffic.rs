//! Clients that take from the limits of all tenants without a pause.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use tenant_auth_proto::v1::limit_service_client::LimitServiceClient;
use tenant_auth_testkit::Random;
use tokio::{sync::watch, task::JoinSet};
use tonic::transport::Channel;

use crate::{
    client::Client,
    client_log::{Call, ClientLog, Entry, Outcome},
    population::{BUSY_TENANTS, TENANTS, Tenant},
};

const CLIENTS: usize = 24;
const CLIENTS_WITHOUT_IDS: usize = 6;

#[derive(Debug, Default)]
struct Shared {
    /// Requests that were admitted or denied.
    decided: watch::Sender<usize>,
    in_flight: AtomicUsize,
    ending: AtomicBool,
}

/// Running clients.
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    clients: JoinSet<()>,
}

impl Traffic {
    pub(crate) fn start(
        endpoints: &[String],
        tenants: &Arc<Vec<Tenant>>,
        log: &Arc<ClientLog>,
        random: &mut Random,
    ) -> Self {
        let shared = Arc::new(Shared::default());
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let client = Client {
                // Each client has its own connections.
                replicas: connect(endpoints),
                tenants: Arc::clone(tenants),
                log: Arc::clone(log),
                random: Random::new(random.below(usize::MAX) as u64),
            };
            clients.spawn(run(client, number, Arc::clone(&shared)));
        }
        Self { shared, clients }
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn decided(&self) -> usize {
        *self.shared.decided.borrow()
    }

    /// Waits until another request is decided.
    pub(crate) async fn until_more_decided(&mut self) {
        let mut decided = self.shared.decided.subscribe();
        tokio::select! {
            more = decided.changed() => more.unwrap(),
            // A client ends early only if it panicked.
            Some(client) = self.clients.join_next() => client.unwrap(),
        }
    }

    /// Stops the clients after the outcome of the last request of each is known.
    pub(crate) async fn stop(self) {
        self.shared.ending.store(true, Ordering::Relaxed);
        self.clients.join_all().await;
    }
}

pub(crate) fn connect(endpoints: &[String]) -> Vec<LimitServiceClient<Channel>> {
    let connect = |endpoint: &String| Channel::from_shared(endpoint.clone()).unwrap().connect_lazy();
    endpoints.iter().map(|endpoint| LimitServiceClient::new(connect(endpoint))).collect()
}

async fn run(mut client: Client, number: usize, shared: Arc<Shared>) {
    let mut held = Vec::new();
    for count in 0.. {
        if shared.ending.load(Ordering::Relaxed) {
            break;
        }
        let is_busy = client.random.is_chance(50);
        let tenant = client.random.below(if is_busy { BUSY_TENANTS } else { TENANTS });
        let id = format!("{number}-{count}");
        let call = match client.random.below(10) {
            // Some clients repeat nothing, so that they go on while the database is down.
            _ if number < CLIENTS_WITHOUT_IDS => Call::Consume,
            0..=2 => Call::Consume,
            3..=6 => Call::ConsumeOnce(id),
            _ => {
                let length = *client.random.pick(&["long", "short"]);
                let end = *client.random.pick(&["charge", "release"]);
                Call::Reserve(format!("{id}-{length}-{end}"))
            }
        };
        let drawn = client.draw(tenant, call);
        shared.in_flight.fetch_add(1, Ordering::Relaxed);
        let entry = client.send(drawn).await;
        shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        if entry.is_admitted() || matches!(entry.outcome, Outcome::Denied(..)) {
            shared.decided.send_modify(|decided| *decided += 1);
        }
        match &entry.call {
            Call::Reserve(_) if entry.is_admitted() => held.push(entry),
            Call::ConsumeOnce(id) if entry.is_admitted() && client.random.is_chance(10) => {
                let again =
                    Entry { call: Call::ConsumeAgain(id.clone()), attempts: Vec::new(), ..entry.clone() };
                client.log.add(entry);
                let again = client.send(again).await;
                client.log.add(again);
            }
            _ => client.log.add(entry),
        }
        // Reservations are ended while others are made, some after their expiry.
        if !held.is_empty() && client.random.is_chance(15) {
            let reserved = held.swap_remove(client.random.below(held.len()));
            let ended = client.end_reservation(reserved).await;
            client.log.add(ended);
        }
    }
    // The rest is abandoned.
    held.into_iter().for_each(|entry| client.log.add(entry));
}
