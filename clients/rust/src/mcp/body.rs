//! Reads the body of a request, or notes what passes through.

use std::{
    error::Error as StdError,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use pin_project_lite::pin_project;

use super::rejection::McpRejection;

pub(super) type BoxError = Box<dyn StdError + Send + Sync>;

/// Reads a whole body of at most `limit` bytes.
pub(super) async fn read<B>(body: B, limit: usize) -> Result<Bytes, McpRejection>
where
    B: Body<Data = Bytes>,
    B::Error: Into<BoxError>,
{
    if body.size_hint().lower() > limit as u64 {
        return Err(McpRejection::TooLarge { limit });
    }
    match Limited::new(body, limit).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(McpRejection::TooLarge { limit }),
        Err(_) => Err(McpRejection::Unreadable),
    }
}

/// What has passed through a [`NotedBody`], up to a limit. The bytes are shared, not copied.
#[derive(Clone, Debug, Default)]
pub(super) struct Notes(Arc<Mutex<Vec<Bytes>>>);

impl Notes {
    /// Returns the bytes so far.
    pub(super) fn read(&self) -> Bytes {
        let chunks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        chunks
            .iter()
            .fold(BytesMut::new(), |mut all, chunk| {
                all.extend_from_slice(chunk);
                all
            })
            .freeze()
    }
}

pin_project! {
    /// The body of a request that a [`McpLayer`](crate::McpLayer) passes on: as it arrives, or as the layer has read it.
    #[derive(Debug)]
    pub struct McpRequestBody<B> {
        #[pin]
        inner: Inner<B>,
    }
}

pin_project! {
    #[derive(Debug)]
    #[project = InnerProjection]
    enum Inner<B> {
        // Not read by the layer. It only notes what passes, because a response that ends early must name the id of the
        // request.
        Noted {
            #[pin]
            source: B,
            notes: Option<Notes>,
            remaining: usize,
        },
        Read {
            bytes: Option<Bytes>,
        },
    }
}

impl<B> McpRequestBody<B> {
    pub(super) fn noted(source: B, notes: Option<Notes>, limit: usize) -> Self {
        Self { inner: Inner::Noted { source, notes, remaining: limit } }
    }

    pub(super) fn read(bytes: Bytes) -> Self {
        Self { inner: Inner::Read { bytes: Some(bytes).filter(|bytes| !bytes.is_empty()) } }
    }
}

impl<B: Body<Data = Bytes>> Body for McpRequestBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().inner.project() {
            InnerProjection::Read { bytes } => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            InnerProjection::Noted { source, notes, remaining } => {
                let frame = ready!(source.poll_frame(cx));
                if let Some(Ok(frame)) = &frame
                    && let Some(data) = frame.data_ref()
                {
                    note(notes, remaining, data);
                }
                Poll::Ready(frame)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.inner {
            Inner::Read { bytes } => bytes.is_none(),
            Inner::Noted { source, .. } => source.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.inner {
            Inner::Read { bytes } => SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64),
            Inner::Noted { source, .. } => source.size_hint(),
        }
    }
}

/// Notes a chunk; beyond the limit, everything is forgotten.
fn note(notes: &mut Option<Notes>, remaining: &mut usize, data: &Bytes) {
    let Some(noted) = notes else { return };
    let mut chunks = noted.0.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(left) = remaining.checked_sub(data.len()) {
        *remaining = left;
        chunks.push(data.clone());
    } else {
        chunks.clear();
        drop(chunks);
        *notes = None;
    }
}
