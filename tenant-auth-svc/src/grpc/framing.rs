//! Checks the messages in the body of a call as they arrive: the header of each, its length, and that it
//! arrives completely.
//!
//! The gRPC library would report most of these errors as INTERNAL, as if they were faults of the service.

use prost::{DecodeError, Message as _};
use tonic_reflection::pb::{v1, v1alpha};

use super::error::MalformedRequest;

/// The maximum message size of RPCs with a single key, in bytes.
const MAX_SINGLE_MESSAGE_BYTES: usize = 64 * 1024;
/// The maximum message size of RPCs that accept many items, in bytes.
const MAX_BATCH_MESSAGE_BYTES: usize = 1024 * 1024;

/// The header of a message: one byte for the compression flag and four for the length.
const MESSAGE_HEADER_LEN: usize = 5;

/// The rules for the messages of one RPC.
#[derive(Clone, Copy, Debug)]
pub struct FramingRules {
    max_message_len: usize,
    allows_many_messages: bool,
    check: Option<MessageCheck>,
}

/// Decodes a message only to check it.
type MessageCheck = fn(&[u8]) -> Result<(), DecodeError>;

impl FramingRules {
    /// Returns the rules of the RPC at a path.
    #[must_use]
    pub fn for_path(path: &str) -> Self {
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
        let largest = match service {
            "tenantauth.v1.ValidationService"
            | "tenantauth.v1.AdminService"
            | "tenantauth.v1.LimitService"
            | "tenantauth.v1.UsageService" => MAX_BATCH_MESSAGE_BYTES,
            _ => MAX_SINGLE_MESSAGE_BYTES,
        };
        // The reflection handler is a library's, and treats an undecodable message as the end of the stream.
        let check: Option<MessageCheck> = match service {
            "grpc.reflection.v1.ServerReflection" => {
                Some(|message| v1::ServerReflectionRequest::decode(message).map(drop))
            }
            "grpc.reflection.v1alpha.ServerReflection" => {
                Some(|message| v1alpha::ServerReflectionRequest::decode(message).map(drop))
            }
            _ => None,
        };
        let many = matches!(method, "StreamValidateKeys" | "StreamConsume" | "ServerReflectionInfo");
        Self { max_message_len: largest, allows_many_messages: many, check }
    }
}

/// The state of the messages of one call.
#[derive(Debug)]
pub struct Framing {
    rules: FramingRules,
    header: [u8; MESSAGE_HEADER_LEN],
    /// The number of bytes of the next message's header that have arrived. If it is the whole header, bytes
    /// of the message itself are missing.
    header_filled: usize,
    /// The number of missing bytes of the current message.
    message_remaining: usize,
    message_len: usize,
    has_started: bool,
    /// The current message, if it is checked.
    message: Vec<u8>,
    /// Messages that have arrived whole since they were last taken.
    complete: u32,
}

impl Framing {
    /// Creates the state of a call of which nothing has arrived.
    #[must_use]
    pub fn new(rules: FramingRules) -> Self {
        Self {
            rules,
            header: [0; MESSAGE_HEADER_LEN],
            header_filled: 0,
            message_remaining: 0,
            message_len: 0,
            has_started: false,
            message: Vec::new(),
            complete: 0,
        }
    }

    /// Takes the number of messages completed since the last call.
    pub fn take_complete(&mut self) -> u32 {
        std::mem::take(&mut self.complete)
    }

    /// Checks the next bytes.
    ///
    /// # Errors
    /// The first error in the bytes.
    pub fn feed(&mut self, mut data: &[u8]) -> Result<(), MalformedRequest> {
        while let Some((byte, rest)) = data.split_first() {
            if self.header_filled == MESSAGE_HEADER_LEN {
                let (piece, rest) = data.split_at(data.len().min(self.message_remaining));
                self.message_remaining -= piece.len();
                if self.rules.check.is_some() {
                    self.message.extend_from_slice(piece);
                }
                data = rest;
            } else {
                if self.header_filled == 0 {
                    self.start_message(*byte)?;
                }
                self.header[self.header_filled] = *byte;
                self.header_filled += 1;
                data = rest;
                if self.header_filled == MESSAGE_HEADER_LEN {
                    self.read_message_len()?;
                }
            }
            if self.header_filled == MESSAGE_HEADER_LEN && self.message_remaining == 0 {
                self.header_filled = 0;
                self.check_message()?;
                self.complete = self.complete.saturating_add(1);
            }
        }
        Ok(())
    }

