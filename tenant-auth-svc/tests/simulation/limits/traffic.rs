//! Consumption: with and without an id, repeated, on all replicas.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use tenant_auth_proto::v1::{
    self, Source as ProtoSource, Verdict as ProtoVerdict, limit_service_client::LimitServiceClient,
};
use tenant_auth_svc::domain::verdict::{Source, Verdict};
use tenant_auth_testkit::Random;
use tonic::{Code, Request, Status};

use super::{
    NAMES,
    counted::FreeAmounts,
    decisions::{Admitted, Decided, counter_of},
    ledger::LimitLedger,
    reservations::SentReservation,
};
use crate::{
    cluster::{REPLICAS, SimulatedCluster},
    oracle::ObservedAnswer,
    replica::{CALLERS_ADDRESS, Credential, SeededFlaw},
};

/// How long a caller waits, in real time: during a fault, not long for a decision that may be impossible.
const CALLER_TIMEOUT: Duration = Duration::from_secs(2);
const CALLER_TIMEOUT_DURING_FAULTS: Duration = Duration::from_millis(600);
/// How long a decision may be impossible after the last fault, in real time: an exchange is repeated every second.
const MAX_UNDECIDED: Duration = Duration::from_secs(3);
/// The largest cost of a request.
pub(super) const MAX_COST: i64 = 12;
/// How often the end of a simulation tries to get a decision.
const ATTEMPTS: usize = 10;

/// What is known about limits.
#[derive(Debug, Default)]
pub(crate) struct LimitTraffic {
    pub(crate) ledger: LimitLedger,
    pub(crate) free: FreeAmounts,
    /// Of each replica: how many exchanges had failed at its last decision with the database.
    pub(crate) known_failures: [u64; REPLICAS],
    /// When a database was last accepted as it is.
    pub(crate) accepted_at: Option<Duration>,
    /// How many exchanges of all replicas had failed at the last step.
    pub(crate) failed_exchanges: u64,
    pub(crate) sent: Vec<SentConsumption>,
    pub(crate) reservations: Vec<SentReservation>,
    /// Adjustments of credits.
    pub(crate) adjustments: u64,
    /// The largest time of the wall clock, and the first one.
    pub(crate) wall: Option<(i64, i64)>,
}

/// Consumption with an id.
#[derive(Clone, Debug)]
pub(crate) struct SentConsumption {
    id: String,
    key: Credential,
    costs: Vec<(String, i64)>,
    /// The key that it was admitted for.
    admitted: Option<String>,
}

impl LimitTraffic {
    /// The database is another one: it may not know what was taken.
    pub(crate) fn forget_all(&mut self, order: u64, at: Duration) {
        self.ledger.forget_all(order);
        self.accepted_at = Some(at);
        self.sent.clear();
        self.reservations.clear();
    }
}

/// Draws one to three costs.
pub(super) fn random_costs(random: &mut Random) -> Vec<(String, i64)> {
    let mut costs: HashMap<String, i64> = HashMap::new();
    for _ in 0..1 + random.below(3) {
        costs.insert((*random.pick(&NAMES)).to_owned(), 1 + random.below(MAX_COST as usize) as i64);
    }
    let mut costs: Vec<_> = costs.into_iter().collect();
    costs.sort_unstable();
    costs
}

pub(super) fn credential(key: &Credential) -> Option<v1::LimitCredential> {
    let request = v1::ValidateKeyRequest {
        key: key.plaintext.clone(),
        client_address: CALLERS_ADDRESS.to_owned(),
        ..Default::default()
    };
    Some(v1::LimitCredential { credential: Some(v1::limit_credential::Credential::Key(request)) })
}

pub(super) fn proto_costs(costs: &[(String, i64)]) -> Vec<v1::Cost> {
    costs.iter().map(|(metric, amount)| v1::Cost { metric: metric.clone(), amount: *amount }).collect()
}

impl SimulatedCluster {
    /// Notes the time of the wall clock: hours may have begun.
    pub(crate) fn note_wall_clock(&mut self) {
        let wall = self.now().wall;
        let (latest, first) = self.limits.wall.unwrap_or((wall, wall));
        let latest = latest.max(wall);
        self.limits.wall = Some((latest, first));
        self.limits.ledger.record_hours((latest - first) / 3_600_000 + 1);
    }

    /// How many exchanges of all running replicas have failed.
    pub(crate) fn failed_exchanges(&self) -> u64 {
        self.replicas.iter().map(|replica| replica.limits().counts().failed_exchanges()).sum()
    }

    /// Notes exchanges that have failed: writes may be refused for a while.
    pub(crate) fn note_failed_exchanges(&mut self) {
        let failed = self.failed_exchanges();
        if failed != self.limits.failed_exchanges {
            self.limits.failed_exchanges = failed;
            self.record_unanswered_change();
        }
    }

