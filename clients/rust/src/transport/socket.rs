//! A socket that counts received bytes and can be aborted.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use futures::task::AtomicWaker;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::watch,
};

/// Activity of a connection, observed at the socket: HTTP/2 itself does not report when the peer last sent
/// data.
#[derive(Debug)]
pub(super) struct SocketActivity {
    received: AtomicU64,
    is_aborted: AtomicBool,
    reader_waker: AtomicWaker,
    has_received: watch::Sender<bool>,
    is_unusable: watch::Sender<bool>,
}

impl SocketActivity {
    pub(super) fn new() -> Self {
        Self {
            received: AtomicU64::new(0),
            is_aborted: AtomicBool::new(false),
            reader_waker: AtomicWaker::new(),
            has_received: watch::Sender::new(false),
            is_unusable: watch::Sender::new(false),
        }
    }

    /// Waits until the first byte has arrived.
    pub(super) async fn first_byte(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.has_received.subscribe().wait_for(|has_received| *has_received).await;
    }

    /// Returns the number of received bytes.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Acquire)
    }

    /// Aborts the connection with all its calls and streams.
    pub(super) fn abort(&self) {
        self.is_aborted.store(true, Ordering::Release);
        self.mark_unusable();
        self.reader_waker.wake();
    }

    /// Marks the connection as unusable for new calls; calls in flight may continue.
    pub(super) fn mark_unusable(&self) {
        self.is_unusable.send_replace(true);
    }

    /// Waits until the connection is unusable.
    pub(super) async fn unusable(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.is_unusable.subscribe().wait_for(|is_unusable| *is_unusable).await;
    }

    fn check_aborted(&self) -> io::Result<()> {
        if self.is_aborted.load(Ordering::Acquire) {
            return Err(io::Error::new(
                io::ErrorKind::ConnectionReset,
                "the replica did not respond to a ping",
            ));
        }
        Ok(())
    }
}

/// A socket with its [`SocketActivity`], which is marked unusable when the socket is dropped.
#[derive(Debug)]
pub(super) struct Socket<S> {
    inner: S,
    activity: Arc<SocketActivity>,
}

impl<S> Socket<S> {
    pub(super) fn new(inner: S, activity: Arc<SocketActivity>) -> Self {
        Self { inner, activity }
    }
}

impl<S> Drop for Socket<S> {
    fn drop(&mut self) {
        self.activity.mark_unusable();
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Socket<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        // In this order: otherwise an abort between the two would wake no task.
        self.activity.reader_waker.register(cx.waker());
        self.activity.check_aborted()?;
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.inner).poll_read(cx, buffer);
        let received = buffer.filled().len() - before;
        if received > 0 {
            let before = self.activity.received.fetch_add(received as u64, Ordering::AcqRel);
            if before == 0 {
                self.activity.has_received.send_replace(true);
            }
        }
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Socket<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.activity.check_aborted()?;
        Pin::new(&mut self.inner).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.activity.check_aborted()?;
        Pin::new(&mut self.inner).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.activity.check_aborted()?;
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn abort_ends_a_pending_read() {
        let (near, mut far) = tokio::io::duplex(64);
        let activity = Arc::new(SocketActivity::new());
        let mut socket = Socket::new(near, Arc::clone(&activity));
        far.write_all(b"abc").await.unwrap();
        let mut buffer = [0; 3];
        socket.read_exact(&mut buffer).await.unwrap();
        assert_eq!(activity.received(), 3);
        activity.first_byte().await;
        let reading = tokio::spawn(async move { socket.read_u8().await });
        tokio::task::yield_now().await;
        activity.abort();
        assert_eq!(reading.await.unwrap().unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        activity.unusable().await;
    }
}
