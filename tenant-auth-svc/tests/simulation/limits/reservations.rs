//! Reservations: settled, cancelled or left to expire, in part more than once.

use tenant_auth_proto::v1::{self, ReservationState, Verdict, limit_service_client::LimitServiceClient};
use tenant_auth_testkit::Random;
use tonic::{Code, Request, Status};

use super::{
    decisions::Admitted,
    traffic::{credential, proto_costs, random_costs},
};
use crate::{cluster::SimulatedCluster, replica::Credential};

/// A reservation that was sent.
#[derive(Clone, Debug)]
pub(crate) struct SentReservation {
    id: String,
    key: Credential,
    costs: Vec<(String, i64)>,
    /// What counts of it at least.
    counts: Vec<Admitted>,
    /// Whether it was acknowledged.
    is_known: bool,
    /// When it ends by itself, by the wall clock, and whether it counts then.
    expires_at: i64,
    charges: bool,
    end: ReservationState,
}

impl SimulatedCluster {
    /// Makes a reservation, or ends one.
    pub(crate) async fn reserve_or_end(
        &mut self,
        replica: usize,
        key: &Credential,
        random: &mut Random,
    ) -> Result<String, String> {
        self.expire_reservations();
        let open = self.limits.reservations.len();
        if open == 0 || random.is_chance(45) {
            return self.reserve(replica, key, random).await;
        }
        let at = if random.is_chance(70) { open - 1 } else { random.below(open) };
        let settles = random.is_chance(60);
        let ended =
            if settles { self.settle(replica, at, random).await } else { self.cancel(replica, at).await };
        let what = if settles { "settles" } else { "cancels" };
        let id = &self.limits.reservations[at].id;
        ended.map(|outcome| format!("replica {replica} {what} {id}: {outcome}"))
    }

    /// What has expired may have been given back.
    fn expire_reservations(&mut self) {
        let (latest, _) = self.limits.wall.unwrap_or_default();
        for reservation in &mut self.limits.reservations {
            if reservation.expires_at <= latest && !reservation.charges {
                for admitted in reservation.counts.drain(..) {
                    self.limits.ledger.release(&admitted.id, admitted.window, admitted.amount);
                }
            }
        }
    }

    async fn reserve(
        &mut self,
        replica: usize,
        key: &Credential,
        random: &mut Random,
    ) -> Result<String, String> {
        let id = format!("reservation-{}", self.oracle.next_order());
        let (costs, charges) = (random_costs(random), random.is_chance(50));
        let seconds = *random.pick(&[1_i64, 30, 600, 86_400]);
        self.catch_up_read_replica_if_following(replica).await;
        self.record_free_amounts();
        let failed_before = self.replicas[replica].limits().counts().failed_exchanges();
        let on_expiry = if charges { v1::ReservationExpiry::Charge } else { v1::ReservationExpiry::Release };
        let mut request = Request::new(v1::ReserveRequest {
            credential: credential(key),
            costs: proto_costs(&costs),
            reservation_id: id.clone(),
            expires_in: Some(prost_types::Duration { seconds, nanos: 0 }),
            on_expiry: on_expiry.into(),
        });
        request.set_timeout(self.callers_timeout());
        let expires_at = self.now().wall + seconds * 1_000;
        let mut sent = SentReservation {
            id: id.clone(),
            key: key.clone(),
            costs: costs.clone(),
            counts: Vec::new(),
            is_known: false,
            expires_at,
            charges,
            end: ReservationState::Unspecified,
        };
        let answer = LimitServiceClient::new(self.channels[replica].clone()).reserve(request).await;
        let outcome = match answer.map(tonic::Response::into_inner) {
            Ok(response) => {
                let Some(v1::reserve_response::Validation::Key(validated)) = &response.validation else {
                    return Err(format!("validated {:?}", response.validation));
                };
                let decided = (response.verdict(), &response.limits[..], failed_before);
                let (outcome, admitted) = self
                    .judge_consumption(
                        replica,
                        (key, &costs[..]),
                        decided,
                        validated,
                        response.already_reserved,
                    )
                    .await
                    .map_err(|why| format!("replica {replica} reserves {costs:?} as {id}: {why}"))?;
                if response.verdict() == Verdict::Valid {
                    sent.is_known = true;
                    // Of a rate, nothing is given back.
                    sent.counts = admitted.into_iter().filter(|admitted| admitted.id.1 != "rate").collect();
                    self.count("reserved");
                }
                outcome
            }
            // Nothing is repeated here: an exchange that timed out on a busy machine is like a lost response.
            Err(status) => {
                self.note_uncertain(key, &costs);
                self.tolerate(&status)?
            }
        };
        self.limits.reservations.push(sent);
        Ok(format!("replica {replica} reserves {costs:?} as {id}: {outcome}"))
    }

