//! Envoy's external authorization: `envoy.service.auth.v3.Authorization/Check`.

mod encode;
mod view;

use std::{sync::Arc, time::Instant};

use bytes::Bytes;
use http::HeaderMap;
use prost::Message as _;
use tenant_auth_proto::envoy::service::auth::v3::{
    CheckRequest, CheckResponse, authorization_server::Authorization,
};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt as _;

use super::{
    counts::{ADMITTED, Door, DoorCounts},
    door::{Answer, FrontDoor, decision_of},
    refusal::Refusal,
};
use crate::{
    domain::{
        validate::KeySource,
        verdict::{Source, Verdict},
    },
    grpc::{ApiError, context::RequestContext as _, convert::FRAME_HEADER_LEN},
    telemetry::logging::RPC_TARGET,
};

/// The path of the RPC.
pub const CHECK_PATH: &str = "/envoy.service.auth.v3.Authorization/Check";

/// How undecided requests are reported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UndecidedAs {
    /// As `denied_response` with status 503, which every version of Envoy knows.
    DeniedResponse,
    /// As `error_response`: Envoy then counts an error of the filter and not a denial. Older versions answer 403.
    ErrorResponse,
}

/// Answers from the cache, and encodes the answers of the RPC. Cheap to clone.
#[derive(Debug)]
pub struct CheckResponder<K> {
    door: Arc<FrontDoor<K>>,
    counts: Arc<DoorCounts>,
    undecided_as: UndecidedAs,
}

/// An answer from the cache.
#[derive(Debug)]
pub struct CachedCheck {
    /// The response as a gRPC frame.
    pub frame: Bytes,
    /// The verdict and its source, if the request had a key.
    pub verdict: Option<(Verdict, Source)>,
}

impl<K> Clone for CheckResponder<K> {
    fn clone(&self) -> Self {
        Self { door: Arc::clone(&self.door), counts: Arc::clone(&self.counts), ..*self }
    }
}

impl<K: KeySource> CheckResponder<K> {
    /// Creates a responder for the requests at a door.
    #[must_use]
    pub fn new(door: Arc<FrontDoor<K>>, counts: Arc<DoorCounts>, undecided_as: UndecidedAs) -> Self {
        Self { door, counts, undecided_as }
    }

    /// Answers a message from the cache. `None` if the decision has to wait or the message is unusual: the RPC then answers.
    #[must_use]
    pub fn respond(&self, message: &[u8], started: Instant) -> Option<CachedCheck> {
        let request = view::parse(self.door.key_headers(), message)?;
        let answer = self.door.decide_from_cache(&request)?;
        let verdict = decision_of(&answer).map(|decision| (decision.verdict, decision.provenance.source));
        Some(CachedCheck { frame: self.frame(&request, &answer, started), verdict })
    }

    /// Returns the response in place of a gRPC error, which Envoy would turn into 403; `None` if there is no error in the
    /// headers of a response.
    #[must_use]
    pub fn respond_undecided(&self, response: &HeaderMap, started: Instant) -> Option<Bytes> {
        let status = Status::from_header_map(response).filter(|status| status.code() != Code::Ok)?;
        let refusal = refusal_for(&status);
        let door = Door::ExtAuthz.as_str();
        match &refusal {
            Refusal::ProxyRejected => {
                tracing::warn!(target: RPC_TARGET, door, reason = status.message(), "proxy rejected");
            }
            Refusal::Misconfigured(invalid) => tracing::warn!(door, invalid, "the proxy is misconfigured"),
            _ => {}
        }
        self.counts.add(Door::ExtAuthz, refusal.code(), started.elapsed());
        Some(encode::refusal(&refusal, self.undecided_as))
    }

    fn frame(&self, request: &super::door::DoorRequest<'_>, answer: &Answer, started: Instant) -> Bytes {
        let (frame, code) = match answer {
            Ok(admission) => (encode::admission(self.door.key_headers(), request, admission), ADMITTED),
            Err(refusal) => (encode::refusal(refusal, self.undecided_as), refusal.code()),
        };
        self.counts.add(Door::ExtAuthz, code, started.elapsed());
        frame
    }
}

/// Returns what an error of the RPC means for the customer of the proxy.
fn refusal_for(status: &Status) -> Refusal {
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => Refusal::ProxyRejected,
        Code::InvalidArgument => Refusal::Misconfigured(status.message().escape_default().to_string()),
        _ => {
            let details = status.get_error_details();
            let retry_after = details.retry_info().and_then(|retry| retry.retry_delay);
            Refusal::undecided(retry_after)
        }
    }
}

#[tonic::async_trait]
impl<K: KeySource> Authorization for CheckResponder<K> {
    async fn check(&self, request: Request<CheckRequest>) -> Result<Response<CheckResponse>, Status> {
        let started = Instant::now();
        let (context, record) = (request.load_context(self.door.timeout())?, request.rpc_record());
        let message = request.into_inner();
        let request = view::of_message(self.door.key_headers(), &message)?;
        let answer = self.door.decide(&request, context, &record).await.map_err(ApiError::from)?;
        let frame = self.frame(&request, &answer, started);
        // One encoder for both paths: this one can afford to decode its bytes.
        let response = frame.get(FRAME_HEADER_LEN..).map(CheckResponse::decode);
        match response {
            Some(Ok(response)) => Ok(Response::new(response)),
            _ => Err(ApiError::Panicked.into()),
        }
    }
}

#[cfg(test)]
mod tests;
