//! The load generator: HTTP/2 by hand on one spinning thread, so that it costs far less than what it measures.

mod answers;
mod connection;
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
const LOOK_INTO: u64 = 64;
/// How long the last answers may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// What precedes a message: whether it is compressed, and its length.
const FRAME_HEAD: usize = 5;

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
    pub expect: fn(&[u8]) -> bool,
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    /// Requests, or messages of a stream, that were answered with status OK.
    pub answers: u64,
    /// How long it took.
    pub took: Duration,
    /// Latencies in nanoseconds. Of streams: none.
    pub latencies: Histogram<u64>,
}

/// A message as gRPC frames it.
#[must_use]
pub fn framed(message: &impl Message) -> Bytes {
    let encoded = message.encode_to_vec();
    let mut frame = BytesMut::with_capacity(encoded.len() + FRAME_HEAD);
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
    pub fn flat_out(&self, time: Duration) -> anyhow::Result<Outcome> {
        let begun = Instant::now();
        let mut lines = self.lines()?;
        let mut next = 0;
        while lines.iter().any(|line| !line.is_idle()) || begun.elapsed() < time {
            ensure!(begun.elapsed() < time + PATIENCE, "some requests are never answered");
            for line in &mut lines {
                line.take_in(self)?;
                let now = Instant::now();
                while line.waits.len() + line.under_way.len() < self.streams && now < begun + time {
                    line.waits.push_back((next, now));
                    next += 1;
                }
                line.send(self)?;
            }
        }
        outcome(lines, begun)
    }

    /// `rate` requests a second, whether or not the server keeps up. A latency counts from the moment at which the
    /// request should have left, so that a stall is felt by every request that it delayed (no coordinated omission).
    ///
    /// # Errors
    /// As for [`flat_out`](Self::flat_out).
    pub fn at_rate(&self, rate: f64, time: Duration) -> anyhow::Result<Outcome> {
        let mut lines = self.lines()?;
        let begun = Instant::now();
        let total = (rate * time.as_secs_f64()) as usize;
        let mut next = 0;
        while next < total || lines.iter().any(|line| !line.is_idle()) {
            ensure!(begun.elapsed() < time + PATIENCE, "some requests are never answered");
            let due = |number: usize| begun + Duration::from_secs_f64(number as f64 / rate);
            let now = Instant::now();
            while next < total && due(next) <= now {
                let count = lines.len();
                if let Some(line) = lines.get_mut(next % count) {
                    line.waits.push_back((next, due(next)));
                }
                next += 1;
            }
            for line in &mut lines {
                line.send(self)?;
                line.take_in(self)?;
            }
        }
        outcome(lines, begun)
    }

    /// Sends each message once, as many at a time as may be.
    ///
    /// # Errors
    /// As for [`flat_out`](Self::flat_out).
    pub fn once(&self) -> anyhow::Result<Outcome> {
        let mut lines = self.lines()?;
        let begun = Instant::now();
        let count = lines.len();
        for number in 0..self.bodies.len() {
            if let Some(line) = lines.get_mut(number % count) {
                line.waits.push_back((number, begun));
            }
        }
        while lines.iter().any(|line| !line.is_idle()) {
            ensure!(begun.elapsed() < PATIENCE, "some requests are never answered");
            for line in &mut lines {
                line.send(self)?;
                line.take_in(self)?;
            }
        }
        outcome(lines, begun)
    }

    fn lines(&self) -> anyhow::Result<Vec<Line>> {
        ensure!(self.connections > 0 && !self.bodies.is_empty(), "nothing to send");
        (0..self.connections).map(|_| Line::open(self)).collect()
    }

    fn body(&self, number: usize) -> anyhow::Result<&Bytes> {
        self.bodies.get(number % self.bodies.len()).context("nothing to send")
    }
}

/// A connection, and what is asked on it.
struct Line {
    connection: Connection,
    /// What should have left, and when.
    waits: VecDeque<(usize, Instant)>,
    /// When what is under way should have left, by stream.
    under_way: HashMap<u32, Instant>,
    seen: u64,
    latencies: Histogram<u64>,
}

impl Line {
    fn open(load: &Load) -> anyhow::Result<Self> {
        Ok(Self {
            connection: Connection::open(load.address, load.path)?,
            waits: VecDeque::new(),
            under_way: HashMap::new(),
            seen: 0,
            latencies: histogram(),
        })
    }

    fn is_idle(&self) -> bool {
        self.waits.is_empty() && self.under_way.is_empty()
    }

    fn send(&mut self, load: &Load) -> anyhow::Result<()> {
        while self.under_way.len() < load.streams
            && let Some((number, due)) = self.waits.front()
        {
            let Some(stream) = self.connection.ask(load.body(*number)?) else { break };
            self.under_way.insert(stream, *due);
            self.waits.pop_front();
        }
        self.connection.flush()
    }

    fn take_in(&mut self, load: &Load) -> anyhow::Result<()> {
        let Self { connection, under_way, seen, latencies, .. } = self;
        connection.poll(|event| match event {
            Event::Data(data) => {
                *seen += 1;
                if seen.is_multiple_of(LOOK_INTO) {
                    look_into(data, load.expect)?;
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
fn look_into(data: &[u8], expect: fn(&[u8]) -> bool) -> anyhow::Result<()> {
    let Some(([_, len @ ..], message)) = data.split_first_chunk::<FRAME_HEAD>() else { return Ok(()) };
    let is_whole = u32::from_be_bytes(*len) as usize == message.len();
    ensure!(!is_whole || expect(message), "an answer is wrong: {message:?}");
    Ok(())
}

fn outcome(lines: Vec<Line>, begun: Instant) -> anyhow::Result<Outcome> {
    let took = begun.elapsed();
    let mut latencies = histogram();
    for line in lines {
        latencies.add(line.latencies)?;
    }
    Ok(Outcome { answers: latencies.len(), took, latencies })
}

fn histogram() -> Histogram<u64> {
    // Three digits from 1 ns up; it grows as needed.
    Histogram::new(3).unwrap_or_else(|_| unreachable!("three digits are allowed"))
}
