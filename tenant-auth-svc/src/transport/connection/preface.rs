//! Detects whether the peer has sent the HTTP/2 preface.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, ready},
};

use pin_project_lite::pin_project;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The length of the HTTP/2 client preface, in bytes.
pub(super) const PREFACE_LEN: usize = 24;

pin_project! {
    /// A stream that counts the bytes read, up to the length of the preface.
    pub(super) struct PrefaceCounter<Io> {
        #[pin]
        io: Io,
        shared_count: Arc<AtomicUsize>,
        bytes_read: usize,
    }
}

impl<Io> PrefaceCounter<Io> {
    pub(super) fn new(io: Io, shared_count: Arc<AtomicUsize>) -> Self {
        Self { io, shared_count, bytes_read: 0 }
    }
}

impl<Io: AsyncRead> AsyncRead for PrefaceCounter<Io> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.project();
        let before = buf.filled().len();
        ready!(this.io.poll_read(cx, buf))?;
        if *this.bytes_read < PREFACE_LEN {
            *this.bytes_read += buf.filled().len() - before;
            this.shared_count.store(*this.bytes_read, Ordering::Relaxed);
        }
        Poll::Ready(Ok(()))
    }
}

impl<Io: AsyncWrite> AsyncWrite for PrefaceCounter<Io> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.project().io.poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.project().io.poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.project().io.poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}