    /// Checks that the body may end here.
    ///
    /// # Errors
    /// If something is missing.
    pub fn finish(&self) -> Result<(), MalformedRequest> {
        match self.header_filled {
            0 if self.has_started || self.rules.allows_many_messages => Ok(()),
            0 => Err(MalformedRequest::MissingMessage),
            MESSAGE_HEADER_LEN => Err(MalformedRequest::Truncated {
                have: self.message_len - self.message_remaining,
                len: self.message_len,
            }),
            have => Err(MalformedRequest::TruncatedHeader { have }),
        }
    }

    fn start_message(&mut self, flag: u8) -> Result<(), MalformedRequest> {
        match flag {
            0 if self.has_started && !self.rules.allows_many_messages => Err(MalformedRequest::ExtraMessage),
            0 => {
                self.has_started = true;
                Ok(())
            }
            // A request with `grpc-encoding` was refused because of that header.
            1 => Err(MalformedRequest::CompressedWithoutEncoding),
            flag => Err(MalformedRequest::InvalidFlag(flag)),
        }
    }

    fn read_message_len(&mut self) -> Result<(), MalformedRequest> {
        let [_, len @ ..] = self.header;
        self.message_len = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
        let limit = self.rules.max_message_len;
        if self.message_len > limit {
            return Err(MalformedRequest::TooLarge { len: self.message_len, limit });
        }
        self.message_remaining = self.message_len;
        Ok(())
    }

    fn check_message(&mut self) -> Result<(), MalformedRequest> {
        let Some(check) = self.rules.check else { return Ok(()) };
        check(&std::mem::take(&mut self.message))
            .map_err(|error| MalformedRequest::UndecodableMessage(error.to_string()))
    }
}

/// Counts the messages of a response as their bytes leave.
#[derive(Debug, Default)]
pub struct MessageCounter {
    header: [u8; MESSAGE_HEADER_LEN],
    header_filled: usize,
    message_remaining: usize,
}