    async fn settle(&mut self, replica: usize, at: usize, random: &mut Random) -> Result<String, String> {
        let before = self.limits.reservations[at].clone();
        let actual = before.costs.iter().map(|(metric, amount)| {
            let most = usize::try_from(2 * amount + 1).unwrap();
            v1::SettledCost { metric: metric.clone(), amount: random.below(most) as i64 }
        });
        let mut request =
            Request::new(v1::SettleRequest { reservation_id: before.id.clone(), actual: actual.collect() });
        request.set_timeout(self.callers_timeout());
        let answer = LimitServiceClient::new(self.channels[replica].clone()).settle(request).await;
        let response = match answer {
            Ok(response) => response.into_inner(),
            Err(status) => {
                // It may be settled with up to twice the amounts.
                for _ in 0..2 {
                    self.note_uncertain(&before.key, &before.costs);
                }
                return self.judge_failed_end(at, &status);
            }
        };
        if response.already_settled && before.end != ReservationState::Settled {
            self.note_uncertain(&before.key, &before.costs);
        }
        let is_expected = match before.end {
            ReservationState::Settled => {
                response.already_settled && response.state() == ReservationState::Settled
            }
            ReservationState::Cancelled => response.state() == ReservationState::Cancelled,
            _ => matches!(response.state(), ReservationState::Settled | ReservationState::Cancelled),
        };
        if !is_expected {
            return Err(format!("{before:?} is settled: {response:?}"));
        }
        if let Some(limit) = response.limits.iter().find(|limit| limit.charged < 0 || limit.exceeded_by < 0) {
            return Err(format!("{before:?} is settled with {limit:?}"));
        }
        let counts = self.stop_counting(at, response.state());
        if response.state() == ReservationState::Settled && before.end != ReservationState::Settled {
            self.count("settled");
        }
        for mut admitted in counts {
            let charged = response.limits.iter().find(|limit| limit.name == admitted.id.1);
            admitted.amount = charged.map_or(0, |limit| limit.charged);
            if response.state() == ReservationState::Settled && admitted.amount > 0 {
                let believed = self.limits.ledger.believable(&admitted.id, |_| false);
                let (now, taken) = (self.now().monotonic, (admitted.window, admitted.amount));
                self.limits.ledger.admit(&admitted.id, taken, now, &believed)?;
                self.check_counted(&admitted.id, admitted.window).await?;
                // It no longer expires, and is not settled again.
                self.limits.reservations[at].charges = true;
                self.limits.reservations[at].counts.push(admitted);
            }
        }
        Ok(format!("{:?}", response.state()))
    }

    async fn cancel(&mut self, replica: usize, at: usize) -> Result<String, String> {
        let before = self.limits.reservations[at].clone();
        let mut request = Request::new(v1::CancelRequest { reservation_id: before.id.clone() });
        request.set_timeout(self.callers_timeout());
        let answer = LimitServiceClient::new(self.channels[replica].clone()).cancel(request).await;
        match answer {
            Ok(response) => {
                let state = response.into_inner().state();
                if before.end == ReservationState::Settled {
                    return Err(format!("{before:?} is cancelled: {state:?}"));
                }
                self.stop_counting(at, state);
                self.count("cancelled");
                Ok(format!("{state:?}"))
            }
            Err(status) => self.judge_failed_end(at, &status),
        }
    }

    /// A settled reservation counts what it was settled with; another one counts nothing. Returns what counted before.
    fn stop_counting(&mut self, at: usize, end: ReservationState) -> Vec<Admitted> {
        let reservation = &mut self.limits.reservations[at];
        if reservation.end == ReservationState::Settled
            || (end == ReservationState::Expired && reservation.charges)
        {
            return Vec::new();
        }
        reservation.end = end;
        let counts = std::mem::take(&mut reservation.counts);
        for admitted in &counts {
            self.limits.ledger.release(&admitted.id, admitted.window, admitted.amount);
        }
        counts
    }

    /// The end of a reservation failed.
    fn judge_failed_end(&mut self, at: usize, status: &Status) -> Result<String, String> {
        let reservation = self.limits.reservations[at].clone();
        match status.code() {
            Code::NotFound if reservation.is_known => Err(format!("{reservation:?} is lost: {status:?}")),
            Code::NotFound => Ok("there is none".to_owned()),
            Code::FailedPrecondition if matches!(reservation.end, ReservationState::Cancelled) => {
                Err(format!("{reservation:?} cannot be cancelled: {status:?}"))
            }
            Code::FailedPrecondition => Ok("it was settled".to_owned()),
            _ => {
                let tolerated = self.tolerate(status)?;
                // It may have ended all the same.
                if reservation.end != ReservationState::Settled {
                    let counts = std::mem::take(&mut self.limits.reservations[at].counts);
                    for admitted in counts {
                        self.limits.ledger.release(&admitted.id, admitted.window, admitted.amount);
                    }
                }
                Ok(tolerated)
            }
        }
    }

    fn tolerate(&self, status: &Status) -> Result<String, String> {
        match status.code() {
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => {
                Ok(format!("{:?}", status.code()))
            }
            _ => Err(format!("{status:?}")),
        }
    }
}
