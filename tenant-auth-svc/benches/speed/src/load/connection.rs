//! One HTTP/2 connection without tasks or wakers, and without copies besides those of the socket.

use std::{
    io::{ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};

use super::{header_check::HeaderChecker, wire};

/// Maximum time to wait for the server's settings.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// A WINDOW_UPDATE is sent after this many received bytes.
const WINDOW_UPDATE_THRESHOLD: u32 = 1 << 24;
/// Receive window, of one stream and of the connection.
const RECEIVE_WINDOW: u32 = 1 << 30;

/// A connection to a server.
pub(super) struct Connection {
    socket: TcpStream,
    output: Vec<u8>,
    input: Vec<u8>,
    /// The send windows that the server allows: of the connection, and of a new stream.
    window: i64,
    initial_window: i64,
    /// The stream that stays open, if there is one, and its send window.
    open_stream: Option<(u32, i64)>,
    /// Bytes of `RECEIVE_WINDOW` that the server has used.
    received: u32,
    next_stream: u32,
    /// The header block of every request but the first.
    header_block: Vec<u8>,
    first_header_block: Option<Vec<u8>>,
    header_checker: HeaderChecker,
}

/// A received event.
pub(super) enum Event<'a> {
    /// A part of a response body.
    Data(u32, &'a [u8]),
    /// The end of a successful response.
    End(u32),
}

impl Connection {
    /// Connects, and waits for the server's settings.
    ///
    /// # Errors
    /// Fails if no server listens, or it does not speak HTTP/2.
    pub(super) fn open(address: SocketAddr, path: &str) -> anyhow::Result<Self> {
        let socket = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        socket.set_nodelay(true)?;
        socket.set_nonblocking(true)?;
        let (first_head, head) = header_blocks(&address.to_string(), path);
        let mut this = Self {
            socket,
            output: wire::PREFACE.to_vec(),
            input: Vec::new(),
            window: wire::DEFAULT_WINDOW,
            initial_window: 0,
            open_stream: None,
            received: 0,
            next_stream: 1,
            header_block: head,
            first_header_block: Some(first_head),
            header_checker: HeaderChecker::default(),
        };
        let mut ours = Vec::new();
        for (name, value) in [(wire::ENABLE_PUSH, 0), (wire::INITIAL_WINDOW, RECEIVE_WINDOW)] {
            ours.extend(name.to_be_bytes());
            ours.extend(u32::to_be_bytes(value));
        }
        wire::put_frame(&mut this.output, wire::SETTINGS, 0, 0, &ours);
        wire::put_frame(&mut this.output, wire::WINDOW_UPDATE, 0, 0, &RECEIVE_WINDOW.to_be_bytes());
        let begun = Instant::now();
        while this.initial_window == 0 {
            this.flush()?;
            this.poll(|_| Ok(()))?;
            ensure!(begun.elapsed() < HANDSHAKE_TIMEOUT, "{address} does not speak HTTP/2");
        }
        Ok(this)
    }

    /// Sends a request, if the send windows allow it now. Returns its stream.
    pub(super) fn send_request(&mut self, body: &[u8]) -> Option<u32> {
        let len = body.len() as i64;
        if self.window < len || self.initial_window < len {
            return None;
        }
        let stream = self.start_stream();
        self.window -= len;
        let mut pieces = body.chunks(wire::MAX_PAYLOAD_BYTES).peekable();
        while let Some(piece) = pieces.next() {
            let flags = if pieces.peek().is_none() { wire::END_STREAM } else { 0 };
            wire::put_frame(&mut self.output, wire::DATA, flags, stream, piece);
        }
        Some(stream)
    }

    /// Starts a request that stays open.
    pub(super) fn open_stream(&mut self) {
        let stream = self.start_stream();
        self.open_stream = Some((stream, self.initial_window));
    }

    /// Sends a message on the open request, if the send windows allow it now.
    pub(super) fn send_message(&mut self, body: &[u8]) -> bool {
        let len = body.len() as i64;
        let Some((stream, window)) = self.open_stream.as_mut().filter(|(_, window)| *window >= len) else {
            return false;
        };
        if self.window < len {
            return false;
        }
        *window -= len;
        self.window -= len;
        for piece in body.chunks(wire::MAX_PAYLOAD_BYTES) {
            wire::put_frame(&mut self.output, wire::DATA, 0, *stream, piece);
        }
        true
    }

    /// Ends the open request.
    pub(super) fn finish_stream(&mut self) {
        if let Some((stream, _)) = self.open_stream.take() {
            wire::put_frame(&mut self.output, wire::DATA, wire::END_STREAM, stream, &[]);
        }
    }

    fn start_stream(&mut self) -> u32 {
        let stream = self.next_stream;
        self.next_stream += 2;
        let first = self.first_header_block.take();
        let head = first.as_ref().unwrap_or(&self.header_block);
        wire::put_frame(&mut self.output, wire::HEADERS, wire::END_HEADERS, stream, head);
        stream
    }

    /// Writes the buffered bytes, as far as the socket accepts them.
    pub(super) fn flush(&mut self) -> anyhow::Result<()> {
        let mut written = 0;
        while let Some(rest) = self.output.get(written..).filter(|rest| !rest.is_empty()) {
            match self.socket.write(rest) {
                Ok(count) => written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.output.drain(..written);
        Ok(())
    }

    /// Processes the received frames, without blocking.
    ///
    /// # Errors
    /// Fails if the connection breaks, or a response is not successful.
    pub(super) fn poll(&mut self, mut on: impl FnMut(Event<'_>) -> anyhow::Result<()>) -> anyhow::Result<()> {
        let held = self.input.len();
        self.input.resize(held + (1 << 16), 0);
        let space = self.input.get_mut(held..).unwrap_or_default();
        let count = match self.socket.read(space) {
            Ok(0) => bail!("the server has closed the connection"),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error.into()),
        };
        self.input.truncate(held + count);
        if count == 0 {
            return Ok(());
        }
        let input = std::mem::take(&mut self.input);
        let mut rest = &input[..];
        while let Some((head, after)) = rest.split_first_chunk::<{ wire::FRAME_HEADER_BYTES }>() {
            let head = wire::FrameHeader::parse(*head);
            let Some((payload, after)) = after.split_at_checked(head.len) else { break };
            self.handle_frame(head, payload, &mut on)?;
            rest = after;
        }
        let done = input.len() - rest.len();
        self.input = input;
        self.input.drain(..done);
        Ok(())
    }

    fn handle_frame(
        &mut self,
        head: wire::FrameHeader,
        payload: &[u8],
        on: &mut impl FnMut(Event<'_>) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        ensure!(head.is_plain(), "a padded frame");
        match head.kind {
            wire::DATA => {
                self.received += u32::try_from(payload.len())?;
                if self.received >= WINDOW_UPDATE_THRESHOLD {
                    wire::put_frame(
                        &mut self.output,
                        wire::WINDOW_UPDATE,
                        0,
                        0,
                        &self.received.to_be_bytes(),
                    );
                    // Only the stream that stays open can receive that many bytes.
                    if let Some((stream, _)) = self.open_stream {
                        wire::put_frame(
                            &mut self.output,
                            wire::WINDOW_UPDATE,
                            0,
                            stream,
                            &self.received.to_be_bytes(),
                        );
                    }
                    self.received = 0;
                }
                on(Event::Data(head.stream, payload))?;
                ensure!(!head.has(wire::END_STREAM), "a response ended without a status");
            }
            wire::HEADERS => {
                ensure!(head.has(wire::END_HEADERS), "a header block split over several frames");
                let ends = head.has(wire::END_STREAM);
                self.header_checker.check(payload, ends)?;
                if ends {
                    on(Event::End(head.stream))?;
                }
            }
            wire::SETTINGS if !head.has(wire::ACK) => {
                self.initial_window =
                    if self.initial_window == 0 { wire::DEFAULT_WINDOW } else { self.initial_window };
                for (name, value) in wire::parse_settings(payload)? {
                    if name == wire::INITIAL_WINDOW {
                        self.initial_window = i64::from(value);
                    }
                }
                wire::put_frame(&mut self.output, wire::SETTINGS, wire::ACK, 0, &[]);
            }
            wire::PING if !head.has(wire::ACK) => {
                wire::put_frame(&mut self.output, wire::PING, wire::ACK, 0, payload)
            }
            wire::WINDOW_UPDATE => {
                let more = i64::from(wire::read_u32(payload, 0)?);
                match &mut self.open_stream {
                    Some((stream, window)) if *stream == head.stream => *window += more,
                    _ if head.stream == 0 => self.window += more,
                    // A stream whose request was sent completely.
                    _ => {}
                }
            }
            wire::RST_STREAM => bail!("a request was reset: error {}", wire::read_u32(payload, 0)?),
            wire::GOAWAY => bail!("the server sent GOAWAY: error {}", wire::read_u32(payload, 4)?),
            wire::CONTINUATION => bail!("a header block split over several frames"),
            _ => {}
        }
        Ok(())
    }
}

/// Returns the header block of a connection's first request, which fills the server's table (RFC 7541), and
/// the block of all others, which refers to the table. gRPC clients do the same.
fn header_blocks(authority: &str, path: &str) -> (Vec<u8>, Vec<u8>) {
    const POST: u8 = 0x83;
    const HTTP: u8 = 0x86;
    let text = |block: &mut Vec<u8>, text: &str| {
        // All of them are shorter than 127 bytes.
        block.push(u8::try_from(text.len()).unwrap_or(u8::MAX));
        block.extend(text.bytes());
    };
    let mut first = vec![POST, HTTP];
    // Literals with indexing; the names of the first three are in the static table, at 4, 1 and 31.
    for (name, value) in [(4, path), (1, authority), (31, "application/grpc")] {
        first.push(0x40 | name);
        text(&mut first, value);
    }
    first.push(0x40);
    text(&mut first, "te");
    text(&mut first, "trailers");
    // The newest entry has number 62.
    let later = vec![POST, HTTP, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62];
    (first, later)
}
