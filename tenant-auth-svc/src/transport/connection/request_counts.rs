//! Counts the requests of one connection: unread responses, answered and cancelled requests.

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

/// The counts. All accesses are on the thread of the connection.
#[derive(Debug)]
pub(super) struct RequestCounts {
    /// Unread responses of all connections of this worker.
    worker_unread: Arc<AtomicU64>,
    /// Responses with data that the peer has not opened its flow-control window for.
    unread: AtomicU64,
    /// The number of times that the peer has read on.
    read_count: AtomicU64,
    /// Requests with a complete response.
    answered: AtomicU64,
    /// Requests that the peer cancelled before that.
    cancelled: AtomicU64,
}

impl RequestCounts {
    pub(super) fn new(worker_unread: Arc<AtomicU64>) -> Self {
        let zero = AtomicU64::default;
        Self { worker_unread, unread: zero(), read_count: zero(), answered: zero(), cancelled: zero() }
    }

    pub(super) fn worker_unread(&self) -> u64 {
        load(&self.worker_unread)
    }

    pub(super) fn unread(&self) -> u64 {
        load(&self.unread)
    }

    pub(super) fn read_count(&self) -> u64 {
        load(&self.read_count)
    }

    pub(super) fn answered(&self) -> u64 {
        load(&self.answered)
    }

    pub(super) fn cancelled(&self) -> u64 {
        load(&self.cancelled)
    }

    /// Counts a request until it ends.
    pub(super) fn track<F>(self: &Arc<Self>, answer: F) -> CountedFuture<F> {
        CountedFuture {
            answer,
            request: Some(RequestGuard {
                counts: Arc::clone(self),
                is_unread: AtomicBool::new(false),
                is_answered: false,
            }),
        }
    }
}

fn load(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn increment(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// One request, counted as answered or cancelled when it is dropped.
#[derive(Debug)]
struct RequestGuard {
    counts: Arc<RequestCounts>,
    is_unread: AtomicBool,
    is_answered: bool,
}

impl RequestGuard {
    /// Marks the response as waiting for the peer's flow-control window.
    fn mark_unread(&self) {
        if !self.is_unread.swap(true, Ordering::Relaxed) {
            increment(&self.counts.unread);
            increment(&self.counts.worker_unread);
        }
    }

    /// Marks the response as read.
    fn mark_read(&self) {
        if self.is_unread.swap(false, Ordering::Relaxed) {
            self.counts.unread.fetch_sub(1, Ordering::Relaxed);
            self.counts.worker_unread.fetch_sub(1, Ordering::Relaxed);
            increment(&self.counts.read_count);
        }
    }
}

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.mark_read();
        increment(if self.is_answered { &self.counts.answered } else { &self.counts.cancelled });
    }
}

pin_project! {
    /// The future of a counted request.
    pub(super) struct CountedFuture<F> {
        #[pin]
        answer: F,
        request: Option<RequestGuard>,
    }
}

impl<F, B, E> Future for CountedFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<CountedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.answer.poll(cx))?;
        let mut request = this.request.take();
        if let Some(request) = &mut request {
            match response.body().is_end_stream() {
                // The whole response is in the headers, which need no flow-control window.
                true => request.is_answered = true,
                false => request.mark_unread(),
            }
        }
        Poll::Ready(Ok(response.map(|body| CountedBody { body, request })))
    }
}

pin_project! {
    /// The body of a counted response.
    pub(super) struct CountedBody<B> {
        #[pin]
        body: B,
        request: Option<RequestGuard>,
    }
}

impl<B: Body> Body for CountedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    /// hyper polls the body only when the peer has flow-control window for it.
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let Some(request) = this.request else { return this.body.poll_frame(cx) };
        request.mark_read();
        let frame = ready!(this.body.poll_frame(cx));
        match &frame {
            Some(Ok(frame)) if frame.is_data() => request.mark_unread(),
            Some(Ok(_)) | None => request.is_answered = true,
            Some(Err(_)) => {}
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
