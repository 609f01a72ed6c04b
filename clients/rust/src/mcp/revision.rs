//! The revision of the protocol that a request uses.

use http::{HeaderMap, HeaderName};

pub(super) const VERSION_HEADER: HeaderName = HeaderName::from_static("mcp-protocol-version");

/// The revisions with a handshake, sessions, and GET streams.
const HANDSHAKE_REVISIONS: [&str; 4] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"];

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Revision {
    Handshake,
    /// 2026-07-28, every later one, and every unknown value, which is contained.
    Stateless(Vec<u8>),
}

/// The revision is named more than once.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Repeated;

impl Revision {
    /// Reads the revision. Without the header, it is 2025-03-26, as the specification says.
    pub(super) fn read(headers: &HeaderMap) -> Result<Self, Repeated> {
        let mut values = headers.get_all(VERSION_HEADER).iter();
        match (values.next(), values.next()) {
            (_, Some(_)) => Err(Repeated),
            (None, None) => Ok(Self::Handshake),
            (Some(value), None) if HANDSHAKE_REVISIONS.iter().any(|known| value == known) => {
                Ok(Self::Handshake)
            }
            (Some(value), None) => Ok(Self::Stateless(value.as_bytes().to_vec())),
        }
    }
}
