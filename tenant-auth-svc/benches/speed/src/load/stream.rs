//! Messages on long-lived streams.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use super::{
    ANSWER_TIMEOUT, ANSWERS_PER_CHECK, FRAME_HEADER_BYTES, Load, LoadOutcome,
    connection::{Connection, Event},
    histogram,
};

impl Load {
    /// Opens one stream on each connection, and keeps [`streams`](Self::streams) messages in flight on each,
    /// for a time.
    ///
    /// # Errors
    /// Fails if a connection breaks, or a response is wrong.
    pub fn run_streaming(&self, time: Duration) -> anyhow::Result<LoadOutcome> {
        ensure!(self.connections > 0 && !self.bodies.is_empty(), "nothing to send");
        let begun = Instant::now();
        let mut flows = (0..self.connections)
            .map(|_| {
                let mut connection = Connection::open(self.address, self.path)?;
                connection.open_stream();
                Ok(StreamConnection {
                    connection,
                    messages: MessageReader::default(),
                    sent: 0,
                    has_ended: false,
                    has_finished: false,
                })
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let mut next = 0;
        while flows.iter().any(|flow| !flow.has_ended) {
            ensure!(begun.elapsed() < time + ANSWER_TIMEOUT, "some messages were not answered in time");
            for flow in &mut flows {
                flow.receive(self)?;
                if begun.elapsed() < time {
                    flow.send(self, &mut next)?;
                } else if !flow.has_finished && flow.messages.complete == flow.sent {
                    flow.connection.finish_stream();
                    flow.has_finished = true;
                }
                flow.connection.flush()?;
            }
        }
        let answers = flows.iter().map(|flow| flow.messages.complete).sum();
        Ok(LoadOutcome { answers, elapsed: begun.elapsed(), latencies: histogram() })
    }
}

/// A connection with one stream.
struct StreamConnection {
    connection: Connection,
    messages: MessageReader,
    sent: u64,
    has_finished: bool,
    has_ended: bool,
}

impl StreamConnection {
    fn send(&mut self, load: &Load, next: &mut usize) -> anyhow::Result<()> {
        // All available messages are written together, as by an application with pending messages.
        let mut together = Vec::new();
        let mut count = 0;
        while self.sent + count < self.messages.complete + load.streams as u64 {
            together.extend_from_slice(load.body(*next + count as usize)?);
            count += 1;
        }
        if count > 0 && self.connection.send_message(&together) {
            self.sent += count;
            *next += count as usize;
        }
        Ok(())
    }

    fn receive(&mut self, load: &Load) -> anyhow::Result<()> {
        let Self { connection, messages, has_ended, .. } = self;
        connection.poll(|event| match event {
            Event::Data(_, data) => messages.push(data, load.is_expected),
            Event::End(_) => {
                *has_ended = true;
                Ok(())
            }
        })
    }
}

/// Reassembles messages from the received parts.
#[derive(Default)]
struct MessageReader {
    buffer: Vec<u8>,
    complete: u64,
}

impl MessageReader {
    fn push(&mut self, data: &[u8], expect: fn(&[u8]) -> bool) -> anyhow::Result<()> {
        self.buffer.extend_from_slice(data);
        let mut rest = &self.buffer[..];
        while let Some(([_, len @ ..], after)) = rest.split_first_chunk::<FRAME_HEADER_BYTES>() {
            let len = usize::try_from(u32::from_be_bytes(*len)).context("the message length must fit")?;
            let Some((message, after)) = after.split_at_checked(len) else { break };
            self.complete += 1;
            ensure!(
                !self.complete.is_multiple_of(ANSWERS_PER_CHECK) || expect(message),
                "wrong response: {message:?}"
            );
            rest = after;
        }
        let done = self.buffer.len() - rest.len();
        self.buffer.drain(..done);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_found_at_any_split() {
        let two = [&[0, 0, 0, 0, 2, 7, 8][..], &[0, 0, 0, 0, 0]].concat();
        for cut in 0..two.len() {
            let mut messages = MessageReader::default();
            let (first, second) = two.split_at(cut);
            messages.push(first, |_| true).unwrap();
            messages.push(second, |_| true).unwrap();
            assert_eq!((messages.complete, messages.buffer.len()), (2, 0), "{cut}");
        }
    }
}
