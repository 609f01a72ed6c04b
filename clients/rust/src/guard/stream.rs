//! Guarded streams of items: of any kind, and of gRPC messages.

use std::{
    future::Future as _,
    pin::Pin,
    task::{Context, Poll, ready},
};

use futures::Stream;
use pin_project_lite::pin_project;
use tonic::Status;

use super::{Ended, Guard};

pin_project! {
    /// A stream that ends with an [`Ended`] when its principal may no longer be used; see
    /// [`Client::guard`](crate::Client::guard). It passes items on as they come, and holds none.
    #[derive(Debug)]
    #[must_use = "a stream does nothing unless it is polled"]
    pub struct GuardedStream<S> {
        // `None` once the stream has ended: the guard and the source are released.
        #[pin]
        source: Option<S>,
        guard: Option<Guard>,
    }
}

pin_project! {
    /// A stream of gRPC messages that ends with a [`Status`] when its principal may no longer be used; see
    /// [`Client::guard_grpc`](crate::Client::guard_grpc).
    #[derive(Debug)]
    #[must_use = "a stream does nothing unless it is polled"]
    pub struct GuardedGrpc<S> {
        #[pin]
        inner: GuardedStream<S>,
    }
}

impl<S> GuardedStream<S> {
    pub(super) fn new(guard: Guard, source: S) -> Self {
        Self { source: Some(source), guard: Some(guard) }
    }
}

impl<S> GuardedGrpc<S> {
    pub(super) fn new(guard: Guard, source: S) -> Self {
        Self { inner: GuardedStream::new(guard, source) }
    }
}

impl<S: Stream> Stream for GuardedStream<S> {
    type Item = Result<S::Item, Ended>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut this = self.project();
        if let Some(guard) = this.guard.as_mut()
            && let Poll::Ready(ended) = Pin::new(guard).poll(cx)
        {
            *this.guard = None;
            this.source.set(None);
            return Poll::Ready(Some(Err(ended)));
        }
        let item = match this.source.as_mut().as_pin_mut() {
            Some(source) => ready!(source.poll_next(cx)),
            None => None,
        };
        if item.is_none() {
            *this.guard = None;
            this.source.set(None);
        }
        Poll::Ready(item.map(Ok))
    }
}

impl<S, T> Stream for GuardedGrpc<S>
where
    S: Stream<Item = Result<T, Status>>,
{
    type Item = Result<T, Status>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(self.project().inner.poll_next(cx));
        Poll::Ready(item.map(|item| item.map_err(Status::from).flatten()))
    }
}
