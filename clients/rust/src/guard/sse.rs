//! A guarded body of server-sent events.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::{Ended, Guard};

/// Returns the last event of a stream that a guard ends; nothing for an empty text.
pub(crate) type EndEvent = Box<dyn FnOnce(&Ended) -> String + Send>;

pin_project! {
    /// A body of server-sent events (`text/event-stream`) that ends with an event when its principal may no longer be used;
    /// see [`Client::guard_sse`](crate::Client::guard_sse). It passes frames on as they come, and holds none.
    #[must_use = "a body does nothing unless it is polled"]
    pub struct GuardedSse<B> {
        // `None` once the body has ended: the guard and the source are released.
        #[pin]
        source: Option<B>,
        guard: Option<Guard>,
        end_event: Option<EndEvent>,
        boundary: Boundary,
    }
}

/// Whether the bytes so far end with a blank line, so that an event may follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Boundary {
    Blank,
    /// After one line end.
    LineEnd,
    Text,
}

impl Boundary {
    fn after(self, bytes: &[u8]) -> Self {
        let mut previous = 0;
        bytes.iter().fold(self, |boundary, byte| {
            let next = match (byte, boundary) {
                // The second half of a line end.
                (b'\n', boundary) if previous == b'\r' => boundary,
                (b'\n' | b'\r', Self::Text) => Self::LineEnd,
                (b'\n' | b'\r', _) => Self::Blank,
                _ => Self::Text,
            };
            previous = *byte;
            next
        })
    }
}

impl<B> GuardedSse<B> {
    pub(crate) fn new(guard: Guard, source: B, end_event: EndEvent) -> Self {
        let (source, guard, end_event) = (Some(source), Some(guard), Some(end_event));
        Self { source, guard, end_event, boundary: Boundary::Blank }
    }
}

impl<B: Body<Data = Bytes>> Body for GuardedSse<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        if let Some(guard) = this.guard.as_mut()
            && let Poll::Ready(ended) = Pin::new(guard).poll(cx)
        {
            *this.guard = None;
            this.source.set(None);
            let event = this.end_event.take().map(|event| event(&ended)).unwrap_or_default();
            if event.is_empty() {
                return Poll::Ready(None);
            }
            let separator = if *this.boundary == Boundary::Blank { "" } else { "\n\n" };
            return Poll::Ready(Some(Ok(Frame::data(Bytes::from(format!("{separator}{event}"))))));
        }
        let frame = match this.source.as_mut().as_pin_mut() {
            Some(source) => std::task::ready!(source.poll_frame(cx)),
            None => None,
        };
        match &frame {
            Some(Ok(frame)) => {
                if let Some(data) = frame.data_ref() {
                    *this.boundary = this.boundary.after(data);
                }
            }
            Some(Err(_)) | None => {
                *this.guard = None;
                this.source.set(None);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.source.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        // An event may follow.
        SizeHint::default()
    }
}

impl<B> std::fmt::Debug for GuardedSse<B> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuardedSse").field("guard", &self.guard).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boundary_is_a_blank_line_with_any_line_end() {
        for (chunks, expected) in [
            (&["data: 1\n\n"][..], Boundary::Blank),
            (&["data: 1\r\n\r\n"], Boundary::Blank),
            (&["data: 1\r\r"], Boundary::Blank),
            (&["data: 1\n", "\n"], Boundary::Blank),
            (&["data: 1\r\n"], Boundary::LineEnd),
            (&["data: 1"], Boundary::Text),
            (&["data: 1\n\nda"], Boundary::Text),
            (&[], Boundary::Blank),
        ] {
            let reached =
                chunks.iter().fold(Boundary::Blank, |boundary, chunk| boundary.after(chunk.as_bytes()));
            assert_eq!(reached, expected, "{chunks:?}");
        }
    }
}
