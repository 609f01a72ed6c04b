//! Reads a SHA-256 in the notations that exports use.

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};

use super::key_text;

/// Accepts padding, and none. The unused bits of the last character must be zero, so that a digest has one
/// text.
const PADDING: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const BASE64: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, PADDING);
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, PADDING);

/// From this length on, a digest does not begin with a hint by chance.
const MIN_TELLING_HINT_LEN: usize = 8;

const RULE: &str = "must be a SHA-256: 64 hex digits, or 43 characters of base64 or base64url, with or without \
                    a final =; compute it with `tenantctl key hash`";

/// Parses a digest that can be that of a key whose first characters are given.
///
/// # Errors
/// What is wrong, and what to do.
pub(super) fn check(text: &str, prefix_hint: &str) -> Result<[u8; 32], String> {
    // A random key may look like a digest in base64.
    if prefix_hint.len() >= MIN_TELLING_HINT_LEN && text.starts_with(prefix_hint) {
        let fix = "compute its SHA-256 with `tenantctl key hash`, and treat this file as a secret";
        return Err(format!("begins with prefix_hint, so it is the key itself: {fix}"));
    }
    let digest = parse(text)?;
    key_text::check_hash(&digest).map_err(|error| error.to_string())?;
    Ok(digest)
}

/// Parses a digest. Its length tells hex from base64, so there is one reading.
///
/// # Errors
/// What is wrong, and what to do.
fn parse(text: &str) -> Result<[u8; 32], &'static str> {
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

    #[test]
    fn key_in_place_of_its_digest_is_found_by_its_hint() {
        let key = "dGhpcy1pcy1hLWtleS1pbi1wbGFpbnRleHQtMTIzNDU";
        assert!(check(key, "").is_ok() && check(key, "dGhpcy1").is_ok(), "too short to tell");
        assert!(check(key, "dGhpcy1p").unwrap_err().starts_with("begins with prefix_hint"));
    }

    #[test]
    fn digest_of_an_empty_text_is_rejected() {
        let digest = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(check(digest, ""), Err("is the SHA-256 of an empty text, which is no key".to_owned()));
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
