//! The body of a response: the bytes of a cache hit, or the response of the middleware stack.

use std::{
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

/// Maximum size of a part of a message that is split, in bytes. A frame of 256 bytes or more ends the write buffer of h2
/// (`CHAIN_THRESHOLD`, h2 0.4), so that each response costs a system call; smaller ones of all responses of a connection are written
/// together.
const MAX_PART: usize = 255;
/// Maximum size of a message that is split, in bytes. The frames of a larger one would cost as much as the call.
const MAX_SPLIT: usize = 2_048;

pin_project! {
    /// The body of a response.
    pub struct FastPathBody<B> {
        #[pin]
        source: BodySource<B>,
    }
}

pin_project! {
    #[project = BodySourceProjection]
    enum BodySource<B> {
        // The rest of the message, then the trailers with status OK.
        Cached { rest: Option<Bytes>, is_over: bool },
        Inner { #[pin] body: B },
    }
}

impl<B: Body<Data = Bytes>> Body for FastPathBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().source.project() {
            BodySourceProjection::Inner { body } => body.poll_frame(cx),
            BodySourceProjection::Cached { rest, is_over } => match (next_part(rest), *is_over) {
                (Some(part), _) => Poll::Ready(Some(Ok(Frame::data(part)))),
                (None, false) => {
                    *is_over = true;
                    let mut trailers = HeaderMap::with_capacity(1);
                    trailers.insert("grpc-status", HeaderValue::from_static("0"));
                    Poll::Ready(Some(Ok(Frame::trailers(trailers))))
                }
                (None, true) => Poll::Ready(None),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            BodySource::Inner { body } => body.is_end_stream(),
            BodySource::Cached { is_over, .. } => *is_over,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            BodySource::Inner { body } => body.size_hint(),
            BodySource::Cached { .. } => SizeHint::default(),
        }
    }
}

impl<B> FastPathBody<B> {
    /// A message as a gRPC frame, with status OK.
    pub(super) fn cached(frame: Bytes) -> Self {
        Self { source: BodySource::Cached { rest: Some(frame), is_over: false } }
    }

    /// The body of another service.
    pub(super) fn inner(body: B) -> Self {
        Self { source: BodySource::Inner { body } }
    }
}

/// Takes the next part of a message.
fn next_part(rest: &mut Option<Bytes>) -> Option<Bytes> {
    match rest {
        Some(message) if (MAX_PART + 1..=MAX_SPLIT).contains(&message.len()) => {
            Some(message.split_to(MAX_PART))
        }
        _ => rest.take(),
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::{BodyExt as _, Empty};

    use super::*;

    #[tokio::test]
    async fn message_of_medium_size_is_sent_in_parts_that_are_written_together() {
        for (size, parts) in [
            (5, vec![5]),
            (255, vec![255]),
            (256, vec![255, 1]),
            (600, vec![255, 255, 90]),
            (2_049, vec![2_049]),
        ] {
            let message: Vec<u8> = (0..=u8::MAX).cycle().take(size).collect();
            let mut body = FastPathBody::<Empty<Bytes>>::cached(message.clone().into());
            let (mut sizes, mut received) = (Vec::new(), Vec::new());
            while let Some(frame) = body.frame().await {
                match frame.unwrap().into_data() {
                    Ok(part) => {
                        sizes.push(part.len());
                        received.extend_from_slice(&part);
                    }
                    Err(frame) => assert_eq!(frame.into_trailers().unwrap()["grpc-status"], "0"),
                }
            }
            assert_eq!((sizes, received), (parts, message));
            assert!(body.is_end_stream());
        }
    }
}
