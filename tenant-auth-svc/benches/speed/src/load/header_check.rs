//! Checks that the headers and trailers of every response report success.

use std::collections::HashMap;

use anyhow::{Context as _, ensure};
use loona_hpack::Decoder;

/// Checks all headers and trailers of one connection.
///
/// Almost all blocks repeat earlier ones byte for byte: they refer to names and values in the table of both
/// sides (RFC 7541). Such a block does not change the table, so a repeated block has the same meaning and is
/// not decoded again.
pub(super) struct HeaderChecker {
    decoder: Decoder<'static>,
    head: Vec<u8>,
    trailers: Vec<u8>,
}

impl Default for HeaderChecker {
    fn default() -> Self {
        Self { decoder: Decoder::new(), head: Vec::new(), trailers: Vec::new() }
    }
}

impl HeaderChecker {
    /// Checks one header block.
    ///
    /// # Errors
    /// Fails if it is neither the headers of a response nor the trailers of a successful one.
    pub(super) fn check(&mut self, block: &[u8], ends: bool) -> anyhow::Result<()> {
        let known = if ends { &self.trailers } else { &self.head };
        if known == block {
            return Ok(());
        }
        if !block.iter().all(is_indexed_field) {
            // The table changes, so a number may refer to another field afterwards.
            self.head.clear();
            self.trailers.clear();
        }
        let fields = self.decoder.decode(block).ok().context("the header block cannot be decoded")?;
        let fields: HashMap<_, _> = fields.into_iter().collect();
        let is = |name: &[u8], value: &[u8]| fields.get(name).is_some_and(|it| it == value);
        if ends {
            ensure!(is(b"grpc-status", b"0"), "a response is not OK: {}", shown(&fields));
            ensure!(
                !fields.contains_key(&b":status"[..]),
                "a response without a message: {}",
                shown(&fields)
            );
        } else {
            ensure!(is(b":status", b"200"), "a response with another HTTP status: {}", shown(&fields));
        }
        if block.iter().all(is_indexed_field) {
            let known = if ends { &mut self.trailers } else { &mut self.head };
            known.clear();
            known.extend(block);
        }
        Ok(())
    }
}

/// Returns whether a byte is a complete indexed field.
fn is_indexed_field(byte: &u8) -> bool {
    *byte > 0x80 && *byte < 0xff
}

fn shown(fields: &HashMap<Vec<u8>, Vec<u8>>) -> String {
    let text = |bytes: &Vec<u8>| String::from_utf8_lossy(bytes).into_owned();
    let fields: Vec<_> =
        fields.iter().map(|(name, value)| format!("{}={}", text(name), text(value))).collect();
    fields.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: u8 = 0x88;

    /// Encodes a literal field with indexing.
    fn indexed_literal(name: &str, value: &str) -> Vec<u8> {
        let mut field = vec![0x40];
        for text in [name, value] {
            field.push(u8::try_from(text.len()).unwrap());
            field.extend(text.bytes());
        }
        field
    }

    #[test]
    fn only_successful_answers_pass() {
        let mut answers = HeaderChecker::default();
        answers
            .check(&[&[OK][..], &indexed_literal("content-type", "application/grpc")].concat(), false)
            .unwrap();
        answers.check(&indexed_literal("grpc-status", "0"), true).unwrap();
        for _ in 0..3 {
            answers.check(&[OK, 0x80 | 63], false).unwrap();
            answers.check(&[0x80 | 62], true).unwrap();
        }
        assert!(
            answers.head == [OK, 0x80 | 63] && answers.trailers == [0x80 | 62],
            "the blocks are known by now"
        );
        // From here on, number 62 refers to another field.
        let failed = answers.check(&indexed_literal("grpc-status", "14"), true);
        assert!(failed.unwrap_err().to_string().contains("grpc-status=14"));
        assert!(answers.check(&[0x80 | 62], true).is_err());
        answers.check(&[0x80 | 63], true).unwrap();
        assert!(answers.check(&[OK, 0x80 | 63], true).is_err(), "a response without a message");
        assert!(answers.check(&[0x80 | 14], false).is_err(), "500");
    }
}
