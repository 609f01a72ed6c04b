//! Errors of a call that are found before its message is parsed.

use thiserror::Error;

/// The maximum length of an excerpt of the caller's input, in characters.
const MAX_EXCERPT_CHARS: usize = 64;

/// The reason why a request is not a readable gRPC call. The message states the error and the remedy.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum MalformedRequest {
    /// The HTTP method is not POST.
    #[error("invalid HTTP method {0}: gRPC calls are POST requests; use a gRPC client")]
    Method(String),
    /// The content type is not gRPC with protobuf, or missing.
    #[error("the content type must be application/grpc, but {0}: use a gRPC client")]
    ContentType(String),
    /// The messages are compressed.
    #[error("messages compressed with {0:?} are not supported: send them without compression")]
    Encoding(String),
    /// A message has the compression flag, and the request has no `grpc-encoding`.
    #[error(
        "a message is marked as compressed, but the request has no grpc-encoding: send it without compression"
    )]
    CompressedWithoutEncoding,
    /// The compression flag is neither 0 nor 1.
    #[error("invalid compression flag {0}: put the flag 0 and the length in 4 bytes before each message")]
    InvalidFlag(u8),
    /// A message exceeds the size limit.
    #[error("message too large: {len} bytes, at most {limit} are allowed; split the request")]
    TooLarge {
        /// The length in the message header, in bytes.
        len: usize,
        /// The limit, in bytes.
        limit: usize,
    },
    /// The body ended within a message.
    #[error("truncated message: the request ended after {have} of {len} bytes; send the whole message")]
    Truncated {
        /// The number of bytes received.
        have: usize,
        /// The length in the message header, in bytes.
        len: usize,
    },
    /// The body ended within the header of a message.
    #[error(
        "truncated message header: the request ended after {have} of 5 bytes; put the flag 0 and the length in 4 bytes before each message"
    )]
    TruncatedHeader {
        /// The number of bytes received.
        have: usize,
    },
    /// The body has no message.
    #[error("the request has no message: send one; an empty message is 5 bytes of 0")]
    MissingMessage,
    /// A unary call has more than one message.
    #[error("the request has more than one message: send one")]
    ExtraMessage,
    /// The message is not valid protobuf of the request type.
    #[error("the message cannot be decoded as the request type of this RPC: {0}; see the .proto files")]
    UndecodableMessage(String),
    /// The connection or the stream ended before the request was complete.
    #[error("the request ended before it was complete")]
    Interrupted,
}

impl MalformedRequest {
    /// Returns the beginning of the caller's input, with control and invisible characters escaped.
    #[must_use]
    pub fn escaped_excerpt(bytes: &[u8]) -> String {
        let text = String::from_utf8_lossy(bytes);
        let mut excerpt: String = text.chars().take(MAX_EXCERPT_CHARS).flat_map(char::escape_debug).collect();
        if text.chars().nth(MAX_EXCERPT_CHARS).is_some() {
            excerpt.push('…');
        }
        excerpt
    }
}
