//! The load generator: HTTP/2 by hand on one spinning thread, so that it costs far less than what it measures.

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

/// One answer in so many is looked into.
const ANSWERS_PER_CHECK: u64 = 64;
/// How long the last answers may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// What precedes a message: whether it is compressed, and its length.
const FRAME_HEADER_BYTES: usize = 5;

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
    /// Requests at once on each of them; of an open loop, the most.
    pub streams: usize,
    /// Says whether a message is the answer that it should be. One in 64 is shown to it; the status of every one is
    /// looked at anyway.
    pub is_expected: fn(&[u8]) -> bool,
}

/// What came of it.
#[derive(Debug)]
pub struct LoadOutcome {
    /// Requests, or messages of a stream, that were answered with status OK.
    pub answers: u64,
    /// How long it took.
    pub elapsed: Duration,
    /// Latencies in nanoseconds. Of streams: none.
    pub latencies: Histogram<u64>,
}

/// A message as gRPC frames it.
#[must_use]
pub fn frame(message: &impl Message) -> Bytes {
    let encoded = message.encode_to_vec();
    let mut frame = BytesMut::with_capacity(encoded.len() + FRAME_HEADER_BYTES);
    frame.put_u8(0);
    // No message of ours is that long.
    frame.put_u32(u32::try_from(encoded.len()).unwrap_or(u32::MAX));
    frame.put_slice(&encoded);
    frame.freeze()
}

impl Load {
    /// As fast as the server answers, for a time: each answer is followed by the next request.
    ///
    /// # Errors
    /// When a connection breaks, or an answer is not as it should be.
    pub fn run_closed_loop(&self, time: Duration) -> anyhow::Result<LoadOutcome> {
        let begun = Instant::now();
        let mut lines = self.open_connections()?;
        let mut next = 0;
        while lines.iter().any(|line| !line.is_idle()) || begun.elapsed() < time {
            ensure!(begun.elapsed() < time + ANSWER_TIMEOUT, "some requests are never answered");
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

    /// `rate` requests a second, whether or not the server keeps up. A latency counts from the moment at which the
    /// request should have left, so that a stall is felt by every request that it delayed (no coordinated omission).
    ///
    /// # Errors
    /// As for [`flat_out`](Self::flat_out).
    pub fn run_open_loop(&self, rate: f64, time: Duration) -> anyhow::Result<LoadOutcome> {
        let mut lines = self.open_connections()?;
        let begun = Instant::now();
        let total = (rate * time.as_secs_f64()) as usize;
        let mut next = 0;
        while next < total || lines.iter().any(|line| !line.is_idle()) {
            ensure!(begun.elapsed() < time + ANSWER_TIMEOUT, "some requests are never answered");
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

    /// Sends each message once, as many at a time as may be.
    ///
    /// # Errors
    /// As for [`flat_out`](Self::flat_out).
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
            ensure!(begun.elapsed() < ANSWER_TIMEOUT, "some requests are never answered");
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

/// A connection, and what is asked on it.
struct LoadConnection {
    connection: Connection,
    /// What should have left, and when.
    queued: VecDeque<(usize, Instant)>,
    /// When what is under way should have left, by stream.
    in_flight: HashMap<u32, Instant>,
    answers_seen: u64,
    latencies: Histogram<u64>,
}

impl LoadConnection {
    fn open(load: &Load) -> anyhow::Result<Self> {
        Ok(Self {
            connection: Connection::open(load.address, load.path)?,
            queued: VecDeque::new(),
            in_flight: HashMap::new(),
            answers_seen: 0,
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
            self.in_flight.insert(stream, *due);
            self.queued.pop_front();
        }
        self.connection.flush()
    }

    fn receive(&mut self, load: &Load) -> anyhow::Result<()> {
        let Self { connection, in_flight: under_way, answers_seen: seen, latencies, .. } = self;
        connection.poll(|event| match event {
            Event::Data(data) => {
                *seen += 1;
                if seen.is_multiple_of(ANSWERS_PER_CHECK) {
                    check_answer(data, load.is_expected)?;
                }
                Ok(())
            }
            Event::End(stream) => {
                let due = under_way.remove(&stream).context("an answer that nobody waits for")?;
                Ok(latencies.record(u64::try_from(due.elapsed().as_nanos())?)?)
            }
        })
    }
}

/// Looks into an answer that came in one piece.
fn check_answer(data: &[u8], expect: fn(&[u8]) -> bool) -> anyhow::Result<()> {
    let Some(([_, len @ ..], message)) = data.split_first_chunk::<FRAME_HEADER_BYTES>() else {
        return Ok(());
    };
    let is_whole = u32::from_be_bytes(*len) as usize == message.len();
    ensure!(!is_whole || expect(message), "an answer is wrong: {message:?}");
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
    // Three digits from 1 ns up; it grows as needed.
    Histogram::new(3).unwrap_or_else(|_| unreachable!("three digits are allowed"))
}
