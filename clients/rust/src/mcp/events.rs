//! A body of server-sent events whose messages are filtered.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf as _, Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::lists::ListFilter;

pin_project! {
    /// Passes each event on as soon as it is complete.
    pub(super) struct FilteredEvents<B> {
        #[pin]
        source: B,
        events: Events,
        trailers: Option<Frame<Bytes>>,
        has_ended: bool,
    }
}

/// Splits a stream into events and filters them.
struct Events {
    filter: ListFilter,
    /// The beginning of an event.
    pending: BytesMut,
    /// How much of it was searched for its end.
    searched: usize,
}

impl<B> FilteredEvents<B> {
    pub(super) fn new(source: B, filter: ListFilter) -> Self {
        let events = Events { filter, pending: BytesMut::new(), searched: 0 };
        Self { source, events, trailers: None, has_ended: false }
    }
}

impl Events {
    /// Adds bytes, and returns the events that they complete.
    fn add(&mut self, bytes: &[u8]) -> Bytes {
        self.pending.extend_from_slice(bytes);
        let mut complete = BytesMut::new();
        while let Some(end) = event_end(&self.pending, self.searched) {
            let event = self.pending.split_to(end);
            self.searched = 0;
            complete.extend_from_slice(&self.filter_event(&event));
        }
        // The end may begin in the last three bytes.
        self.searched = self.pending.len().saturating_sub(3);
        complete.freeze()
    }

    /// Returns the rest, which no blank line ends.
    fn finish(&mut self) -> Bytes {
        let rest = std::mem::take(&mut self.pending);
        self.filter_event(&rest)
    }

    fn filter_event(&self, event: &[u8]) -> Bytes {
        self.filtered(event).map_or_else(|| Bytes::copy_from_slice(event), Bytes::from)
    }

    /// Returns the event with filtered data; `None` if there is nothing to change.
    fn filtered(&self, event: &[u8]) -> Option<String> {
        let text = with_plain_line_ends(str::from_utf8(event).ok()?);
        let data: Vec<_> = text.split('\n').filter_map(data_of).collect();
        let filtered = self.filter.filter(&data.join("\n"))?;
        let mut result = String::with_capacity(event.len());
        for line in text.split('\n').filter(|line| data_of(line).is_none() && !line.is_empty()) {
            result.push_str(line);
            result.push('\n');
        }
        result.push_str("data: ");
        result.push_str(&filtered);
        result.push_str("\n\n");
        Some(result)
    }
}

fn with_plain_line_ends(text: &str) -> String {
    text.replace("\r\n", "\n").replace('\r', "\n")
}

fn data_of(line: &str) -> Option<&str> {
    let value = line.strip_prefix("data")?;
    if value.is_empty() {
        return Some("");
    }
    let value = value.strip_prefix(':')?;
    Some(value.strip_prefix(' ').unwrap_or(value))
}

/// Returns where the first event ends: after a blank line, or after a comment that precedes it.
fn event_end(bytes: &[u8], from: usize) -> Option<usize> {
    let is_comment = bytes.first() == Some(&b':');
    let mut index = from;
    while index < bytes.len() {
        let end = line_end(bytes, index);
        match end {
            Some(first) if is_comment || index == 0 => return Some(first),
            Some(first) => {
                if let Some(second) = line_end(bytes, first) {
                    return Some(second);
                }
            }
            None => {}
        }
        index += 1;
    }
    None
}

/// Returns the index after a line end at an index. A CR at the end of the bytes may be half of one.
fn line_end(bytes: &[u8], index: usize) -> Option<usize> {
    match (bytes.get(index)?, bytes.get(index + 1)) {
        (b'\n', _) => Some(index + 1),
        (b'\r', Some(b'\n')) => Some(index + 2),
        (b'\r', Some(_)) => Some(index + 1),
        _ => None,
    }
}

impl<B> Body for FilteredEvents<B>
where
    B: Body<Data = Bytes>,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        loop {
            if *this.has_ended {
                return Poll::Ready(this.trailers.take().map(Ok));
            }
            let complete = match ready!(this.source.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => this.events.add(data.chunk()),
                    Err(trailers) => {
                        *this.trailers = Some(trailers);
                        *this.has_ended = true;
                        this.events.finish()
                    }
                },
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                None => {
                    *this.has_ended = true;
                    this.events.finish()
                }
            };
            if !complete.is_empty() {
                return Poll::Ready(Some(Ok(Frame::data(complete))));
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended && self.trailers.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{McpPolicy, McpRule, Principal, Subject};

    fn events() -> Events {
        let policy = McpPolicy::new().tool("read", McpRule::new());
        let principal = Principal::admitted(Subject::default());
        Events { filter: ListFilter::of_stream(&policy, &principal), pending: BytesMut::new(), searched: 0 }
    }

    const STREAM: &str = ": ping\n\nretry: 3000\r\n\r\nid: 1\nevent: message\ndata: {\"id\":1,\ndata: \"result\":{\"tools\":[{\"name\":\"read\"},{\"name\":\"write\"}]}}\n\ndata: {\"id\":2,\"result\":{}}\n\n";
    const FILTERED: &str = ": ping\n\nretry: 3000\r\n\r\nid: 1\nevent: message\ndata: {\"id\":1,\"result\":{\"tools\":[{\"name\":\"read\"}]}}\n\ndata: {\"id\":2,\"result\":{}}\n\n";

    #[test]
    fn events_are_filtered_wherever_the_stream_is_cut() {
        for end in ["\n", "\r\n", "\r"] {
            let stream = STREAM.replace("\r\n", "\n").replace('\n', end);
            for size in 1..stream.len() {
                let mut events = events();
                let mut result = Vec::new();
                for chunk in stream.as_bytes().chunks(size) {
                    result.extend_from_slice(&events.add(chunk));
                }
                result.extend_from_slice(&events.finish());
                let result = with_plain_line_ends(&String::from_utf8(result).unwrap());
                assert_eq!(result, with_plain_line_ends(FILTERED), "{size} {end:?}");
            }
        }
    }

    #[test]
    fn complete_events_and_comments_do_not_wait() {
        let mut events = events();
        assert_eq!(events.add(b": ping\n"), ": ping\n");
        assert_eq!(events.add(b"\n"), "\n");
        assert_eq!(events.add(b"data: 1\n"), "");
        assert_eq!(events.add(b"\ndata: 2"), "data: 1\n\n");
        assert_eq!(events.add(b"\r\n\r\n"), "data: 2\r\n\r\n");
        let unfinished = b"data: {\"id\":1,\"result\":{\"tools\":[{\"name\":\"write\"}]}}";
        assert_eq!(events.add(unfinished), "");
        assert_eq!(events.finish(), "data: {\"id\":1,\"result\":{\"tools\":[]}}\n\n");
    }
}
