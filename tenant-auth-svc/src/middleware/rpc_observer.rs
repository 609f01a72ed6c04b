//! Follows an RPC to its end, whatever its end is.
//!
//! An RPC is over when its status has left: in the head of the answer, if it is an error that came before everything
//! else, or in the trailers after the body; or when its caller does not wait for that.

use std::{
    mem,
    pin::Pin,
    task::{Context, Poll, ready},
};

use http::{HeaderMap, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Code;

/// Who follows.
pub trait Follower {
    /// What is held while the RPC is worked on.
    type Held;

    /// The RPC is worked on, on this thread, for as long as the answer lives.
    fn enter(&self) -> Self::Held;

    /// A piece of its answer leaves.
    fn piece(&mut self);

    /// It is over; `None`: its caller did not wait for the end. It comes once.
    fn end(&mut self, code: Option<Code>);
}

impl<A: Follower, B: Follower> Follower for (A, B) {
    type Held = (A::Held, B::Held);

    fn enter(&self) -> Self::Held {
        (self.0.enter(), self.1.enter())
    }

    fn piece(&mut self) {
        self.0.piece();
        self.1.piece();
    }

    fn end(&mut self, code: Option<Code>) {
        self.0.end(code);
        self.1.end(code);
    }
}

/// Tells its follower of the end, at the latest when it goes itself.
struct Tail<T: Follower>(Option<T>);

impl<T: Follower> Tail<T> {
    fn enter(&self) -> Option<T::Held> {
        self.0.as_ref().map(T::enter)
    }

    /// Whether anybody follows, still.
    fn is_there(&self) -> bool {
        self.0.is_some()
    }

    fn end(&mut self, code: Option<Code>) {
        if let Some(mut follower) = self.0.take() {
            follower.end(code);
        }
    }
}

impl<T: Follower> Drop for Tail<T> {
    fn drop(&mut self) {
        self.end(None);
    }
}

pin_project! {
    /// An RPC that is followed.
    pub struct Followed<F, T: Follower> {
        #[pin]
        answer: F,
        tail: Tail<T>,
    }
}

impl<F, T: Follower> Followed<F, T> {
    /// `None`: nobody follows this one.
    pub(super) fn new(answer: F, follower: Option<T>) -> Self {
        Self { answer, tail: Tail(follower) }
    }
}

impl<F, Out, E, T> Future for Followed<F, T>
where
    F: Future<Output = Result<Response<Out>, E>>,
    Out: Body,
    T: Follower,
{
    type Output = Result<Response<FollowedBody<Out, T>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let held = this.tail.enter();
        let response = ready!(this.answer.poll(cx))?;
        drop(held);
        let mut tail = mem::replace(this.tail, Tail(None));
        if tail.is_there() {
            if let Some(code) = code_in(response.headers()) {
                tail.end(Some(code));
            } else if response.body().is_end_stream() {
                // No gRPC: what was refused as a request of another kind.
                tail.end(Some(Code::Unknown));
            }
        }
        Poll::Ready(Ok(response.map(|body| FollowedBody { body, tail })))
    }
}

pin_project! {
    /// The body of its answer.
    pub struct FollowedBody<B, T: Follower> {
        #[pin]
        body: B,
        tail: Tail<T>,
    }
}

impl<B: Body, T: Follower> Body for FollowedBody<B, T> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        let this = self.project();
        let held = this.tail.enter();
        let frame = ready!(this.body.poll_frame(cx));
        drop(held);
        if !this.tail.is_there() {
            return Poll::Ready(frame);
        }
        match &frame {
            Some(Ok(frame)) => match frame.trailers_ref() {
                Some(trailers) => this.tail.end(Some(code_in(trailers).unwrap_or(Code::Unknown))),
                None => {
                    if let Some(follower) = &mut this.tail.0 {
                        follower.piece();
                    }
                }
            },
            Some(Err(_)) | None => this.tail.end(Some(Code::Unknown)),
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

fn code_in(headers: &HeaderMap) -> Option<Code> {
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
    struct Heard(Rc<RefCell<Vec<String>>>);

    impl Follower for Heard {
        type Held = ();

        fn enter(&self) {}

        fn piece(&mut self) {
            self.0.borrow_mut().push("piece".to_owned());
        }

        fn end(&mut self, code: Option<Code>) {
            self.0.borrow_mut().push(code.map_or("left".to_owned(), |code| format!("{code:?}")));
        }
    }

    struct Frames(VecDeque<Frame<&'static [u8]>>);

    impl Body for Frames {
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

    fn piece() -> Frame<&'static [u8]> {
        Frame::data(b"piece")
    }

    fn trailers(code: &str) -> Frame<&'static [u8]> {
        Frame::trailers(HeaderMap::from_iter([("grpc-status".parse().unwrap(), code.parse().unwrap())]))
    }

    /// What is heard of an answer of these frames, of which so many are read.
    fn heard(head: Option<&str>, frames: Vec<Frame<&'static [u8]>>, read: usize) -> Vec<String> {
        let heard = Heard::default();
        let mut response = Response::new(Frames(frames.into()));
        if let Some(code) = head {
            response.headers_mut().insert("grpc-status", code.parse().unwrap());
        }
        let followed = Followed::new(future::ready(Ok::<_, ()>(response)), Some(heard.clone()));
        let mut body = followed.now_or_never().unwrap().unwrap_or_else(|()| panic!("it answers")).into_body();
        for _ in 0..read {
            let _ = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)).now_or_never();
        }
        drop(body);
        heard.0.take()
    }

    #[test]
    fn the_end_is_heard_once_however_it_comes() {
        assert_eq!(heard(Some("8"), Vec::new(), 1), ["ResourceExhausted"]);
        assert_eq!(heard(None, vec![piece(), trailers("0")], 3), ["piece", "Ok"]);
        assert_eq!(heard(None, vec![piece(), trailers("0")], 1), ["piece", "left"]);
        assert_eq!(heard(None, vec![piece(), trailers("0")], 0), ["left"]);
        assert_eq!(heard(None, vec![piece()], 2), ["piece", "Unknown"]);
        assert_eq!(heard(None, Vec::new(), 0), ["Unknown"], "no gRPC");
        let waiting = Heard::default();
        let answer = pending::<Result<Response<Frames>, ()>>();
        assert!(Followed::new(answer, Some(waiting.clone())).now_or_never().is_none());
        assert_eq!(waiting.0.take(), ["left"]);
    }
}
