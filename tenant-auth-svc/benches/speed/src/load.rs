//! The load generator: its own HTTP/2 code on one spinning thread, so that it costs far less than the
//! measured server.

mod connection;
mod header_check;
mod stream;
mod wire;

use std::{
    collections::{HashMap, VecDeque},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use bytes::{BufMut as _, Bytes, BytesMut};
use hdrhistogram::Histogram;
use prost::Message;

use self::connection::{Connection, Event};

/// The content of one response in this many is checked.
const ANSWERS_PER_CHECK: u64 = 64;
/// Maximum time to wait for the last responses.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// Length of the header of a message: the compression flag, and the message length.
const FRAME_HEADER_BYTES: usize = 5;

/// The requests to send, and the connections for them.
#[derive(Clone, Debug)]
pub struct Load {
    /// The address of the server.
    pub address: SocketAddr,
    /// `/package.Service/Method`.
    pub path: &'static str,
    /// Framed messages; each request uses the next one.
    pub bodies: Arc<[Bytes]>,
    /// Number of connections.
    pub connections: usize,
    /// Concurrent requests on each connection; in an open loop, the maximum.
    pub streams: usize,
    /// Returns whether a message is the expected response. Checks one response in 64; the status of every
    /// response is checked in any case.
    pub is_expected: fn(&[u8]) -> bool,
}

/// The result of a load.
#[derive(Debug)]
pub struct LoadOutcome {
    /// Requests, or messages of a stream, that were answered with status OK.
    pub answers: u64,
    /// Elapsed time.
    pub elapsed: Duration,
    /// Latencies in nanoseconds; empty for streams.
    pub latencies: Histogram<u64>,
}

/// Encodes a message as a gRPC frame.
#[must_use]
pub fn frame(message: &impl Message) -> Bytes {
    let encoded = message.encode_to_vec();
    let mut frame = BytesMut::with_capacity(encoded.len() + FRAME_HEADER_BYTES);
    frame.put_u8(0);
    // No message here is that long.
    frame.put_u32(u32::try_from(encoded.len()).unwrap_or(u32::MAX));
    frame.put_slice(&encoded);
    frame.freeze()
}

impl Load {
    /// Sends requests as fast as the server answers, for a time: each response is followed by the next
    /// request.
    ///
    /// # Errors
    /// Fails if a connection breaks, or a response is wrong.
    pub fn run_closed_loop(&self, time: Duration) -> anyhow::Result<LoadOutcome> {
        let begun = Instant::now();
        let mut lines = self.open_connections()?;
        let mut next = 0;
        while lines.iter().any(|line| !line.is_idle()) || begun.elapsed() < time {
            ensure!(begun.elapsed() < time + ANSWER_TIMEOUT, "some requests were not answered in time");
            for line in &mut lines {
                line.receive(self)?;
                let now = Instant::now();
                while line.queued.len() + line.in_flight.len() < self.streams && now < begun + time {
                    line.queued.push_back((next, now));
                    next += 1;
                }
                line.send(self)?;
            }
        }
        collect_outcome(lines, begun)
    }

    /// Sends `rate` requests per second, whether or not the server keeps up. A latency counts from the time
    /// at which the request should have been sent, so that a stall counts for every request that it delayed
    /// (no coordinated omission).
    ///
    /// # Errors
    /// As for [`run_closed_loop`](Self::run_closed_loop).
    pub fn run_open_loop(&self, rate: f64, time: Duration) -> anyhow::Result<LoadOutcome> {
        let mut lines = self.open_connections()?;
        let begun = Instant::now();
        let total = (rate * time.as_secs_f64()) as usize;
        let mut next = 0;
        while next < total || lines.iter().any(|line| !line.is_idle()) {
            ensure!(begun.elapsed() < time + ANSWER_TIMEOUT, "some requests were not answered in time");
            let due = |number: usize| begun + Duration::from_secs_f64(number as f64 / rate);
            let now = Instant::now();
            while next < total && due(next) <= now {
                let count = lines.len();
                if let Some(line) = lines.get_mut(next % count) {
                    line.queued.push_back((next, due(next)));
                }
                next += 1;
            }
            for line in &mut lines {
                line.send(self)?;
                line.receive(self)?;
            }
        }
        collect_outcome(lines, begun)
    }

    /// Sends each message once, with the maximum concurrency.
    ///
    /// # Errors
    /// As for [`run_closed_loop`](Self::run_closed_loop).
    pub fn run_once(&self) -> anyhow::Result<LoadOutcome> {
        let mut lines = self.open_connections()?;
        let begun = Instant::now();
        let count = lines.len();
        for number in 0..self.bodies.len() {
            if let Some(line) = lines.get_mut(number % count) {
                line.queued.push_back((number, begun));
            }
        }
        while lines.iter().any(|line| !line.is_idle()) {
            ensure!(begun.elapsed() < ANSWER_TIMEOUT, "some requests were not answered in time");
            for line in &mut lines {
                line.send(self)?;
                line.receive(self)?;
            }
        }
        collect_outcome(lines, begun)
    }

    fn open_connections(&self) -> anyhow::Result<Vec<LoadConnection>> {
        ensure!(self.connections > 0 && !self.bodies.is_empty(), "nothing to send");
        (0..self.connections).map(|_| LoadConnection::open(self)).collect()
    }

    fn body(&self, number: usize) -> anyhow::Result<&Bytes> {
        self.bodies.get(number % self.bodies.len()).context("nothing to send")
    }
}

/// A connection and its requests.
struct LoadConnection {
    connection: Connection,
    /// The requests that are due, and when they should have been sent.
    queued: VecDeque<(usize, Instant)>,
    /// When the requests in flight should have been sent, by stream.
    in_flight: HashMap<u32, Instant>,
    requests_sent: u64,
    /// The stream whose answer is checked, and the parts of its answer that have arrived.
    checked: Option<u32>,
    answer: Vec<u8>,
    latencies: Histogram<u64>,
}

impl LoadConnection {
    fn open(load: &Load) -> anyhow::Result<Self> {
        Ok(Self {
            connection: Connection::open(load.address, load.path)?,
            queued: VecDeque::new(),
            in_flight: HashMap::new(),
            requests_sent: 0,
            checked: None,
            answer: Vec::new(),
            latencies: histogram(),
        })
    }

    fn is_idle(&self) -> bool {
        self.queued.is_empty() && self.in_flight.is_empty()
    }

    fn send(&mut self, load: &Load) -> anyhow::Result<()> {
        while self.in_flight.len() < load.streams
            && let Some((number, due)) = self.queued.front()
        {
            let Some(stream) = self.connection.send_request(load.body(*number)?) else { break };
            self.requests_sent += 1;
            if self.requests_sent.is_multiple_of(ANSWERS_PER_CHECK) && self.checked.is_none() {
                self.checked = Some(stream);
            }
            self.in_flight.insert(stream, *due);
            self.queued.pop_front();
        }
        self.connection.flush()
    }

    fn receive(&mut self, load: &Load) -> anyhow::Result<()> {
        let Self { connection, in_flight: pending, checked, answer, latencies, .. } = self;
        connection.poll(|event| match event {
            Event::Data(stream, data) => {
                if *checked == Some(stream) {
                    answer.extend_from_slice(data);
                }
                Ok(())
            }
            Event::End(stream) => {
                if *checked == Some(stream) {
                    check_answer(answer, load.is_expected)?;
                    *checked = None;
                    answer.clear();
                }
                let due = pending.remove(&stream).context("a response to an unknown request")?;
                Ok(latencies.record(u64::try_from(due.elapsed().as_nanos())?)?)
            }
        })
    }
}

/// Checks a whole response.
fn check_answer(data: &[u8], expect: fn(&[u8]) -> bool) -> anyhow::Result<()> {
    let ([_, len @ ..], message) =
        data.split_first_chunk::<FRAME_HEADER_BYTES>().context("a response without a message")?;
    let is_whole = u32::from_be_bytes(*len) as usize == message.len();
    ensure!(is_whole && expect(message), "wrong response: {message:?}");
    Ok(())
}

fn collect_outcome(lines: Vec<LoadConnection>, begun: Instant) -> anyhow::Result<LoadOutcome> {
    let took = begun.elapsed();
    let mut latencies = histogram();
    for line in lines {
        latencies.add(line.latencies)?;
    }
    Ok(LoadOutcome { answers: latencies.len(), elapsed: took, latencies })
}

fn histogram() -> Histogram<u64> {
    // Three significant digits from 1 ns up; the histogram grows as needed.
    Histogram::new(3).unwrap_or_else(|_| unreachable!("three digits are allowed"))
}
