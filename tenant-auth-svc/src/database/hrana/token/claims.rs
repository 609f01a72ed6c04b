//! The expiry of a token, by its own claims.
//!
//! Nothing is verified here: the database does that. A token that is not a JWT, or has no expiry, is as valid as any
//! other.

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Map, Value};

use crate::instruments::validity::{Validity, unix_seconds};

/// Returns the validity of a token, if it is a JWT with an expiry (RFC 7519, `exp`). A value in milliseconds is not a
/// plausible time in seconds before the year 10000, and is ignored.
pub(super) fn parse_validity(token: &str) -> Option<Validity> {
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let payload = URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    let claims: Map<String, Value> = serde_json::from_slice(&payload).ok()?;
    let claim = |name: &str| claims.get(name).and_then(Value::as_f64).and_then(unix_seconds);
    let not_after = claim("exp")?;
    // A start after the expiry is ignored: the lifetime is computed from it.
    let not_before = claim("iat").or_else(|| claim("nbf")).filter(|start| *start <= not_after);
    Some(Validity { not_before, not_after })
}

#[cfg(test)]
mod tests {
    use tenant_auth_testkit::fuzz::Language;

    use super::*;

    fn validity_of(claims: &str) -> Option<Validity> {
        parse_validity(&format!("eyJhbGciOiJFZERTQSJ9.{}.c2lnbmF0dXJl", URL_SAFE_NO_PAD.encode(claims)))
    }

    fn expiring_at(not_after: i64) -> Option<Validity> {
        Some(Validity { not_before: None, not_after })
    }

    #[test]
    fn jwt_expiry_is_its_exp_claim() {
        let turso = r#"{"a":"rw","exp":1790000000,"iat":1789000000,"id":"0198","rid":"7d"}"#;
        assert_eq!(
            validity_of(turso),
            Some(Validity { not_before: Some(1_789_000_000), not_after: 1_790_000_000 })
        );
        assert_eq!(
            validity_of(r#"{"exp":1790000000,"nbf":1}"#),
            Some(Validity { not_before: Some(1), ..validity_of(turso).unwrap() })
        );
        assert_eq!(validity_of(r#"{"exp":1790000000.75}"#), expiring_at(1_790_000_000));
        assert_eq!(validity_of(r#"{"exp":1.79e9}"#), expiring_at(1_790_000_000));
        assert_eq!(
            validity_of(r#"{"exp":1790000000,"iat":1790000001}"#),
            expiring_at(1_790_000_000),
            "a start after the expiry"
        );
        let padded = "e30.eyJleHAiOjE3OTAwMDAwMDB9==.";
        assert_eq!(parse_validity(padded), expiring_at(1_790_000_000));
    }

    #[test]
    fn token_without_exp_claim_has_no_expiry() {
        for claims in [
            "{}",
            "[]",
            "null",
            "",
            "exp",
            r#"{"iat":1789000000}"#,
            r#"{"exp":null}"#,
            r#"{"exp":"1790000000"}"#,
            r#"{"exp":0}"#,
            r#"{"exp":-1790000000}"#,
            r#"{"exp":1790000000000}"#,
            r#"{"exp":1e308}"#,
            r#"{"exp":1e999}"#,
            r#"{"exp":[1790000000]}"#,
        ] {
            assert_eq!(validity_of(claims), None, "{claims}");
        }
        let payload = URL_SAFE_NO_PAD.encode(r#"{"exp":1790000000}"#);
        for token in [
            String::new(),
            "opaque".to_owned(),
            payload.clone(),
            format!("a.{payload}"),
            format!("a.{payload}.b.c"),
        ] {
            assert_eq!(parse_validity(&token), None, "{token}");
        }
        assert_eq!(validity_of(&"[".repeat(100_000)), None, "deep nesting");
    }

    const CLAIMS: Language = Language {
        seeds: &[
            br#"{"a":"rw","exp":1790000000,"iat":1789000000,"id":"0198"}"#,
            br#"{"exp":1.79e9,"nbf":-1}"#,
            br#"{"exp":1790000000000}"#,
        ],
        words: &[
            b"exp",
            b"iat",
            b"nbf",
            b"\"",
            b":",
            b"{",
            b"}",
            b"[",
            b"e",
            b"-",
            b".",
            b"99999999999999999999",
        ],
    };

    #[test]
    fn arbitrary_claims_give_a_valid_time_or_none() {
        CLAIMS.check(|bytes| {
            let tokens = [
                format!("e30.{}.e30", URL_SAFE_NO_PAD.encode(bytes)),
                String::from_utf8_lossy(bytes).into_owned(),
            ];
            for validity in tokens.iter().filter_map(|token| parse_validity(token)) {
                assert!((1..=253_402_300_799).contains(&validity.not_after), "{validity:?}");
                assert!(validity.not_before.is_none_or(|start| start <= validity.not_after), "{validity:?}");
            }
        });
    }
}
