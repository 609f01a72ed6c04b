//! What becomes of the requests of one connection: whether their answers are read, and how many are given up.

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

/// The counts. Whoever adds to them and whoever reads them is on the thread of the connection.
#[derive(Debug)]
pub(super) struct Vitals {
    /// Of all connections of this worker.
    all_unread: Arc<AtomicU64>,
    /// Answers that the peer has been given a piece of, or could be, and has not made room for the next one.
    unread: AtomicU64,
    /// How often one of them was read on.
    read: AtomicU64,
    /// Requests whose answer went out whole.
    answered: AtomicU64,
    /// Requests that their caller gave up before that.
    cancelled: AtomicU64,
}

impl Vitals {
    pub(super) fn new(all_unread: Arc<AtomicU64>) -> Self {
        let zero = AtomicU64::default;
        Self { all_unread, unread: zero(), read: zero(), answered: zero(), cancelled: zero() }
    }

    pub(super) fn all_unread(&self) -> u64 {
        get(&self.all_unread)
    }

    pub(super) fn unread(&self) -> u64 {
        get(&self.unread)
    }

    pub(super) fn read(&self) -> u64 {
        get(&self.read)
    }

    pub(super) fn answered(&self) -> u64 {
        get(&self.answered)
    }

    pub(super) fn cancelled(&self) -> u64 {
        get(&self.cancelled)
    }

    /// Follows a request to its end.
    pub(super) fn follow<F>(self: &Arc<Self>, answer: F) -> Followed<F> {
        Followed {
            answer,
            request: Some(Request {
                vitals: Arc::clone(self),
                is_unread: AtomicBool::new(false),
                is_answered: false,
            }),
        }
    }
}

fn get(count: &AtomicU64) -> u64 {
    count.load(Ordering::Relaxed)
}

fn add(count: &AtomicU64) {
    count.fetch_add(1, Ordering::Relaxed);
}

/// One request, until it has ended, however it ends.
#[derive(Debug)]
struct Request {
    vitals: Arc<Vitals>,
    is_unread: AtomicBool,
    is_answered: bool,
}

impl Request {
    /// It is the peer's turn: it has to make room for what comes next.
    fn waits_for_peer(&self) {
        if !self.is_unread.swap(true, Ordering::Relaxed) {
            add(&self.vitals.unread);
            add(&self.vitals.all_unread);
        }
    }

    /// It is ours.
    fn is_read(&self) {
        if self.is_unread.swap(false, Ordering::Relaxed) {
            self.vitals.unread.fetch_sub(1, Ordering::Relaxed);
            self.vitals.all_unread.fetch_sub(1, Ordering::Relaxed);
            add(&self.vitals.read);
        }
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        self.is_read();
        add(if self.is_answered { &self.vitals.answered } else { &self.vitals.cancelled });
    }
}

pin_project! {
    /// The future of a request that is followed.
    pub(super) struct Followed<F> {
        #[pin]
        answer: F,
        request: Option<Request>,
    }
}

impl<F, B, E> Future for Followed<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<FollowedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.answer.poll(cx))?;
        let mut request = this.request.take();
        if let Some(request) = &mut request {
            match response.body().is_end_stream() {
                // All of it is in its head, which needs no room.
                true => request.is_answered = true,
                false => request.waits_for_peer(),
            }
        }
        Poll::Ready(Ok(response.map(|body| FollowedBody { body, request })))
    }
}

pin_project! {
    /// The body of an answer that is followed.
    pub(super) struct FollowedBody<B> {
        #[pin]
        body: B,
        request: Option<Request>,
    }
}

impl<B: Body> Body for FollowedBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    /// Asked for only when the peer has room for it.
    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let Some(request) = this.request else { return this.body.poll_frame(cx) };
        request.is_read();
        let frame = ready!(this.body.poll_frame(cx));
        match &frame {
            Some(Ok(frame)) if frame.is_data() => request.waits_for_peer(),
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
