//! One client: draws requests, and sends them to replicas at random.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1::{
    self, Verdict, limit_credential::Credential, limit_service_client::LimitServiceClient,
};
use tenant_auth_testkit::Random;
use tonic::{Request, Status, transport::Channel};

use crate::{
    client_log::{Attempt, Call, ClientLog, Entry, Outcome},
    outcomes::{Failure, failure_of, outcome_of},
    population::{TOKENS, Tenant},
};

/// Longer than any run, without the hour by which the clock of the database advances in its middle.
pub(crate) const LONG_RESERVATION: Duration = Duration::from_secs(3 * 3_600);
/// After this time the client gives an attempt up. A replica can be paused for longer.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);

pub(crate) struct Client {
    pub(crate) replicas: Vec<LimitServiceClient<Channel>>,
    pub(crate) tenants: Arc<Vec<Tenant>>,
    pub(crate) log: Arc<ClientLog>,
    pub(crate) random: Random,
}

/// A verdict, what the limits said, and whether an earlier call had taken the amounts.
pub(crate) type Decided = (Verdict, Vec<v1::LimitDecision>, bool);

impl Client {
    /// Sends a request until its outcome is known, or once if it has no id. Adds it to the log unless it is a reservation.
    pub(crate) async fn send(&mut self, mut entry: Entry) -> Entry {
        loop {
            let replica = self.random.below(self.replicas.len());
            let sent = self.log.now();
            let answer = self.attempt(replica, &entry).await;
            let failure = answer.as_ref().err().map(failure_of);
            entry.attempts.push(Attempt {
                replica,
                sent,
                ended: self.log.now(),
                is_answered: failure.is_none_or(|failure| failure != Failure::Lost),
            });
            if failure == Some(Failure::NotTaken) {
                self.log.note_undecided(self.tenants[entry.tenant].is_closed_in_outages());
            }
            match (answer, failure) {
                (Ok(decided), _) => {
                    entry.outcome = outcome_of(decided, &entry);
                    return entry;
                }
                (Err(_), Some(Failure::NotTaken | Failure::NotSent)) if entry.id().is_none() => {
                    entry.outcome = Outcome::NotTaken;
                    self.pause().await;
                    return entry;
                }
                (Err(_), _) if entry.id().is_none() => {
                    entry.outcome = Outcome::Unknown;
                    self.pause().await;
                    return entry;
                }
                (Err(_), _) => self.pause().await,
            }
        }
    }

    async fn attempt(&mut self, replica: usize, entry: &Entry) -> Result<Decided, Status> {
        let credential = self.credential(entry);
        let costs = entry.costs.iter();
        let costs = costs.map(|(metric, amount)| v1::Cost { metric: (*metric).to_owned(), amount: *amount });
        let (costs, rpc) = (costs.collect(), &mut self.replicas[replica]);
        if let Call::Reserve(id) = &entry.call {
            let seconds = if is_long(id) { LONG_RESERVATION.as_secs().cast_signed() } else { 1 };
            let on_expiry =
                if is_charged(id) { v1::ReservationExpiry::Charge } else { v1::ReservationExpiry::Release };
            let request = v1::ReserveRequest {
                credential,
                costs,
                reservation_id: id.clone(),
                expires_in: Some(prost_types::Duration { seconds, nanos: 0 }),
                on_expiry: on_expiry.into(),
            };
            let response = rpc.reserve(in_time(request)).await?.into_inner();
            return Ok((response.verdict(), response.limits, response.already_reserved));
        }
        let consume_id = entry.id().unwrap_or_default().to_owned();
        let request = v1::ConsumeRequest { credential, costs, consume_id };
        let response = rpc.consume(in_time(request)).await?.into_inner();
        Ok((response.verdict(), response.limits, response.already_consumed))
    }

    fn credential(&self, entry: &Entry) -> Option<v1::LimitCredential> {
        let key = self.tenants[entry.tenant].keys[entry.key].plaintext.clone();
        let credential = Credential::Key(v1::ValidateKeyRequest { key, ..Default::default() });
        Some(v1::LimitCredential { credential: Some(credential) })
    }

    /// Draws a request of a tenant.
    pub(crate) fn draw(&mut self, tenant: usize, call: Call) -> Entry {
        let of_tenant = &self.tenants[tenant];
        let key = self.random.below(of_tenant.keys.len());
        let mut metrics: Vec<_> = of_tenant.limits.iter().map(|limit| limit.metric).collect();
        metrics.sort_unstable();
        metrics.dedup();
        let costs = metrics.into_iter().map(|metric| {
            let most = if metric == TOKENS { 16 } else { 3 };
            (metric, 1 + i64::try_from(self.random.below(most)).unwrap())
        });
        let costs = costs.collect();
        Entry { tenant, key, costs, call, attempts: Vec::new(), outcome: Outcome::NotTaken, end: None }
    }

    /// Clients pause between retries; otherwise the machine would be busy only with calls to a dead service.
    pub(crate) async fn pause(&mut self) {
        tokio::time::sleep(Duration::from_millis(5 + self.random.below(25) as u64)).await;
    }
}

pub(crate) fn in_time<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ATTEMPT_TIMEOUT);
    request
}

/// The expiry of a reservation follows from its id, so that all attempts ask for the same.
fn is_long(id: &str) -> bool {
    id.contains("long")
}

/// What happens at the expiry, likewise.
pub(crate) fn is_charged(id: &str) -> bool {
    id.contains("charge")
}
