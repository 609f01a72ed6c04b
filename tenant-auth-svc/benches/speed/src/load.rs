//! The load generator: HTTP/2 by hand, so that it costs less than what it measures.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use h2::client::SendRequest;
use hdrhistogram::Histogram;
use http::Request;
use prost::Message;
use tokio::{net::TcpStream, task::JoinSet};

/// What to send, and over how many connections.
#[derive(Clone, Debug)]
pub struct Load {
    /// Where to.
    pub address: SocketAddr,
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// Framed messages; each request takes the next one.
    pub bodies: Arc<[Bytes]>,
    /// Connections.
    pub connections: usize,
    /// Requests at once on each of them.
    pub streams: usize,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Requests that were answered with status OK.
    pub requests: u64,
    /// How long it took.
    pub took: Duration,
    /// Latencies in nanoseconds.
    pub latencies: Histogram<u64>,
}

/// A message as gRPC frames it.
///
/// # Panics
/// Never: a vector takes everything.
#[must_use]
pub fn framed(message: &impl Message) -> Bytes {
    let encoded = message.encode_to_vec();
    let mut frame = BytesMut::with_capacity(encoded.len() + 5);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(encoded.len()).unwrap_or(u32::MAX));
    frame.put_slice(&encoded);
    frame.freeze()
}

impl Load {
    /// As fast as the server answers, for a time. Every answer has to have the status OK.
    ///
    /// # Errors
    /// When a connection breaks, or an answer is not OK.
    pub async fn flat_out(&self, time: Duration) -> anyhow::Result<Outcome> {
        let begun = Instant::now();
        let until = begun + time;
        self.run(begun, |worker, workers| Pace::FlatOut { until, next: worker, step: workers }).await
    }

    /// `rate` requests a second, whether or not the server keeps up. A latency counts from the moment at which the
    /// request should have left, so that a stall is felt by every request that it delayed (no coordinated omission).
    ///
    /// # Errors
    /// As for [`flat_out`](Self::flat_out).
    pub async fn at_rate(&self, rate: f64, time: Duration) -> anyhow::Result<Outcome> {
        let begun = Instant::now();
        let total = (rate * time.as_secs_f64()) as usize;
        let gap = Duration::from_secs_f64(1.0 / rate);
        self.run(begun, |worker, workers| Pace::Steady { begun, gap, total, next: worker, step: workers })
            .await
    }

    async fn run(&self, begun: Instant, pace: impl Fn(usize, usize) -> Pace) -> anyhow::Result<Outcome> {
        let mut tasks = JoinSet::new();
        let workers = self.connections * self.streams;
        for connection in 0..self.connections {
            let sender = connect(self.address).await?;
            for stream in 0..self.streams {
                let pace = pace(connection * self.streams + stream, workers);
                tasks.spawn(work(sender.clone(), self.clone(), pace));
            }
        }
        let mut latencies = histogram();
        while let Some(worked) = tasks.join_next().await {
            latencies.add(worked??)?;
        }
        Ok(Outcome { requests: latencies.len(), took: begun.elapsed(), latencies })
    }
}

/// When each request of a worker leaves.
enum Pace {
    FlatOut { until: Instant, next: usize, step: usize },
    Steady { begun: Instant, gap: Duration, total: usize, next: usize, step: usize },
}

impl Pace {
    /// The next request's number, and when it should have left.
    async fn next(&mut self) -> Option<(usize, Instant)> {
        match self {
            Self::FlatOut { until, next, step } => {
                let now = Instant::now();
                let number = *next;
                *next += *step;
                (now < *until).then_some((number, now))
            }
            Self::Steady { begun, gap, total, next, step } => {
                let number = *next;
                *next += *step;
                let due = *begun + gap.mul_f64(number as f64);
                if number >= *total {
                    return None;
                }
                // A timer is a millisecond coarse: what is left is waited for by letting others go first.
                let ahead = due.saturating_duration_since(Instant::now());
                if ahead > Duration::from_millis(2) {
                    tokio::time::sleep(ahead - Duration::from_millis(2)).await;
                }
                while Instant::now() < due {
                    tokio::task::yield_now().await;
                }
                Some((number, due))
            }
        }
    }
}

fn histogram() -> Histogram<u64> {
    // Three digits from 1 ns up; it grows as needed.
    Histogram::new(3).unwrap_or_else(|_| unreachable!("three digits are allowed"))
}

async fn connect(address: SocketAddr) -> anyhow::Result<SendRequest<Bytes>> {
    let stream = TcpStream::connect(address).await.with_context(|| format!("nobody listens on {address}"))?;
    stream.set_nodelay(true)?;
    let (sender, connection) = h2::client::Builder::new()
        .initial_window_size(1 << 20)
        .initial_connection_window_size(1 << 24)
        .handshake(stream)
        .await?;
    tokio::spawn(connection);
    Ok(sender)
}

async fn work(sender: SendRequest<Bytes>, load: Load, mut pace: Pace) -> anyhow::Result<Histogram<u64>> {
    let mut latencies = histogram();
    let template = Request::post(format!("http://{}{}", load.address, load.path))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(())?;
    let count = load.bodies.len();
    let mut sender = sender;
    while let Some((number, due)) = pace.next().await {
        let Some(body) = load.bodies.get(number % count) else { bail!("nothing to send") };
        sender = sender.ready().await?;
        let (response, mut stream) = sender.send_request(template.clone(), false)?;
        stream.send_data(body.clone(), true)?;
        let response = response.await?;
        let ended = response.headers().contains_key("grpc-status");
        let mut body = response.into_body();
        while let Some(data) = body.data().await {
            let data = data?;
            body.flow_control().release_capacity(data.len())?;
        }
        let trailers = body.trailers().await?.unwrap_or_default();
        let ok = trailers.get("grpc-status").is_some_and(|status| status == "0");
        ensure!(ok && !ended, "an answer was not OK: {trailers:?}");
        latencies.record(u64::try_from(due.elapsed().as_nanos())?)?;
    }
    Ok(latencies)
}
