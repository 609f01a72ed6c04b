//! Messages on streams that stay open.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::{
    FRAME_HEAD, LOOK_INTO, Load, Outcome, PATIENCE,
    connection::{Connection, Event},
    histogram,
};

impl Load {
    /// One stream on each connection, with [`streams`](Self::streams) messages under way on each, for a time.
    ///
    /// # Errors
    /// When a connection breaks, or an answer is not as it should be.
    pub fn streaming(&self, time: Duration) -> anyhow::Result<Outcome> {
        ensure!(self.connections > 0 && !self.bodies.is_empty(), "nothing to send");
        let begun = Instant::now();
        let mut flows = (0..self.connections)
            .map(|_| {
                let mut connection = Connection::open(self.address, self.path)?;
                connection.keep_open();
                Ok(Flow {
                    connection,
                    messages: Messages::default(),
                    sent: 0,
                    has_ended: false,
                    has_finished: false,
                })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mut next = 0;
        while flows.iter().any(|flow| !flow.has_ended) {
            ensure!(begun.elapsed() < time + PATIENCE, "some messages are never answered");
            for flow in &mut flows {
                flow.take_in(self)?;
                if begun.elapsed() < time {
                    flow.send(self, &mut next)?;
                } else if !flow.has_finished && flow.messages.whole == flow.sent {
                    flow.connection.finish();
                    flow.has_finished = true;
                }
                flow.connection.flush()?;
            }
        }
        let answers = flows.iter().map(|flow| flow.messages.whole).sum();
        Ok(Outcome { answers, took: begun.elapsed(), latencies: histogram() })
    }
}

/// A connection with one stream.
struct Flow {
    connection: Connection,
    messages: Messages,
    sent: u64,
    has_finished: bool,
    has_ended: bool,
}

impl Flow {
    fn send(&mut self, load: &Load, next: &mut usize) -> anyhow::Result<()> {
        // As an application that writes what it has: as many messages as there are go together.
        let mut together = Vec::new();
        let mut count = 0;
        while self.sent + count < self.messages.whole + load.streams as u64 {
            together.extend_from_slice(load.body(*next + count as usize)?);
            count += 1;
        }
        if count > 0 && self.connection.send(&together) {
            self.sent += count;
            *next += count as usize;
        }
        Ok(())
    }

    fn take_in(&mut self, load: &Load) -> anyhow::Result<()> {
        let Self { connection, messages, has_ended, .. } = self;
        connection.poll(|event| match event {
            Event::Data(data) => messages.see(data, load.expect),
            Event::End(_) => {
                *has_ended = true;
                Ok(())
            }
        })
    }
}

/// Finds the messages in what comes in pieces.
#[derive(Default)]
struct Messages {
    held: Vec<u8>,
    whole: u64,
}

impl Messages {
    fn see(&mut self, data: &[u8], expect: fn(&[u8]) -> bool) -> anyhow::Result<()> {
        self.held.extend_from_slice(data);
        let mut rest = &self.held[..];
        while let Some(([_, len @ ..], after)) = rest.split_first_chunk::<FRAME_HEAD>() {
            let len = usize::try_from(u32::from_be_bytes(*len)).context("a message of any length")?;
            let Some((message, after)) = after.split_at_checked(len) else { break };
            self.whole += 1;
            ensure!(
                !self.whole.is_multiple_of(LOOK_INTO) || expect(message),
                "an answer is wrong: {message:?}"
            );
            rest = after;
        }
        let done = self.held.len() - rest.len();
        self.held.drain(..done);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_wherever_they_are_cut() {
        let two = [&[0, 0, 0, 0, 2, 7, 8][..], &[0, 0, 0, 0, 0]].concat();
        for cut in 0..two.len() {
            let mut messages = Messages::default();
            let (first, second) = two.split_at(cut);
            messages.see(first, |_| true).unwrap();
            messages.see(second, |_| true).unwrap();
            assert_eq!((messages.whole, messages.held.len()), (2, 0), "{cut}");
        }
    }
}
