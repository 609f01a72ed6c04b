//! Hits of a local limiter: requests that it admits from a chunk, without a call.

use std::{
    hint::black_box,
    pin::pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::task::noop_waker_ref;
use tenant_auth_client::{Client, LocalLimiter, PresentedKey};
use tenant_auth_proto::v1::{self, limit_service_server as server};
use tokio::runtime::Runtime;
use tonic::{Request, Response, Status, Streaming};

/// Hits in one slice of the measurement: fewer than a chunk has.
const HITS_PER_SLICE: usize = 200;
const MEASURED_SLICES: usize = 1_000;

/// A service that reserves everything.
pub(crate) struct Unlimited;

pub(crate) fn service() -> server::LimitServiceServer<Unlimited> {
    server::LimitServiceServer::new(Unlimited)
}

#[tonic::async_trait]
impl server::LimitService for Unlimited {
    async fn reserve(&self, _: Request<v1::ReserveRequest>) -> Result<Response<v1::ReserveResponse>, Status> {
        let key = v1::ValidateKeyResponse { verdict: v1::Verdict::Valid.into(), ..Default::default() };
        Ok(Response::new(v1::ReserveResponse {
            verdict: v1::Verdict::Valid.into(),
            validation: Some(v1::reserve_response::Validation::Key(key)),
            expires_in: Some(Duration::from_secs(30).try_into().unwrap()),
            ..Default::default()
        }))
    }

    async fn settle(&self, _: Request<v1::SettleRequest>) -> Result<Response<v1::SettleResponse>, Status> {
        Ok(Response::new(v1::SettleResponse::default()))
    }

    async fn consume(&self, _: Request<v1::ConsumeRequest>) -> Result<Response<v1::ConsumeResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn batch_consume(
        &self,
        _: Request<v1::BatchConsumeRequest>,
    ) -> Result<Response<v1::BatchConsumeResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    type StreamConsumeStream = tokio_stream::Empty<Result<v1::StreamConsumeResponse, Status>>;

    async fn stream_consume(
        &self,
        _: Request<Streaming<v1::StreamConsumeRequest>>,
    ) -> Result<Response<Self::StreamConsumeStream>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn cancel(&self, _: Request<v1::CancelRequest>) -> Result<Response<v1::CancelResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn get_limit_state(
        &self,
        _: Request<v1::GetLimitStateRequest>,
    ) -> Result<Response<v1::GetLimitStateResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }
}

/// Returns nanoseconds per hit: the median of short slices without a call, and the fastest slice.
pub(crate) fn measure(runtime: &Runtime, client: &Client, key: &PresentedKey) -> (f64, f64) {
    let _entered = runtime.enter();
    let limiter = LocalLimiter::start(client.clone(), "requests").unwrap();
    let mut slices = Vec::with_capacity(MEASURED_SLICES);
    while slices.len() < MEASURED_SLICES {
        let started = Instant::now();
        let hits = (0..HITS_PER_SLICE).take_while(|_| is_hit(&limiter, key)).count();
        let elapsed = started.elapsed();
        if hits == HITS_PER_SLICE {
            slices.push(elapsed.as_nanos() as f64 / HITS_PER_SLICE as f64);
        } else {
            // Waits for the next chunk.
            runtime.block_on(limiter.admit(key, &["orders:read"], 1)).unwrap();
        }
    }
    runtime.block_on(limiter.close());
    slices.sort_by(f64::total_cmp);
    (slices[slices.len() / 2], slices[0])
}

/// Returns whether a request is admitted at once.
fn is_hit(limiter: &LocalLimiter, key: &PresentedKey) -> bool {
    let mut context = Context::from_waker(noop_waker_ref());
    match pin!(limiter.admit(key, &["orders:read"], 1)).poll(&mut context) {
        Poll::Ready(outcome) => black_box(outcome).is_ok(),
        Poll::Pending => false,
    }
}
