//! The limits of the fake service: one balance per metric.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{Mutex, MutexGuard},
    time::Duration,
};

use futures::{Stream, StreamExt as _};
use tenant_auth_client::proto as v1;
use tenant_auth_proto::v1::limit_service_server::LimitService;
use tonic::{Request, Response, Status, Streaming};

use super::{FakeServer, State};

/// The limits, and what reservations hold.
#[derive(Debug, Default)]
pub(super) struct FakeLimits(Mutex<Balances>);

#[derive(Debug, Default)]
pub(crate) struct Balances {
    /// What is left, by metric. A metric without a balance has no limit.
    pub(crate) left: HashMap<String, i64>,
    /// The amounts of each reservation, and the actual ones once it has ended.
    pub(crate) reservations: HashMap<String, (i64, Option<i64>)>,
    /// The consume ids that arrived, in order; empty without one.
    pub(crate) consume_ids: Vec<String>,
    /// The decisions to report, instead of those of the balances.
    pub(crate) decisions: Option<Vec<v1::LimitDecision>>,
    /// The expiry of reservations; `None` reports none.
    pub(crate) expires_in: Option<Duration>,
}

impl FakeServer {
    /// Returns the limits, to set or to read them.
    pub(crate) fn limits(&self) -> MutexGuard<'_, Balances> {
        self.state.limits.0.lock().unwrap()
    }

    /// Returns what is left of the requests.
    pub(crate) fn requests_left(&self) -> i64 {
        self.limits().left["requests"]
    }

    /// Returns how many reservations are held.
    pub(crate) fn held(&self) -> usize {
        self.limits().reservations.values().filter(|(_, actual)| actual.is_none()).count()
    }
}

impl Balances {
    /// Takes the costs, if all of them are left.
    fn take(&mut self, costs: &[v1::Cost]) -> (v1::Verdict, Vec<v1::LimitDecision>) {
        if let Some(decisions) = &self.decisions {
            let denies = decisions.iter().any(|limit| limit.exceeded && !limit.shadow);
            let verdict = if denies { v1::Verdict::QuotaExceeded } else { v1::Verdict::Valid };
            return (verdict, decisions.clone());
        }
        let lacks = |cost: &v1::Cost| self.left.get(&cost.metric).is_some_and(|left| *left < cost.amount);
        let exceeded = costs.iter().any(lacks);
        let mut decisions = Vec::new();
        for cost in costs {
            let Some(left) = self.left.get_mut(&cost.metric) else { continue };
            if !exceeded {
                *left -= cost.amount;
            }
            decisions.push(v1::LimitDecision {
                name: cost.metric.clone(),
                metric: cost.metric.clone(),
                remaining: *left,
                exceeded,
                ..Default::default()
            });
        }
        (if exceeded { v1::Verdict::QuotaExceeded } else { v1::Verdict::Valid }, decisions)
    }
}

impl State {
    /// Returns the answer to a validation of a key, and whether it is valid.
    fn validated(&self, credential: Option<v1::LimitCredential>) -> (v1::ValidateKeyResponse, bool) {
        let Some(v1::limit_credential::Credential::Key(key)) = credential.and_then(|all| all.credential)
        else {
            return (v1::ValidateKeyResponse::default(), false);
        };
        let answer = self.keys.lock().unwrap().get(&key.key).cloned().unwrap_or_default();
        let is_valid = answer.verdict() == v1::Verdict::Valid;
        (answer, is_valid)
    }

    fn consumed(&self, request: v1::ConsumeRequest) -> v1::ConsumeResponse {
        let (key, is_valid) = self.validated(request.credential);
        let mut limits = self.limits.0.lock().unwrap();
        limits.consume_ids.push(request.consume_id);
        let (verdict, limits) =
            if is_valid { limits.take(&request.costs) } else { (key.verdict(), Vec::new()) };
        let validation = Some(v1::consume_response::Validation::Key(key));
        v1::ConsumeResponse { verdict: verdict.into(), validation, limits, already_consumed: false }
    }
}

type Answers = Pin<Box<dyn Stream<Item = Result<v1::StreamConsumeResponse, Status>> + Send>>;

#[tonic::async_trait]
impl LimitService for State {
    async fn consume(
        &self,
        request: Request<v1::ConsumeRequest>,
    ) -> Result<Response<v1::ConsumeResponse>, Status> {
        let answer = self.consumed(request.get_ref().clone());
        self.asked(&request, answer).await
    }

    async fn batch_consume(
        &self,
        request: Request<v1::BatchConsumeRequest>,
    ) -> Result<Response<v1::BatchConsumeResponse>, Status> {
        let result = |request| v1::BatchConsumeResult {
            result: Some(v1::batch_consume_result::Result::Response(self.consumed(request))),
        };
        let results = request.get_ref().requests.iter().cloned().map(result).collect();
        self.asked(&request, v1::BatchConsumeResponse { results }).await
    }

    type StreamConsumeStream = Answers;

    async fn stream_consume(
        &self,
        _: Request<Streaming<v1::StreamConsumeRequest>>,
    ) -> Result<Response<Answers>, Status> {
        Ok(Response::new(futures::stream::empty().boxed()))
    }

    async fn reserve(
        &self,
        request: Request<v1::ReserveRequest>,
    ) -> Result<Response<v1::ReserveResponse>, Status> {
        let message = request.get_ref().clone();
        let (key, is_valid) = self.validated(message.credential);
        let answer = {
            let mut limits = self.limits.0.lock().unwrap();
            let (verdict, decisions) =
                if is_valid { limits.take(&message.costs) } else { (key.verdict(), Vec::new()) };
            if verdict == v1::Verdict::Valid {
                limits.reservations.insert(message.reservation_id, (message.costs[0].amount, None));
            }
            v1::ReserveResponse {
                verdict: verdict.into(),
                validation: Some(v1::reserve_response::Validation::Key(key)),
                limits: decisions,
                expires_in: limits.expires_in.map(|time| time.try_into().unwrap()),
                already_reserved: false,
            }
        };
        self.asked(&request, answer).await
    }

    async fn settle(
        &self,
        request: Request<v1::SettleRequest>,
    ) -> Result<Response<v1::SettleResponse>, Status> {
        let message = request.get_ref();
        let actual = message.actual.first().map(|cost| (cost.metric.clone(), cost.amount));
        self.end(&message.reservation_id, actual)?;
        let state = v1::ReservationState::Settled.into();
        self.asked(&request, v1::SettleResponse { state, ..Default::default() }).await
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelRequest>,
    ) -> Result<Response<v1::CancelResponse>, Status> {
        self.end(&request.get_ref().reservation_id, None)?;
        self.asked(&request, v1::CancelResponse { state: v1::ReservationState::Cancelled.into() }).await
    }

    async fn get_limit_state(
        &self,
        _: Request<v1::GetLimitStateRequest>,
    ) -> Result<Response<v1::GetLimitStateResponse>, Status> {
        Err(Status::unimplemented("no states"))
    }
}

impl State {
    fn end(&self, id: &str, actual: Option<(String, i64)>) -> Result<(), Status> {
        let mut limits = self.limits.0.lock().unwrap();
        let Balances { left, reservations, .. } = &mut *limits;
        let (reserved, ended) =
            reservations.get_mut(id).ok_or_else(|| Status::not_found("no reservation"))?;
        if ended.is_none() {
            let (metric, used) = actual.unwrap_or_default();
            *ended = Some(used);
            if let Some(left) = left.get_mut(&metric) {
                *left += *reserved - used;
            }
        }
        Ok(())
    }
}
