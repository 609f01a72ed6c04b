//! What can be wrong with a call before anybody has read what it asks.

use thiserror::Error;

/// The most of what a caller has sent that is quoted to it, in characters.
const MAX_EXCERPT_CHARS: usize = 64;

/// Why a request is no gRPC call that can be read. The message says what is wrong and what to do.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MalformedRequest {
    /// Another method of HTTP.
    #[error("gRPC calls are POST requests, and this one is {0}: call with a gRPC client")]
    Method(String),
    /// Not gRPC, or not protobuf.
    #[error("the content type must be application/grpc, and {0}: call with a gRPC client")]
    ContentType(String),
    /// Compressed.
    #[error("messages compressed with {0:?} are not supported: send them without compression")]
    Encoding(String),
    /// The flag says compressed, and nothing says how.
    #[error(
        "a message is marked as compressed, and there is no grpc-encoding that says how: send it without compression"
    )]
    CompressedWithoutEncoding,
    /// A flag that does not exist.
    #[error(
        "a message begins with the flag {0}, where 0 must be: put the flag 0 and the length in 4 bytes before each message"
    )]
    InvalidFlag(u8),
    /// Longer than it may be.
    #[error("a message has {len} bytes and may have at most {limit}: send less at once")]
    TooLarge {
        /// Its length, in bytes, as its head has it.
        len: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The body ended in the middle of a message.
    #[error("the request ended after {have} of the {len} bytes of its message: send the whole of it")]
    Truncated {
        /// How many bytes came.
        have: usize,
        /// How many its head announced.
        len: usize,
    },
    /// The body ended in the middle of the head of a message.
    #[error(
        "the request ended after {have} of the 5 bytes before a message: put the flag 0 and the length in 4 bytes before it"
    )]
    TruncatedHeader {
        /// How many bytes came.
        have: usize,
    },
    /// There is none.
    #[error("the request has no message: send one, even if it is empty (5 bytes of 0)")]
    MissingMessage,
    /// There are two where one is asked for.
    #[error("the request has more than one message: send one")]
    ExtraMessage,
    /// It is no protobuf of the type that the RPC takes.
    #[error("the message cannot be read as the contract has it, so send what its .proto files describe: {0}")]
    UndecodableMessage(String),
    /// The connection or the stream ended before the request did.
    #[error("the request broke off before its end")]
    Interrupted,
}

impl MalformedRequest {
    /// The beginning of what a caller has sent, fit to be shown.
    #[must_use]
    pub fn escaped_excerpt(bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes);
        let mut quoted: String = text.chars().take(MAX_EXCERPT_CHARS).flat_map(char::escape_debug).collect();
        if text.chars().nth(MAX_EXCERPT_CHARS).is_some() {
            quoted.push('…');
        }
        quoted
    }
}
