//! The messages in the body of a call, as they come: whether each has a head that makes sense, is no longer than it may
//! be, and arrives whole.
//!
//! The library that reads them would answer INTERNAL to most of what can be wrong here, as if it were the service's fault.

use prost::{DecodeError, Message as _};
use tonic_reflection::pb::{v1, v1alpha};

use super::error::Malformed;

/// The largest message where one key is in it, in bytes.
const SMALL: usize = 64 * 1024;
/// The largest message where many may be in it.
const LARGE: usize = 1024 * 1024;

/// A flag for compression and the length.
const HEAD: usize = 5;

/// What the messages of one RPC may be.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    largest: usize,
    many: bool,
    check: Option<Check>,
}

/// Reads a message, to know whether it can be read.
type Check = fn(&[u8]) -> Result<(), DecodeError>;

impl Rules {
    /// Those of the RPC at a path.
    #[must_use]
    pub fn of(path: &str) -> Self {
        let (service, method) = path.trim_start_matches('/').split_once('/').unwrap_or_default();
        let largest = match service {
            "tenantauth.v1.ValidationService"
            | "tenantauth.v1.AdminService"
            | "tenantauth.v1.UsageService" => LARGE,
            _ => SMALL,
        };
        // Its handler is not ours, and takes a message that it cannot read for the end of the stream.
        let check: Option<Check> = match service {
            "grpc.reflection.v1.ServerReflection" => {
                Some(|message| v1::ServerReflectionRequest::decode(message).map(drop))
            }
            "grpc.reflection.v1alpha.ServerReflection" => {
                Some(|message| v1alpha::ServerReflectionRequest::decode(message).map(drop))
            }
            _ => None,
        };
        let many = matches!(method, "StreamValidateKeys" | "ServerReflectionInfo");
        Self { largest, many, check }
    }
}

/// The messages of one call, as far as they have come.
#[derive(Debug)]
pub struct Framing {
    rules: Rules,
    head: [u8; HEAD],
    /// How much of the head of the next message is there; all of it: of the message itself some is missing.
    in_head: usize,
    /// How much is missing of the message under way.
    missing: usize,
    len: usize,
    has_begun: bool,
    /// The message under way, where it is checked.
    message: Vec<u8>,
}

impl Framing {
    /// Nothing has come yet.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { rules, head: [0; HEAD], in_head: 0, missing: 0, len: 0, has_begun: false, message: Vec::new() }
    }

    /// Looks at what comes next.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn take(&mut self, mut data: &[u8]) -> Result<(), Malformed> {
        while let Some((byte, rest)) = data.split_first() {
            if self.in_head == HEAD {
                let (piece, rest) = data.split_at(data.len().min(self.missing));
                self.missing -= piece.len();
                if self.rules.check.is_some() {
                    self.message.extend_from_slice(piece);
                }
                data = rest;
            } else {
                if self.in_head == 0 {
                    self.begin(*byte)?;
                }
                self.head[self.in_head] = *byte;
                self.in_head += 1;
                data = rest;
                if self.in_head == HEAD {
                    self.measure()?;
                }
            }
            if self.in_head == HEAD && self.missing == 0 {
                self.in_head = 0;
                self.check()?;
            }
        }
        Ok(())
    }

    /// Nothing more comes.
    ///
    /// # Errors
    /// When something is missing.
    pub fn end(&self) -> Result<(), Malformed> {
        match self.in_head {
            0 if self.has_begun || self.rules.many => Ok(()),
            0 => Err(Malformed::NoMessage),
            HEAD => Err(Malformed::Truncated { have: self.len - self.missing, len: self.len }),
            have => Err(Malformed::HeadTruncated { have }),
        }
    }

    fn begin(&mut self, flag: u8) -> Result<(), Malformed> {
        match flag {
            0 if self.has_begun && !self.rules.many => Err(Malformed::SecondMessage),
            0 => {
                self.has_begun = true;
                Ok(())
            }
            // What it is compressed with would stand in a header, and was refused there.
            1 => Err(Malformed::CompressedWithNothing),
            flag => Err(Malformed::Flag(flag)),
        }
    }

    fn measure(&mut self) -> Result<(), Malformed> {
        let [_, len @ ..] = self.head;
        self.len = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
        let limit = self.rules.largest;
        if self.len > limit {
            return Err(Malformed::TooLarge { len: self.len, limit });
        }
        self.missing = self.len;
        Ok(())
    }

    fn check(&mut self) -> Result<(), Malformed> {
        let Some(check) = self.rules.check else { return Ok(()) };
        check(&std::mem::take(&mut self.message)).map_err(|error| Malformed::Unreadable(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "/tenantauth.v1.SessionService/BindSession";
    const MANY: &str = "/tenantauth.v1.ValidationService/StreamValidateKeys";
    const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";

    /// What is said about a body, however it is cut.
    fn said(path: &str, body: &[u8]) -> Result<(), Malformed> {
        let whole = |piece: usize| {
            let mut framing = Framing::new(Rules::of(path));
            body.chunks(piece).try_for_each(|piece| framing.take(piece)).and_then(|()| framing.end())
        };
        let said = whole(body.len().max(1));
        for piece in [1, 2, 3, 7] {
            assert_eq!(whole(piece), said, "{body:?} in pieces of {piece}");
        }
        said
    }

    #[test]
    fn whole_messages_are_as_they_should_be() {
        assert_eq!(said(ONE, b"\0\0\0\0\0"), Ok(()));
        assert_eq!(said(ONE, b"\0\0\0\0\x03abc"), Ok(()));
        assert_eq!(said(MANY, b""), Ok(()));
        assert_eq!(said(MANY, b"\0\0\0\0\x03abc\0\0\0\0\0\0\0\0\0\x01d"), Ok(()));
        assert_eq!(said(REFLECTION, b"\0\0\0\0\0\0\0\0\0\0"), Ok(()));
    }

    #[test]
    fn everything_else_is_named() {
        assert_eq!(said(ONE, b""), Err(Malformed::NoMessage));
        assert_eq!(said(ONE, b"\0\0"), Err(Malformed::HeadTruncated { have: 2 }));
        assert_eq!(said(ONE, b"\0\0\0\0\x03ab"), Err(Malformed::Truncated { have: 2, len: 3 }));
        assert_eq!(said(MANY, b"\0\0\0\0\0\0\0\0\0\x05"), Err(Malformed::Truncated { have: 0, len: 5 }));
        assert_eq!(said(ONE, b"\0\0\0\0\0\0\0\0\0\0"), Err(Malformed::SecondMessage));
        assert_eq!(said(ONE, b"\x01\0\0\0\0"), Err(Malformed::CompressedWithNothing));
        assert_eq!(said(MANY, b"\0\0\0\0\0{\"key\""), Err(Malformed::Flag(b'{')));
        assert_eq!(said(ONE, b"\0\0\x01\0\x01"), Err(Malformed::TooLarge { len: SMALL + 1, limit: SMALL }));
        assert_eq!(said(MANY, b"\0\0\x10\0\x01"), Err(Malformed::TooLarge { len: LARGE + 1, limit: LARGE }));
        let unreadable = said(REFLECTION, b"\0\0\0\0\x03\x0a\x01\xff");
        assert!(
            matches!(&unreadable, Err(Malformed::Unreadable(why)) if why.contains("UTF-8")),
            "{unreadable:?}"
        );
    }
}
