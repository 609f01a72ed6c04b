//! Writes HTTP/2 frame by frame, to imitate peers that no library would produce.

use std::{net::SocketAddr, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// Maximum time to wait for an expected event.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// Error codes of RFC 9113.
pub(crate) const NO_ERROR: u32 = 0x0;
pub(crate) const REFUSED_STREAM: u32 = 0x7;
pub(crate) const CANCEL: u32 = 0x8;
pub(crate) const ENHANCE_YOUR_CALM: u32 = 0xb;

/// A frame or event of the service that ends a stream or the connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum PeerEnding {
    /// A stream was reset: its id and the error code.
    Reset(u32, u32),
    /// The connection is about to end, with this error code.
    GoAway(u32),
    /// The connection has ended.
    Closed,
}

/// A connection whose frames are written by hand. Frames are buffered until [`send`](Self::send), which
/// writes them all at once.
pub(crate) struct RawConnection {
    stream: TcpStream,
    unsent: Vec<u8>,
}

impl RawConnection {
    /// Connects, and queues the client preface.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::connect_with(address, &[]).await
    }

    /// Connects with closed windows, so that the server cannot send any byte of a body.
    pub(crate) async fn connect_with_closed_windows(address: SocketAddr) -> Self {
        // SETTINGS_INITIAL_WINDOW_SIZE.
        Self::connect_with(address, &[0, 4, 0, 0, 0, 0]).await
    }

    async fn connect_with(address: SocketAddr, settings: &[u8]) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut frames = Self { stream, unsent: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec() };
        frames.frame(SETTINGS, 0, 0, settings);
        frames
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        self.unsent.extend_from_slice(&length[1..]);
        self.unsent.extend_from_slice(&[kind, flags]);
        self.unsent.extend_from_slice(&stream.to_be_bytes());
        self.unsent.extend_from_slice(payload);
    }

    /// Opens a stream with an unfinished request for `path`; `empty` announces an empty body.
    pub(crate) fn open(&mut self, stream: u32, path: &str, empty: bool) {
        // :method POST and :scheme http from the static table, :path and content-length as literals.
        let mut head = vec![0x83, 0x86, 0x04, u8::try_from(path.len()).unwrap()];
        head.extend_from_slice(path.as_bytes());
        if empty {
            head.extend_from_slice(&[0x0f, 0x0d, 1, b'0']);
        }
        self.frame(HEADERS, END_HEADERS, stream, &head);
    }

    /// Sends one byte of a request's body and ends it.
    pub(crate) fn send_last_byte(&mut self, stream: u32) {
        self.frame(DATA, END_STREAM, stream, &[0]);
    }

    pub(crate) fn reset(&mut self, stream: u32) {
        self.frame(RST_STREAM, 0, stream, &CANCEL.to_be_bytes());
    }

    /// Sends all buffered frames at once.
    pub(crate) async fn send(&mut self) {
        let waiting = std::mem::take(&mut self.unsent);
        // The connection may be closed already; the frames read from it show that.
        let _ = self.stream.write_all(&waiting).await;
    }

    /// Returns the next frame or event that ends a stream or the connection.
    pub(crate) async fn next_ending(&mut self) -> PeerEnding {
        tokio::time::timeout(WAIT_TIMEOUT, self.read_next_ending())
            .await
            .expect("the service must send a frame in time")
    }

    /// Waits for the response headers on a stream. Panics if the connection ends first.
    pub(crate) async fn until_response_head(&mut self, stream: u32) {
        let answer = async {
            loop {
                let (kind, of, payload) = self.read_frame().await.expect("the connection must stay open");
                assert_ne!(kind, GOAWAY, "{payload:?}");
                if kind == HEADERS && of == stream {
                    return;
                }
            }
        };
        tokio::time::timeout(WAIT_TIMEOUT, answer).await.expect("the service must answer");
    }

    async fn read_next_ending(&mut self) -> PeerEnding {
        while let Some((kind, stream, payload)) = self.read_frame().await {
            match kind {
                RST_STREAM => return PeerEnding::Reset(stream, big_endian_u32(&payload)),
                GOAWAY => return PeerEnding::GoAway(big_endian_u32(&payload[4..8])),
                _ => {}
            }
        }
        PeerEnding::Closed
    }

    /// Reads the next frame: type, stream id and payload; `None` when the connection has ended.
    async fn read_frame(&mut self) -> Option<(u8, u32, Vec<u8>)> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await.ok()?;
        let mut payload =
            vec![0; usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2])];
        self.stream.read_exact(&mut payload).await.ok()?;
        Some((head[3], big_endian_u32(&head[5..]), payload))
    }
}

fn big_endian_u32(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().unwrap())
}
