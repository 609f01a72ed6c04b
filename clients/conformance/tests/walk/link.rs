//! A simulated network between a client and a replica: it delays each direction, and counts the calls that
//! pass.

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use tenant_auth_conformance::port;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    task::{JoinHandle, JoinSet},
    time::{Instant, sleep_until},
};

/// Length of the HTTP/2 client preface.
const PREFACE_LENGTH: usize = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len();
/// Length of an HTTP/2 frame header: three bytes of length, one of type, and five more.
const FRAME_HEAD_LENGTH: usize = 9;
/// Length of a gRPC message header. An empty message, such as a health check request, consists only of that.
const EMPTY_MESSAGE_LENGTH: usize = 5;
const DATA_FRAME: u8 = 0;

/// Dropping it closes all its connections.
pub(crate) struct DelayedLink {
    /// The address for clients.
    pub(crate) address: SocketAddr,
    calls: Arc<AtomicU64>,
    accept_task: JoinHandle<()>,
}

impl DelayedLink {
    /// Starts a link to a replica with this delay in each direction.
    pub(crate) async fn to(replica: SocketAddr, delay: Duration) -> anyhow::Result<Self> {
        let listener = TcpListener::bind(port::reserve_address()?).await?;
        let (address, calls) = (listener.local_addr()?, Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&calls);
        let accepting = tokio::spawn(async move {
            // The connections end with this task.
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                connections.spawn(serve_connection(client, replica, delay, Arc::clone(&counted)));
            }
        });
        Ok(Self { address, calls, accept_task: accepting })
    }

    /// Returns how many calls have gone to the replica, if they are not encrypted. Health checks are not
    /// counted.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }
}

impl Drop for DelayedLink {
    fn drop(&mut self) {
        self.accept_task.abort();
    }
}

async fn serve_connection(client: TcpStream, replica: SocketAddr, delay: Duration, calls: Arc<AtomicU64>) {
    let Ok(service) = TcpStream::connect(replica).await else { return };
    // Disables Nagle's algorithm for small messages. If that fails, the link is only slower.
    let _ = (client.set_nodelay(true), service.set_nodelay(true));
    let ((from_client, to_client), (from_service, to_service)) = (client.into_split(), service.into_split());
    let mut frames = FrameCounter::new();
    let count = move |bytes: &[u8]| {
        calls.fetch_add(frames.count_messages(bytes), Ordering::Relaxed);
    };
    // Each direction ends with its sender, and passes the end on.
    tokio::join!(
        forward_with_delay(from_client, to_service, delay, count),
        forward_with_delay(from_service, to_client, delay, |_: &[u8]| {})
    );
}

/// Forwards everything in one direction, each part after the delay.
async fn forward_with_delay(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    delay: Duration,
    mut look: impl FnMut(&[u8]),
) {
    let (sender, mut delayed) = mpsc::unbounded_channel::<(Instant, Bytes)>();
    let reading = async move {
        let mut buffer = BytesMut::new();
        while from.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
            let piece = buffer.split().freeze();
            look(&piece);
            if sender.send((Instant::now() + delay, piece)).is_err() {
                break;
            }
        }
    };
    let writing = async move {
        while let Some((due, piece)) = delayed.recv().await {
            sleep_until(due).await;
            if to.write_all(&piece).await.is_err() {
                return;
            }
        }
        // A receiver that has disconnected needs no shutdown.
        let _ = to.shutdown().await;
    };
    tokio::join!(reading, writing);
}

/// Finds the frames in the bytes that a client sends.
struct FrameCounter {
    /// Remaining bytes before the next frame header.
    remaining_payload: usize,
    partial_head: Vec<u8>,
}

impl FrameCounter {
    fn new() -> Self {
        Self { remaining_payload: PREFACE_LENGTH, partial_head: Vec::new() }
    }

    /// Returns how many non-empty messages start in these bytes.
    fn count_messages(&mut self, mut bytes: &[u8]) -> u64 {
        let mut messages = 0;
        loop {
            let skipped = self.remaining_payload.min(bytes.len());
            (self.remaining_payload, bytes) = (self.remaining_payload - skipped, &bytes[skipped..]);
            let taken = (FRAME_HEAD_LENGTH - self.partial_head.len()).min(bytes.len());
            self.partial_head.extend_from_slice(&bytes[..taken]);
            bytes = &bytes[taken..];
            if self.partial_head.len() < FRAME_HEAD_LENGTH {
                return messages;
            }
            let length =
                self.partial_head[..3].iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
            messages += u64::from(self.partial_head[3] == DATA_FRAME && length > EMPTY_MESSAGE_LENGTH);
            self.remaining_payload = length;
            self.partial_head.clear();
        }
    }
}
