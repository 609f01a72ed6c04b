//! Observes the end of an RPC.
//!
//! An RPC ends when its status is sent: in the response headers, if there is no message before it, or in the
//! trailers after the body. It also ends when its caller disconnects before that.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Code;

/// Observes one RPC.
pub trait RpcObserver {
    /// A guard that is held while the RPC is polled.
    type Held;

    /// Called before each poll; the guard is dropped after it.
    fn enter(&self) -> Self::Held;

    /// Response data is sent: a message, a part of one, or several.
    fn on_data(&mut self, data: &[u8]);

    /// The RPC has ended; `None` if the caller disconnected. Called once.
    fn on_end(&mut self, code: Option<Code>);
}

impl<A: RpcObserver, B: RpcObserver> RpcObserver for (A, B) {
    type Held = (A::Held, B::Held);

    fn enter(&self) -> Self::Held {
        (self.0.enter(), self.1.enter())
    }

    fn on_data(&mut self, data: &[u8]) {
        self.0.on_data(data);
        self.1.on_data(data);
    }

    fn on_end(&mut self, code: Option<Code>) {
        self.0.on_end(code);
        self.1.on_end(code);
    }
}

/// Reports the end to the observer, at the latest when dropped.
struct EndGuard<T: RpcObserver>(Option<T>);

impl<T: RpcObserver> EndGuard<T> {
    fn enter(&self) -> Option<T::Held> {
        self.0.as_ref().map(T::enter)
    }

    /// Whether the end is still to be reported.
    fn is_active(&self) -> bool {
        self.0.is_some()
    }

    fn finish(&mut self, code: Option<Code>) {
        if let Some(mut follower) = self.0.take() {
            follower.on_end(code);
        }
    }
}

impl<T: RpcObserver> Drop for EndGuard<T> {
    fn drop(&mut self) {
        self.finish(None);
    }
}

pin_project! {
    /// An observed RPC.
    pub struct ObservedFuture<F, T: RpcObserver> {
        #[pin]
        answer: F,
        guard: EndGuard<T>,
    }
}

impl<F, T: RpcObserver> ObservedFuture<F, T> {
    /// `None` if the RPC is not observed.
    pub(super) fn new(answer: F, follower: Option<T>) -> Self {
        Self { answer, guard: EndGuard(follower) }
    }
}

impl<F, Out, E, T> Future for ObservedFuture<F, T>
where
    F: Future<Output = Result<Response<Out>, E>>,
    Out: Body,
    T: RpcObserver,
{
    type Output = Result<Response<ObservedBody<Out, T>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let held = this.guard.enter();
        let response = ready!(this.answer.poll(cx))?;
        drop(held);
        let mut tail = mem::replace(this.guard, EndGuard(None));
        if tail.is_active() {
            if let Some(code) = grpc_status_code(response.headers()) {
                tail.finish(Some(code));
            } else if response.body().is_end_stream() {
                // Not gRPC: a request of another kind that was refused.
                tail.finish(Some(Code::Unknown));
            }
        }
        Poll::Ready(Ok(response.map(|body| ObservedBody { body, guard: tail })))
    }
}

pin_project! {
    /// The body of an observed response.
    pub struct ObservedBody<B, T: RpcObserver> {
        #[pin]
        body: B,
        guard: EndGuard<T>,
    }
}

impl<B, T> Body for ObservedBody<B, T>
where
    B: Body<Data: AsRef<[u8]>>,
    T: RpcObserver,
{
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let held = this.guard.enter();
        let frame = ready!(this.body.poll_frame(cx));
        drop(held);
        if !this.guard.is_active() {
            return Poll::Ready(frame);
        }
        match &frame {
            Some(Ok(frame)) => match frame.trailers_ref() {
                Some(trailers) => {
                    this.guard.finish(Some(grpc_status_code(trailers).unwrap_or(Code::Unknown)))
                }
                None => {
                    if let (Some(follower), Some(data)) = (&mut this.guard.0, frame.data_ref()) {
                        follower.on_data(data.as_ref());
                    }
                }
            },
            Some(Err(_)) | None => this.guard.finish(Some(Code::Unknown)),
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

fn grpc_status_code(headers: &HeaderMap) -> Option<Code> {
    headers.get("grpc-status").map(|code| Code::from_bytes(code.as_bytes()))
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::VecDeque, future::pending, rc::Rc};

    use futures::{
        FutureExt as _,
        future::{self, poll_fn},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct RecordingObserver(Rc<RefCell<Vec<String>>>);

    impl RpcObserver for RecordingObserver {
        type Held = ();

        fn enter(&self) {}

        fn on_data(&mut self, _: &[u8]) {
            self.0.borrow_mut().push("piece".to_owned());
        }

        fn on_end(&mut self, code: Option<Code>) {
            self.0.borrow_mut().push(code.map_or("left".to_owned(), |code| format!("{code:?}")));
        }
    }

    struct FrameBody(VecDeque<Frame<&'static [u8]>>);

    impl Body for FrameBody {
        type Data = &'static [u8];
        type Error = ();

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Self::Data>, ()>>> {
            Poll::Ready(self.0.pop_front().map(Ok))
        }

        fn is_end_stream(&self) -> bool {
            self.0.is_empty()
        }
    }

    fn data_frame() -> Frame<&'static [u8]> {
        Frame::data(b"piece")
    }

    fn trailers(code: &str) -> Frame<&'static [u8]> {
        Frame::trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())]))
    }

    /// The events of a response with these frames, `read` of which are read.
    fn observed_events(head: Option<&str>, frames: Vec<Frame<&'static [u8]>>, read: usize) -> Vec<String> {
        let recording = RecordingObserver::default();
        let mut response = Response::new(FrameBody(frames.into()));
        if let Some(code) = head {
            response.headers_mut().insert("grpc-status", code.parse().unwrap());
        }
        let followed = ObservedFuture::new(future::ready(Ok::<_, ()>(response)), Some(recording.clone()));
        let mut body = followed.now_or_never().unwrap().unwrap_or_else(|()| panic!("it answers")).into_body();
        for _ in 0..read {
            let _ = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).now_or_never();
        }
        drop(body);
        recording.0.take()
    }

    #[test]
    fn rpc_end_is_observed_exactly_once() {
        assert_eq!(observed_events(Some("8"), Vec::new(), 1), ["ResourceExhausted"]);
        assert_eq!(observed_events(None, vec![data_frame(), trailers("0")], 3), ["piece", "Ok"]);
        assert_eq!(observed_events(None, vec![data_frame(), trailers("0")], 1), ["piece", "left"]);
        assert_eq!(observed_events(None, vec![data_frame(), trailers("0")], 0), ["left"]);
        assert_eq!(observed_events(None, vec![data_frame()], 2), ["piece", "Unknown"]);
        assert_eq!(observed_events(None, Vec::new(), 0), ["Unknown"], "no gRPC");
        let waiting = RecordingObserver::default();
        let answer = pending::<Result<Response<FrameBody>, ()>>();
        assert!(ObservedFuture::new(answer, Some(waiting.clone())).now_or_never().is_none());
        assert_eq!(waiting.0.take(), ["left"]);
    }
}
