//! Sixteen clients that record usage, and repeat each request under its id until it is acknowledged.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use tenant_auth_proto::v1::{self, usage_service_client::UsageServiceClient};
use tenant_auth_testkit::Random;
use tokio::{sync::watch, task::JoinSet};
use tonic::{Code, Request, Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::{ledger::Ledger, process::WAIT_TIMEOUT};

const CLIENTS: usize = 16;
/// More than the events of a request, each of which has a different tenant: each event is one row.
pub(crate) const TENANTS: usize = 5;
const MAX_EVENTS: usize = 4;
const METRICS: [&str; 3] = ["api.calls", "tokens", "bytes"];

/// The state that the clients and the killer share.
#[derive(Debug, Default)]
struct Shared {
    acknowledged: watch::Sender<usize>,
    in_flight: AtomicUsize,
    ending: AtomicBool,
}

/// Running clients.
pub(crate) struct Traffic {
    shared: Arc<Shared>,
    clients: JoinSet<ClientLog>,
}

/// The results of a client.
#[derive(Debug, Default)]
pub(crate) struct ClientLog {
    /// The acknowledged usage.
    pub(crate) ledger: Ledger,
    /// Number of requests sent more than once.
    pub(crate) retried: usize,
    /// Number of these that were recorded before their acknowledgement.
    pub(crate) already_recorded: usize,
}

impl Traffic {
    pub(crate) fn start(endpoint: &str, random: &mut Random) -> Self {
        let shared = Arc::new(Shared::default());
        let mut clients = JoinSet::new();
        for client in 0..CLIENTS {
            // Each client has its own connection.
            let channel = Channel::from_shared(endpoint.to_owned()).unwrap().connect_lazy();
            let client = Client {
                name: format!("client-{client}"),
                rpc: UsageServiceClient::new(channel),
                random: Random::new(random.below(usize::MAX) as u64),
                shared: Arc::clone(&shared),
            };
            clients.spawn(client.run());
        }
        Self { shared, clients }
    }

    /// Returns the number of requests in flight.
    pub(crate) fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Relaxed)
    }

    /// Waits until this many more requests are acknowledged.
    pub(crate) async fn until_more_acknowledged(&mut self, more: usize) {
        let mut acknowledged = self.shared.acknowledged.subscribe();
        let wanted = *acknowledged.borrow() + more;
        tokio::select! {
            reached = acknowledged.wait_for(|count| *count >= wanted) => drop(reached.unwrap()),
            // A client ends early only if it panicked.
            Some(client) = self.clients.join_next() => drop(client.unwrap()),
        }
    }

    /// Stops the clients after each has its last request acknowledged.
    pub(crate) async fn stop(self) -> ClientLog {
        self.shared.ending.store(true, Ordering::Relaxed);
        let mut all = ClientLog::default();
        for client_log in self.clients.join_all().await {
            all.ledger.merge(client_log.ledger);
            all.retried += client_log.retried;
            all.already_recorded += client_log.already_recorded;
        }
        all
    }
}

struct Client {
    name: String,
    rpc: UsageServiceClient<Channel>,
    random: Random,
    shared: Arc<Shared>,
}

impl Client {
    async fn run(mut self) -> ClientLog {
        let mut client_log = ClientLog::default();
        for number in 0_usize.. {
            if self.shared.ending.load(Ordering::Relaxed) {
                break;
            }
            let request = self.random_request(number);
            let (response, attempts) = self.send_until_acknowledged(&request).await;
            assert!(response.rejected.is_empty(), "{response:?}");
            assert_eq!(usize::try_from(response.accepted).unwrap(), request.events.len());
            assert!(
                attempts > 1 || !response.already_recorded,
                "{} was never sent before",
                request.request_id
            );
            client_log.retried += usize::from(attempts > 1);
            client_log.already_recorded += usize::from(response.already_recorded);
            client_log.ledger.add_acknowledged(request);
            self.shared.acknowledged.send_modify(|count| *count += 1);
        }
        client_log
    }

    fn random_request(&mut self, number: usize) -> v1::RecordUsageRequest {
        let first = self.random.below(TENANTS);
        let events = (0..=self.random.below(MAX_EVENTS)).map(|event| {
            let ago = Duration::from_secs(self.random.below(4 * 3_600) as u64);
            v1::UsageEvent {
                tenant_id: tenant_id((first + event) % TENANTS),
                metric: (*self.random.pick(&METRICS)).to_owned(),
                quantity: 1 + i64::try_from(self.random.below(1_000)).unwrap(),
                occurred_at: self.random.is_chance(50).then(|| (SystemTime::now() - ago).into()),
            }
        });
        v1::RecordUsageRequest { request_id: format!("{}-{number}", self.name), events: events.collect() }
    }

    /// Sends a request until it is acknowledged. Records how often it was sent.
    async fn send_until_acknowledged(
        &mut self,
        request: &v1::RecordUsageRequest,
    ) -> (v1::RecordUsageResponse, usize) {
        for attempt in 1.. {
            let mut message = Request::new(request.clone());
            message.set_timeout(WAIT_TIMEOUT);
            self.shared.in_flight.fetch_add(1, Ordering::Relaxed);
            let answer = self.rpc.record_usage(message).await;
            self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
            match answer {
                Ok(response) => return (response.into_inner(), attempt),
                Err(status) => assert!(is_retryable(&status), "{}: {status:?}", request.request_id),
            }
            // Clients pause between retries; otherwise the machine would be busy only with calls to a dead
            // service.
            let pause = Duration::from_millis(5 + self.random.below(20) as u64);
            tokio::time::sleep(pause).await;
        }
        unreachable!("the attempts are endless")
    }
}

/// Returns whether the contract allows a retry for this status, including the client's own errors for a
/// broken connection.
fn is_retryable(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::ResourceExhausted | Code::DeadlineExceeded => true,
        Code::Unknown | Code::Cancelled | Code::Internal => status.get_error_details().error_info().is_none(),
        _ => false,
    }
}

pub(crate) fn tenant_id(number: usize) -> String {
    format!("tenant-{number}")
}
