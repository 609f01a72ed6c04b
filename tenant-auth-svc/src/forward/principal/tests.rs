use std::collections::HashSet;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, jwk::JwkSet};
use serde_json::Value;

use super::*;
use crate::domain::{
    clock::ManualClock,
    clock::{OptionalMillis, UnixMillis},
    id::TenantId,
    network::AllowedNetworks,
    principal_token::{MAX_AUDIENCE_LEN, MAX_ISSUER_LEN},
    scope::{Scope, ScopeSet},
    tenant::{TenantSnapshot, TenantStatus},
    verdict::{Provenance, Verdict},
};

/// Keys as `openssl genpkey` writes them.
const ED25519_PEM: &str = "-----BEGIN PRIVATE KEY-----
MC4CAQAwBQYDK2VwBCIEIDZZxX6Xw8sSWa2F7zbQ3H8QqK0wF5M0d1cQ2vJt7rJf
-----END PRIVATE KEY-----
";
const FRESH: Duration = Duration::from_secs(5);
const NOW: UnixMillis = UnixMillis(1_790_000_000_000);

fn p256_pem() -> String {
    let random = ring::rand::SystemRandom::new();
    let algorithm = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
    let der = ring::signature::EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
    let text = base64::Engine::encode(&base64::prelude::BASE64_STANDARD, der.as_ref());
    format!("-----BEGIN PRIVATE KEY-----\n{text}\n-----END PRIVATE KEY-----\n")
}

fn decision(scopes: &[String], name: &str, revision: i64, source: Source) -> Decision {
    let key = KeyRecord {
        key_id: KeyId::parse(&"k".repeat(64)).unwrap().into(),
        tenant: TenantSnapshot {
            id: TenantId::parse(&"t".repeat(64)).unwrap(),
            name: name.into(),
            plan: "\u{1f600}".repeat(32).into(),
            status: TenantStatus::Active,
        }
        .into(),
        scopes: ScopeSet::new(scopes.iter().map(|name| Scope::parse(name).unwrap()).collect())
            .unwrap()
            .into(),
        allowed_networks: AllowedNetworks::EVERYWHERE,
        expires_at: OptionalMillis::NONE,
        revoked_at: OptionalMillis::NONE,
        last_used_at: OptionalMillis::NONE,
        is_disabled: false,
    };
    Decision {
        verdict: Verdict::Valid,
        key: Some(key),
        missing_scopes: ScopeSet::EMPTY,
        provenance: Provenance { source, revision: Revision(revision), ..Provenance::NO_LOOKUP },
    }
}

fn fresh(revision: i64) -> Decision {
    decision(&["a:r".to_owned()], "Acme", revision, Source::Fresh)
}

fn signer(pem: &str) -> (PrincipalTokens, Arc<ManualClock>) {
    let clock = ManualClock::at(NOW);
    let keys = SigningKeys::parse(pem.as_bytes()).unwrap();
    let shared: SharedClock = Arc::clone(&clock) as SharedClock;
    (PrincipalTokens::new("https://auth.example.com", keys, FRESH, shared), clock)
}

/// Verifies a token with the published keys, and returns its header and its claims.
fn verify(tokens: &PrincipalTokens, token: &str) -> (jsonwebtoken::Header, Value) {
    let jwks: JwkSet = serde_json::from_str(&tokens.published().1).unwrap();
    let header = jsonwebtoken::decode_header(token).unwrap();
    let jwk = jwks.find(header.kid.as_deref().unwrap()).expect("the key must be published");
    let mut validation = Validation::new(header.alg);
    validation.validate_exp = false;
    validation.required_spec_claims = HashSet::new();
    validation.set_audience(&["billing"]);
    let key = DecodingKey::from_jwk(jwk).unwrap();
    let claims = jsonwebtoken::decode::<Value>(token, &key, &validation).unwrap().claims;
    (header, claims)
}

#[test]
fn token_verifies_with_the_published_keys() {
    for (pem, algorithm) in [(ED25519_PEM.to_owned(), Algorithm::EdDSA), (p256_pem(), Algorithm::ES256)] {
        let (tokens, _) = signer(&pem);
        let token = tokens.token(&fresh(7), "billing").unwrap();
        let (header, claims) = verify(&tokens, &token);
        assert_eq!((header.alg, header.typ.as_deref()), (algorithm, Some("principal+jwt")));
        let seconds = NOW.0 / 1_000;
        let expected = serde_json::json!({
            "iss": "https://auth.example.com", "aud": "billing", "sub": "t".repeat(64), "key_id": "k".repeat(64),
            "scope": "a:r", "plan": "\u{1f600}".repeat(32), "rev": 7, "iat": seconds, "exp": seconds + 60,
        });
        assert_eq!(claims, expected);
    }
}