impl MessageCounter {
    /// How many messages end in what leaves now.
    pub fn feed(&mut self, mut data: &[u8]) -> u64 {
        let mut complete = 0;
        while !data.is_empty() {
            if self.header_filled < MESSAGE_HEADER_LEN {
                let (head, rest) = data.split_at(data.len().min(MESSAGE_HEADER_LEN - self.header_filled));
                self.header[self.header_filled..self.header_filled + head.len()].copy_from_slice(head);
                self.header_filled += head.len();
                data = rest;
                if self.header_filled < MESSAGE_HEADER_LEN {
                    break;
                }
                let [_, len @ ..] = self.header;
                self.message_remaining = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
            }
            let piece = data.len().min(self.message_remaining);
            self.message_remaining -= piece;
            data = &data[piece..];
            if self.message_remaining == 0 {
                complete += 1;
                self.header_filled = 0;
            }
        }
        complete
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const UNARY_PATH: &str = "/tenantauth.v1.SessionService/BindSession";
    const STREAM_PATH: &str = "/tenantauth.v1.ValidationService/StreamValidateKeys";
    const CONSUME_STREAM_PATH: &str = "/tenantauth.v1.LimitService/StreamConsume";
    const REFLECTION_PATH: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

    /// Checks a body, and that the result does not depend on how the body is split into chunks.
    fn check_in_chunks(path: &str, body: &[u8]) -> Result<(), MalformedRequest> {
        let check_with_chunks_of = |piece: usize| {
            let mut framing = Framing::new(FramingRules::for_path(path));
            body.chunks(piece).try_for_each(|piece| framing.feed(piece)).and_then(|()| framing.finish())
        };
        let result = check_with_chunks_of(body.len().max(1));
        for piece in [1, 2, 3, 7] {
            assert_eq!(check_with_chunks_of(piece), result, "{body:?} in chunks of {piece}");
        }
        result
    }

    #[test]
    fn messages_are_counted_in_any_chunks() {
        let body = b"\0\0\0\0\x03abc\0\0\0\0\0\0\0\0\0\x01d\0\0\0\0\x02e";
        for piece in 1..=body.len() {
            let mut counter = MessageCounter::default();
            let mut framing = Framing::new(FramingRules::for_path(STREAM_PATH));
            let (mut sent, mut received) = (0, 0);
            for chunk in body.chunks(piece) {
                sent += counter.feed(chunk);
                framing.feed(chunk).unwrap();
                received += framing.take_complete();
            }
            assert_eq!((sent, received), (3, 3), "in pieces of {piece}: the fourth has not ended");
        }
    }

    #[test]
    fn complete_messages_are_accepted() {
        assert_eq!(check_in_chunks(UNARY_PATH, b"\0\0\0\0\0"), Ok(()));
        assert_eq!(check_in_chunks(UNARY_PATH, b"\0\0\0\0\x03abc"), Ok(()));
        assert_eq!(check_in_chunks(STREAM_PATH, b""), Ok(()));
        assert_eq!(check_in_chunks(STREAM_PATH, b"\0\0\0\0\x03abc\0\0\0\0\0\0\0\0\0\x01d"), Ok(()));
        assert_eq!(check_in_chunks(CONSUME_STREAM_PATH, b"\0\0\0\0\x01a\0\0\0\0\x01b"), Ok(()));
        assert_eq!(check_in_chunks(REFLECTION_PATH, b"\0\0\0\0\0\0\0\0\0\0"), Ok(()));
    }

    #[test]
    fn malformed_bodies_give_their_own_errors() {
        assert_eq!(check_in_chunks(UNARY_PATH, b""), Err(MalformedRequest::MissingMessage));
        assert_eq!(check_in_chunks(UNARY_PATH, b"\0\0"), Err(MalformedRequest::TruncatedHeader { have: 2 }));
        assert_eq!(
            check_in_chunks(UNARY_PATH, b"\0\0\0\0\x03ab"),
            Err(MalformedRequest::Truncated { have: 2, len: 3 })
        );
        assert_eq!(
            check_in_chunks(STREAM_PATH, b"\0\0\0\0\0\0\0\0\0\x05"),
            Err(MalformedRequest::Truncated { have: 0, len: 5 })
        );
        assert_eq!(check_in_chunks(UNARY_PATH, b"\0\0\0\0\0\0\0\0\0\0"), Err(MalformedRequest::ExtraMessage));
        assert_eq!(
            check_in_chunks(UNARY_PATH, b"\x01\0\0\0\0"),
            Err(MalformedRequest::CompressedWithoutEncoding)
        );
        assert_eq!(
            check_in_chunks(STREAM_PATH, b"\0\0\0\0\0{\"key\""),
            Err(MalformedRequest::InvalidFlag(b'{'))
        );
        assert_eq!(
            check_in_chunks(UNARY_PATH, b"\0\0\x01\0\x01"),
            Err(MalformedRequest::TooLarge {
                len: MAX_SINGLE_MESSAGE_BYTES + 1,
                limit: MAX_SINGLE_MESSAGE_BYTES
            })
        );
        assert_eq!(
            check_in_chunks(STREAM_PATH, b"\0\0\x10\0\x01"),
            Err(MalformedRequest::TooLarge {
                len: MAX_BATCH_MESSAGE_BYTES + 1,
                limit: MAX_BATCH_MESSAGE_BYTES
            })
        );
        let undecodable = check_in_chunks(REFLECTION_PATH, b"\0\0\0\0\x03\x0a\x01\xff");
        assert!(
            matches!(&undecodable, Err(MalformedRequest::UndecodableMessage(why)) if why.contains("UTF-8")),
            "{undecodable:?}"
        );
    }
}
