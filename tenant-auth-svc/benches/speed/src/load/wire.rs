//! HTTP/2 frames, as far as the load generator needs them (RFC 9113, sections 4 and 6).

use anyhow::{Context as _, ensure};

/// The client connection preface.
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Length, type, flags, stream.
pub(super) const FRAME_HEADER_BYTES: usize = 9;
/// Maximum payload that every peer must accept.
pub(super) const MAX_PAYLOAD_BYTES: usize = 16_384;
/// Initial send window, of a stream and of a connection.
pub(super) const DEFAULT_WINDOW: i64 = 65_535;

pub(super) const DATA: u8 = 0;
pub(super) const HEADERS: u8 = 1;
pub(super) const RST_STREAM: u8 = 3;
pub(super) const SETTINGS: u8 = 4;
pub(super) const PING: u8 = 6;
pub(super) const GOAWAY: u8 = 7;
pub(super) const WINDOW_UPDATE: u8 = 8;
pub(super) const CONTINUATION: u8 = 9;

pub(super) const ACK: u8 = 1;
pub(super) const END_STREAM: u8 = 1;
pub(super) const END_HEADERS: u8 = 4;
const PADDED: u8 = 8;
const PRIORITY: u8 = 32;

pub(super) const ENABLE_PUSH: u16 = 2;
pub(super) const INITIAL_WINDOW: u16 = 4;

/// A frame header.
#[derive(Clone, Copy, Debug)]
pub(super) struct FrameHeader {
    pub(super) len: usize,
    pub(super) kind: u8,
    pub(super) flags: u8,
    pub(super) stream: u32,
}

impl FrameHeader {
    pub(super) fn parse(bytes: [u8; FRAME_HEADER_BYTES]) -> Self {
        let [a, b, c, kind, flags, stream @ ..] = bytes;
        let len = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        Self { len, kind, flags, stream: u32::from_be_bytes(stream) & 0x7fff_ffff }
    }

    pub(super) fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Returns whether a frame has neither padding nor priority. None of the measured servers sends others.
    pub(super) fn is_plain(&self) -> bool {
        !(matches!(self.kind, DATA | HEADERS) && self.has(PADDED)
            || self.kind == HEADERS && self.has(PRIORITY))
    }
}

/// Appends a frame.
pub(super) fn put_frame(out: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    // Payloads are split beforehand.
    let [_, len @ ..] = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_be_bytes();
    out.extend(len);
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
}

/// Reads four bytes of a payload as a number.
pub(super) fn read_u32(payload: &[u8], at: usize) -> anyhow::Result<u32> {
    let bytes = payload.get(at..).and_then(|rest| rest.first_chunk()).context("a frame is too short")?;
    Ok(u32::from_be_bytes(*bytes))
}

/// Parses the settings in a payload.
pub(super) fn parse_settings(payload: &[u8]) -> anyhow::Result<impl Iterator<Item = (u16, u32)>> {
    let (settings, rest) = payload.as_chunks::<6>();
    ensure!(rest.is_empty(), "a SETTINGS frame of invalid length");
    Ok(settings.iter().map(|[a, b, value @ ..]| (u16::from_be_bytes([*a, *b]), u32::from_be_bytes(*value))))
}