    /// Returns whether decisions of limits must be possible.
    pub(crate) fn limits_work(&self) -> bool {
        self.trouble.is_none() && self.writes_work() && self.listings_work() && self.read_replica_follows()
    }

    /// Returns how long a caller waits now.
    pub(super) fn callers_timeout(&self) -> Duration {
        if self.trouble.is_none() { CALLER_TIMEOUT } else { CALLER_TIMEOUT_DURING_FAULTS }
    }

    /// Takes something a few times, with one key, on one or several replicas.
    pub(crate) async fn take_from_limits(
        &mut self,
        replica: usize,
        key: &Credential,
        random: &mut Random,
    ) -> Result<String, String> {
        let times = 1 + random.below(if self.limits_work() { 8 } else { 3 });
        let costs = random_costs(random);
        let mut outcomes = Vec::new();
        for _ in 0..times {
            let replica = if random.is_chance(60) { replica } else { random.below(REPLICAS) };
            let outcome = if random.is_chance(25) {
                self.consume_once(replica, key, &costs, random).await
            } else {
                self.consume(replica, key, &costs, "").await.map(|outcome| outcome.0)
            };
            outcomes.push(outcome.map_err(|why| format!("replica {replica} takes {costs:?}: {why}"))?);
        }
        Ok(format!("{} takes {costs:?}: {}", key.plaintext, outcomes.join(", ")))
    }

    /// Takes something with an id: a new one, or one that was sent before.
    async fn consume_once(
        &mut self,
        replica: usize,
        key: &Credential,
        costs: &[(String, i64)],
        random: &mut Random,
    ) -> Result<String, String> {
        let at = if !self.limits.sent.is_empty() && random.is_chance(60) {
            random.below(self.limits.sent.len())
        } else {
            let id = format!("consume-{}", self.oracle.next_order());
            let sent = SentConsumption { id, key: key.clone(), costs: costs.to_vec(), admitted: None };
            self.limits.sent.push(sent);
            self.limits.sent.len() - 1
        };
        let SentConsumption { id, key, costs, admitted } = self.limits.sent[at].clone();
        let (outcome, response) = self.consume(replica, &key, &costs, &id).await?;
        if let Some((response, key_id)) =
            response.filter(|(response, _)| response.verdict() == ProtoVerdict::Valid)
        {
            let was_admitted = admitted.as_ref() == Some(&key_id);
            if was_admitted && !response.already_consumed {
                return Err(format!("{id} is consumed twice"));
            }
            self.count(if response.already_consumed { "already consumed" } else { "consumed once" });
            self.limits.sent[at].admitted = Some(key_id);
        } else if admitted.is_some() && outcome.contains("EXCEEDED") {
            return Err(format!("{id} was admitted before, and is denied now: {outcome}"));
        }
        if self.flaw == SeededFlaw::ForgetsConsumeIds {
            self.server.execute("DELETE FROM limit_ids").unwrap();
        }
        Ok(format!("{id}: {outcome}"))
    }

