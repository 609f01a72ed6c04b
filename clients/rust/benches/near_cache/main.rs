//! Measures a hit in the near-cache, and one of a local limiter: `cargo bench -p tenant-auth-client`.
#![allow(clippy::print_stdout, clippy::unwrap_used)]

mod limiter;

use std::{
    hint::black_box,
    pin::pin,
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};

use futures::task::noop_waker_ref;
use tenant_auth_client::{Client, NearCache, PresentedKey};
use tenant_auth_proto::v1::{self, validation_service_server as server};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status, Streaming};

const KEYS: usize = 100_000;
/// Hits in one slice of the measurement.
const HITS_PER_SLICE: usize = 1_000;
const MEASURED_SLICES: usize = 1_000;

/// A service that answers VALID for every key, cacheable for an hour.
struct AlwaysValid;

#[tonic::async_trait]
impl server::ValidationService for AlwaysValid {
    async fn validate_key(
        &self,
        request: Request<v1::ValidateKeyRequest>,
    ) -> Result<Response<v1::ValidateKeyResponse>, Status> {
        let provenance = v1::Provenance {
            cacheable_for: Some(Duration::from_secs(3_600).try_into().unwrap()),
            ..Default::default()
        };
        Ok(Response::new(v1::ValidateKeyResponse {
            verdict: v1::Verdict::Valid.into(),
            tenant_id: "acme".to_owned(),
            key_id: request.into_inner().key,
            scopes: vec!["orders:read".to_owned(), "orders:write".to_owned()],
            provenance: Some(provenance),
            ..Default::default()
        }))
    }

    async fn batch_validate_keys(
        &self,
        _: Request<v1::BatchValidateKeysRequest>,
    ) -> Result<Response<v1::BatchValidateKeysResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    type StreamValidateKeysStream = tokio_stream::Empty<Result<v1::StreamValidateKeysResponse, Status>>;

    async fn stream_validate_keys(
        &self,
        _: Request<Streaming<v1::StreamValidateKeysRequest>>,
    ) -> Result<Response<Self::StreamValidateKeysStream>, Status> {
        Err(Status::unimplemented("not measured"))
    }

    async fn validate_session(
        &self,
        _: Request<v1::ValidateSessionRequest>,
    ) -> Result<Response<v1::ValidateSessionResponse>, Status> {
        Err(Status::unimplemented("not measured"))
    }
}

fn main() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (client, keys) = runtime.block_on(client_with_full_cache());
    let one = &keys[..1];
    for (name, keys) in [("one key", one), ("100,000 keys", &keys)] {
        for threads in [1, 2] {
            let (median, best) = measure(&client, keys, threads);
            println!("{name}, {threads} thread(s): {median:.1} ns per hit, at best {best:.1}");
        }
    }
    let (median, best) = limiter::measure(&runtime, &client, &keys[0]);
    println!("local limiter, one key, 1 thread(s): {median:.1} ns per hit, at best {best:.1}");
    let allocations = allocation_counter::measure(|| {
        for key in &keys[..1_000] {
            hit(&client, key);
        }
    });
    println!("allocations in 1,000 hits: {}", allocations.count_total);
}

async fn client_with_full_cache() -> (Client, Vec<PresentedKey>) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let service = tonic::transport::Server::builder()
        .add_service(server::ValidationServiceServer::new(AlwaysValid))
        .add_service(limiter::service())
        .serve_with_incoming(TcpListenerStream::new(listener));
    tokio::spawn(service);
    // Twice the capacity that is needed, so that no key is evicted.
    let near_cache = NearCache::new().entries(2 * KEYS).unwatched();
    let client = Client::builder(endpoint).timeout(Duration::from_secs(60)).near_cache(near_cache);
    let client = client.connect().await.unwrap();
    let keys: Vec<_> = (0..KEYS)
        .map(|number| PresentedKey::new(format!("ta_ILgrKaBnLOBOJPG9XlJT20Hp{number:013}")))
        .collect();
    for chunk in keys.chunks(500) {
        let requests = chunk.iter().map(|key| client.validate(key, &[]));
        for outcome in futures::future::join_all(requests).await {
            assert!(outcome.unwrap().is_valid());
        }
    }
    (client, keys)
}

/// Returns nanoseconds per hit as each thread measures them: the median of short slices, and the fastest
/// slice, which no other process disturbed.
fn measure(client: &Client, keys: &[PresentedKey], threads: usize) -> (f64, f64) {
    let run = || {
        let mut slices = Vec::with_capacity(MEASURED_SLICES);
        // A stride that visits every key in an order that no prefetcher predicts.
        let mut order = (0..).map(|number: usize| &keys[number.wrapping_mul(7_919) % keys.len()]);
        for _ in 0..MEASURED_SLICES {
            let started = Instant::now();
            for key in order.by_ref().take(HITS_PER_SLICE) {
                hit(client, key);
            }
            slices.push(started.elapsed().as_nanos() as f64 / HITS_PER_SLICE as f64);
        }
        slices
    };
    let mut slices: Vec<f64> = thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    slices.sort_by(f64::total_cmp);
    (slices[slices.len() / 2], slices[0])
}

fn hit(client: &Client, key: &PresentedKey) {
    let mut context = Context::from_waker(noop_waker_ref());
    let Poll::Ready(Ok(validation)) = pin!(client.validate(key, &["orders:read"])).poll(&mut context) else {
        unreachable!("a hit is ready at once");
    };
    black_box(&validation);
}