#[test]
fn token_is_signed_once_per_audience_and_fresh_period() {
    let (tokens, clock) = signer(&p256_pem());
    let first = tokens.token(&fresh(7), "billing").unwrap();
    // The signatures of ECDSA are random, so another token is another signature.
    assert_eq!(tokens.token(&fresh(7), "billing").unwrap(), first);
    assert_ne!(tokens.token(&fresh(7), "other").unwrap(), first);
    clock.advance(FRESH);
    assert_ne!(tokens.token(&fresh(7), "billing").unwrap(), first);
}

/// A verifier may have no leeway.
#[test]
fn token_is_given_out_for_half_of_its_lifetime_at_most() {
    let clock = ManualClock::at(NOW);
    let keys = SigningKeys::parse(p256_pem().as_bytes()).unwrap();
    let shared: SharedClock = Arc::clone(&clock) as SharedClock;
    let tokens = PrincipalTokens::new("https://auth.example.com", keys, Duration::from_secs(300), shared);
    for (source, seconds) in [(Source::Fresh, 30), (Source::Stale, 5)] {
        let decision = decision(&[], "Acme", 7, source);
        let first = tokens.token(&decision, "billing").unwrap();
        clock.advance(Duration::from_secs(seconds) - Duration::from_millis(1));
        assert_eq!(tokens.token(&decision, "billing").unwrap(), first);
        clock.advance(Duration::from_millis(1));
        assert_ne!(tokens.token(&decision, "billing").unwrap(), first);
    }
}

#[test]
fn changed_key_gets_another_token_at_once() {
    let (tokens, _) = signer(&p256_pem());
    let first = tokens.token(&fresh(7), "billing").unwrap();
    let renamed = decision(&["a:r".to_owned()], "Acme 2", 7, Source::Fresh);
    assert_ne!(tokens.token(&renamed, "billing").unwrap(), first);
    let first = tokens.token(&fresh(7), "billing").unwrap();
    assert_ne!(tokens.token(&fresh(8), "billing").unwrap(), first, "a later revision with the same record");
    let stale = decision(&["a:r".to_owned()], "Acme", 8, Source::Stale);
    let (_, claims) = verify(&tokens, &tokens.token(&stale, "billing").unwrap());
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 10);
}

#[test]
fn next_key_is_published_before_it_signs() {
    let (current, next) = (p256_pem(), ED25519_PEM);
    let (tokens, _) = signer(&format!("{current}{next}"));
    let before = tokens.token(&fresh(7), "billing").unwrap();
    assert_eq!(verify(&tokens, &before).0.alg, Algorithm::ES256);
    tokens.replace_keys(SigningKeys::parse(format!("{next}{current}").as_bytes()).unwrap());
    let after = tokens.token(&fresh(7), "billing").unwrap();
    assert_eq!(verify(&tokens, &after).0.alg, Algorithm::EdDSA, "no token of the old key is given out");
    assert_eq!(verify(&tokens, &before).0.alg, Algorithm::ES256, "the old key is still published");
}

/// With the longest of everything. `identity` counts on this length.
#[test]
fn longest_token_has_1473_bytes() {
    let clock: SharedClock = ManualClock::at(NOW);
    let keys = SigningKeys::parse(p256_pem().as_bytes()).unwrap();
    let tokens = PrincipalTokens::new(&"i".repeat(MAX_ISSUER_LEN), keys, FRESH, clock);
    let scopes: Vec<_> = (0..32).map(|n| format!("{n:02}{}", "x".repeat(62))).collect();
    let decision = decision(&scopes, "Acme", i64::MAX, Source::Fresh);
    let token = tokens.token(&decision, &"a".repeat(MAX_AUDIENCE_LEN)).unwrap();
    assert!(token.len() <= 1_473, "{}", token.len());
}

#[test]
fn unusable_keys_are_refused_with_their_position() {
    let error = |pem: &str| SigningKeys::parse(pem.as_bytes()).unwrap_err();
    assert_eq!(error(""), InvalidSigningKeys::Count);
    assert_eq!(error("no PEM"), InvalidSigningKeys::Count);
    assert_eq!(error(&ED25519_PEM.repeat(9)), InvalidSigningKeys::Count);
    assert_eq!(error(&ED25519_PEM.repeat(2)), InvalidSigningKeys::Duplicate(2));
    for label in ["PRIVATE KEY", "EC PRIVATE KEY", "PUBLIC KEY", "CERTIFICATE"] {
        let other = format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
        assert_eq!(error(&format!("{ED25519_PEM}{other}")), InvalidSigningKeys::Kind(2), "{label}");
    }
    let cut = "-----BEGIN PRIVATE KEY-----\nAAAA\n";
    assert_eq!(error(cut), InvalidSigningKeys::Pem);
}

#[test]
fn without_keys_nothing_is_signed_or_published() {
    let tokens = PrincipalTokens::disabled();
    assert_eq!(tokens.token(&fresh(7), "billing"), None);
    assert_eq!(tokens.published(), ("".into(), "{\"keys\":[]}".into()));
}
