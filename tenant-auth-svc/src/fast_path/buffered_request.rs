//! The part of a request's message that has arrived.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http_body::{Body, Frame};
use hyper::body::Incoming;
use pin_project_lite::pin_project;

/// The part of a request's body that was read.
#[derive(Default)]
pub(super) struct BufferedRequest {
    frame: Option<Bytes>,
    /// A second data frame. With it, the request does not qualify for the fast path.
    extra_frame: Option<Bytes>,
    has_ended: bool,
    /// The error that ended the read. [`ResumedBody`] returns it to the next reader.
    error: Option<hyper::Error>,
}

impl BufferedRequest {
    /// Reads until it is known whether the whole message is in one frame, which is usual for messages of
    /// normal size.
    pub(super) fn poll_read(&mut self, body: &mut Incoming, cx: &mut Context<'_>) -> Poll<()> {
        while !self.has_ended && self.extra_frame.is_none() && self.error.is_none() {
            match ready!(Pin::new(&mut *body).poll_frame(cx)) {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) if self.frame.is_none() => self.frame = Some(data),
                    // Clients may end a request with an empty data frame.
                    Ok(data) if data.is_empty() => {}
                    Ok(data) => self.extra_frame = Some(data),
                    // gRPC ignores trailers of a request.
                    Err(_) => {}
                },
                Some(Err(error)) => self.error = Some(error),
                None => self.has_ended = true,
            }
            self.has_ended |= body.is_end_stream();
        }
        Poll::Ready(())
    }

    /// Returns the frame, if it is the whole body.
    pub(super) fn single_frame(&self) -> Option<&Bytes> {
        self.frame.as_ref().filter(|_| self.has_ended && self.extra_frame.is_none() && self.error.is_none())
    }
}

pin_project! {
    /// A body of which a part was already read.
    pub(super) struct ResumedBody {
        buffered: BufferedRequest,
        #[pin]
        rest: Incoming,
    }
}

impl ResumedBody {
    /// Creates a body that returns the buffered frames and then `rest`.
    pub(super) fn new(read: BufferedRequest, rest: Incoming) -> Self {
        Self { buffered: read, rest }
    }
}

impl Body for ResumedBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let this = self.project();
        if let Some(frame) = this.buffered.frame.take().or_else(|| this.buffered.extra_frame.take()) {
            return Poll::Ready(Some(Ok(Frame::data(frame))));
        }
        if let Some(failure) = this.buffered.error.take() {
            return Poll::Ready(Some(Err(failure)));
        }
        this.rest.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        let BufferedRequest { frame, extra_frame: more, error: failure, .. } = &self.buffered;
        frame.is_none() && more.is_none() && failure.is_none() && self.rest.is_end_stream()
    }
}