    /// Takes something, and checks the decision. Returns it with the id of the key, if there is one.
    pub(super) async fn consume(
        &mut self,
        replica: usize,
        key: &Credential,
        costs: &[(String, i64)],
        id: &str,
    ) -> Result<(String, Option<(v1::ConsumeResponse, String)>), String> {
        let deadline = Instant::now() + MAX_UNDECIDED;
        loop {
            self.catch_up_read_replica_if_following(replica).await;
            self.record_free_amounts();
            let failed_before = self.replicas[replica].limits().counts().failed_exchanges();
            let mut request = Request::new(v1::ConsumeRequest {
                credential: credential(key),
                costs: proto_costs(costs),
                consume_id: id.to_owned(),
            });
            request.set_timeout(self.callers_timeout());
            let response = LimitServiceClient::new(self.channels[replica].clone()).consume(request).await;
            match response.map(tonic::Response::into_inner) {
                Ok(response) => {
                    let decided = (response.verdict(), &response.limits[..], failed_before);
                    let repeated = response.already_consumed;
                    let validated = match &response.validation {
                        Some(v1::consume_response::Validation::Key(validated)) => validated.clone(),
                        other => return Err(format!("validated {other:?}")),
                    };
                    let outcome =
                        self.judge_consumption(replica, (key, costs), decided, &validated, repeated).await?.0;
                    return Ok((outcome, Some((response, validated.key_id))));
                }
                // The key was replaced by another one with the same plaintext.
                Err(status) if status.code() == Code::AlreadyExists && !id.is_empty() => {
                    return Ok(("another key".to_owned(), None));
                }
                Err(status) if self.may_be_undecided(&status)? || Instant::now() >= deadline => {
                    if self.limits_work() {
                        // A breaker may be open, which needs simulated time: the end of the simulation checks again.
                        self.record_unanswered_change();
                        self.count("limits undecided on a busy machine");
                    }
                    self.count("limits undecided");
                    self.note_uncertain(key, costs);
                    return Ok((format!("{:?}", status.code()), None));
                }
                // On a busy machine an exchange may time out; it is repeated.
                Err(_) => {
                    self.note_uncertain(key, costs);
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    /// At the end of a simulation, every replica decides.
    pub(crate) async fn check_limits_decide(&mut self, key: &Credential) -> Result<(), String> {
        let costs: Vec<_> = NAMES.iter().map(|name| ((*name).to_owned(), 1)).collect();
        for replica in 0..REPLICAS {
            let mut attempts = 0;
            while self.consume(replica, key, &costs, "").await?.1.is_none() {
                attempts += 1;
                if attempts == ATTEMPTS {
                    return Err(format!("replica {replica} decides nothing, and there is no fault"));
                }
                self.restart_if_wedged().await;
                self.note_failed_exchanges();
                self.advance_time(Duration::from_secs(11)).await?;
            }
        }
        Ok(())
    }

    /// The costs may have been taken.
    pub(super) fn note_uncertain(&mut self, key: &Credential, costs: &[(String, i64)]) {
        let Some(row) = self.oracle.key(&key.digest) else { return };
        let row = v1::ValidateKeyResponse {
            tenant_id: row.tenant.clone(),
            key_id: row.id.clone(),
            ..Default::default()
        };
        for (name, cost) in costs {
            self.limits.ledger.add_uncertain(&counter_of(&row, name), *cost);
        }
    }

    /// Whether a failure is permitted now. The error is about one that never is.
    pub(super) fn may_be_undecided(&self, status: &Status) -> Result<bool, String> {
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => Ok(!self.limits_work()),
            _ => Err(format!("{status:?}")),
        }
    }

    /// Checks the verdict on the key, and the decision of the limits.
    pub(super) async fn judge_consumption(
        &mut self,
        replica: usize,
        (key, costs): (&Credential, &[(String, i64)]),
        (verdict, limits, failed_before): (ProtoVerdict, &[v1::LimitDecision], u64),
        validated: &v1::ValidateKeyResponse,
        is_repeated: bool,
    ) -> Result<(String, Vec<Admitted>), String> {
        let answer = observed(validated)?;
        let judged = self.oracle.check_answer(replica, &key.digest, false, self.now(), Ok(answer));
        judged.map_err(|why| format!("{answer:?} for {}: {why}", key.plaintext))?;
        if validated.verdict() != ProtoVerdict::Valid {
            let is_same = verdict == validated.verdict() && limits.is_empty();
            return if is_same {
                Ok((verdict.as_str_name().to_owned(), Vec::new()))
            } else {
                Err(format!("the key is {:?}, and the decision {verdict:?}: {limits:?}", validated.verdict()))
            };
        }
        if is_repeated {
            // An answer to an earlier request was lost.
            self.note_uncertain(key, costs);
            return Ok(("repeated".to_owned(), Vec::new()));
        }
        let decided = Decided { replica, key: validated, costs, verdict, limits, failed_before };
        let admitted = self.judge_decision(decided).await?;
        Ok((verdict.as_str_name().to_owned(), admitted))
    }
}

/// Reads the answer about the key.
fn observed(validated: &v1::ValidateKeyResponse) -> Result<ObservedAnswer, String> {
    let provenance = validated.provenance.as_ref().ok_or("no provenance")?;
    let verdict = match validated.verdict() {
        ProtoVerdict::Valid => Verdict::Valid,
        ProtoVerdict::Revoked => Verdict::Revoked,
        ProtoVerdict::Expired => Verdict::Expired,
        ProtoVerdict::Disabled => Verdict::Disabled,
        ProtoVerdict::TenantSuspended => Verdict::TenantSuspended,
        ProtoVerdict::AddressNotAllowed => Verdict::AddressNotAllowed,
        ProtoVerdict::Unknown => Verdict::Unknown,
        other => return Err(format!("the key is {other:?}")),
    };
    let source = match provenance.source() {
        ProtoSource::Database => Source::Database,
        ProtoSource::Fresh => Source::Fresh,
        ProtoSource::Refreshing => Source::Refreshing,
        ProtoSource::Stale => Source::Stale,
        ProtoSource::Negative => Source::Negative,
        ProtoSource::Unspecified => return Err("no source".to_owned()),
    };
    let age = provenance.age.unwrap_or_default();
    let answer_age = Duration::try_from(age).map_err(|error| error.to_string())?;
    Ok(ObservedAnswer { verdict, source, answer_age })
}
