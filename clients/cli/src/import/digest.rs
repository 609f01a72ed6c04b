//! Reads a SHA-256 in the notations that exports use.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

/// Accepts padding, and none. The unused bits of the last character must be zero, so that a digest has one
/// text.
const PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, PADDING);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, PADDING);

const RULE: &str = "must be a SHA-256: 64 hex digits, or 43 characters of base64 or base64url, with or without \
                    a final =; compute it with `tenantctl key hash`";

/// Parses a digest. Its length tells hex from base64, so there is one reading.
///
/// # Errors
/// What is wrong, and what to do.
pub(super) fn parse(text: &str) -> Result<[u8; 32], &'static str> {
    let has = |chars: [char; 2]| text.contains(chars);
    let digest = match text.len() {
        0 => return Err("missing; compute it with `tenantctl key hash`"),
        64 => hex::decode(text).ok(),
        43 | 44 if has(['+', '/']) && has(['-', '_']) => {
            return Err("has characters of base64 (+ /) and of base64url (- _): it must be one of them");
        }
        43 | 44 if has(['-', '_']) => BASE64_URL.decode(text).ok(),
        43 | 44 => BASE64.decode(text).ok(),
        _ => None,
    };
    digest.and_then(|digest| digest.try_into().ok()).ok_or(RULE)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn digest_is_read_in_hex_base64_and_base64url() {
        let digest = [0xfb; 32];
        let base64 = "+/v7".repeat(11);
        let texts = ["fb".repeat(32), "FB".repeat(32), "-_v7".repeat(10) + "-_s", "+/v7".repeat(10) + "+/s="];
        for text in texts {
            assert_eq!(parse(&text), Ok(digest), "{text}");
        }
        assert_eq!(parse(&base64), Err(RULE), "33 bytes");
    }

    #[test]
    fn other_texts_are_rejected_with_the_rule() {
        let unused_bits = "A".repeat(42) + "B";
        for text in ["00", &"0g".repeat(32), &"00".repeat(20), &"é".repeat(32), &unused_bits, &"=".repeat(43)]
        {
            assert_eq!(parse(text), Err(RULE), "{text}");
        }
        assert!(parse("").unwrap_err().starts_with("missing"));
        let mixed = "A".repeat(40) + "+_A";
        assert!(parse(&mixed).unwrap_err().starts_with("has characters of base64 (+ /) and"), "{mixed}");
    }

    proptest! {
        #[test]
        fn every_notation_of_a_digest_reads_the_same(digest in any::<[u8; 32]>()) {
            let padded = base64::engine::general_purpose::URL_SAFE.encode(digest);
            let standard = base64::engine::general_purpose::STANDARD_NO_PAD.encode(digest);
            for text in [hex::encode(digest), hex::encode_upper(digest), padded, standard] {
                prop_assert_eq!(parse(&text), Ok(digest));
            }
        }
    }
}
