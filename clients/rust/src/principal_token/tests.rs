use std::sync::{
    Mutex,
    atomic::{AtomicU64, AtomicUsize, Ordering},
};

use jsonwebtoken::{
    Algorithm, EncodingKey, Header,
    jwk::{Jwk, JwkSet, ThumbprintHash},
};
use ring::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair},
};
use serde_json::{Value, json};
use tenant_auth_proto::v1::GetPrincipalKeysResponse;

use super::*;
use crate::Clock;

const NOW: u64 = 1_790_000_000;
const ISSUER: &str = "https://auth.example.com";

/// A key that signs, and its public part.
struct Signer {
    algorithm: Algorithm,
    private: EncodingKey,
    public: Jwk,
}

impl Signer {
    fn new(algorithm: Algorithm) -> Self {
        provider::install();
        let random = SystemRandom::new();
        let private = match algorithm {
            Algorithm::ES256 => {
                let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
                EncodingKey::from_ec_der(der.as_ref())
            }
            _ => {
                let mut seed = [0; 32];
                getrandom::fill(&mut seed).unwrap();
                // The header of a private Ed25519 key in PKCS#8, as OpenSSL writes it.
                let head = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
                let der = [&head[..], &seed].concat();
                Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der).unwrap();
                EncodingKey::from_ed_der(&der)
            }
        };
        let mut public = Jwk::from_encoding_key(&private, algorithm).unwrap();
        public.common.key_id = Some(public.thumbprint(ThumbprintHash::SHA256).unwrap());
        Self { algorithm, private, public }
    }

    fn header(&self) -> Header {
        let (typ, kid) = (Some("principal+jwt".to_owned()), self.public.common.key_id.clone());
        Header { typ, kid, ..Header::new(self.algorithm) }
    }

    fn sign(&self, claims: &Value) -> String {
        self.sign_with(&self.header(), claims)
    }

    fn sign_with(&self, header: &Header, claims: &Value) -> String {
        jsonwebtoken::encode(header, claims, &self.private).unwrap()
    }
}

fn claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "billing", "sub": "ten_1", "key_id": "key_1", "scope": "a b", "plan": "pro",
        "rev": 7, "iat": NOW, "exp": NOW + 60,
    })
}

fn with(name: &str, value: impl Into<Value>) -> Value {
    let mut claims = claims();
    claims[name] = value.into();
    claims
}

fn published(signers: &[&Signer]) -> GetPrincipalKeysResponse {
    let keys = signers.iter().map(|signer| signer.public.clone()).collect();
    let jwks = serde_json::to_string(&JwkSet { keys }).unwrap();
    GetPrincipalKeysResponse { jwks, issuer: ISSUER.to_owned() }
}

fn check(signer: &Signer, token: &str, at: u64) -> Result<Claims, PrincipalRejected> {
    let header = TokenHeader::parse(token)?;
    header.verify(
        token,
        &signer.public,
        (ISSUER, "billing"),
        SystemTime::UNIX_EPOCH + Duration::from_secs(at),
    )
}

#[track_caller]
fn assert_invalid<T: fmt::Debug>(outcome: Result<T, PrincipalRejected>, problem: &str) {
    match outcome.unwrap_err() {
        PrincipalRejected::Invalid(found) => assert_eq!(found, problem),
        other => panic!("{other:?}"),
    }
}

#[test]
fn token_of_either_algorithm_is_accepted() {
    for algorithm in [Algorithm::ES256, Algorithm::EdDSA] {
        let signer = Signer::new(algorithm);
        let claims = check(&signer, &signer.sign(&claims()), NOW).unwrap();
        let principal = principal(claims, &["b"]).unwrap();
        assert_eq!((&*principal.tenant_id, &*principal.key_id, &*principal.plan), ("ten_1", "key_1", "pro"));
        assert_eq!((principal.scopes, principal.revision), (vec!["a".to_owned(), "b".to_owned()], 7));
        assert_eq!(principal.expires_at.duration_since(principal.issued_at).unwrap().as_secs(), 60);
    }
}

#[test]
fn wrong_claims_are_invalid() {
    let signer = Signer::new(Algorithm::EdDSA);
    for (claims, problem) in [
        (with("iss", "https://other.example.com"), "another issuer signed it"),
        (with("aud", "other"), "it is for another audience"),
        (with("aud", json!(["billing"])), "its claims are not those of a principal"),
        (with("sub", ""), "it names no tenant or no key"),
        (with("key_id", ""), "it names no tenant or no key"),
        (with("rev", "7"), "its claims are not those of a principal"),
        (with("scope", json!(["a"])), "its claims are not those of a principal"),
        (with("exp", NOW + 61), "it lives too long"),
    ] {
        assert_invalid(check(&signer, &signer.sign(&claims), NOW), problem);
    }
}

#[test]
fn token_is_valid_within_its_time_and_five_seconds() {
    let signer = Signer::new(Algorithm::EdDSA);
    let token = signer.sign(&claims());
    for at in [NOW - 5, NOW, NOW + 60, NOW + 64] {
        check(&signer, &token, at).unwrap();
    }
    assert_invalid(check(&signer, &token, NOW + 65), "it has expired");
    assert_invalid(check(&signer, &token, NOW - 6), "it is from the future");
}

#[test]
fn header_cannot_choose_another_rule() {
    let (signer, other) = (Signer::new(Algorithm::ES256), Signer::new(Algorithm::EdDSA));
    let header = |typ: &str| Header { typ: Some(typ.to_owned()), ..signer.header() };
    for typ in ["JWT", "at+jwt", ""] {
        let token = signer.sign_with(&header(typ), &claims());
        assert_invalid(check(&signer, &token, NOW), "its type is not principal+jwt");
    }
    let unnamed = Header { kid: None, ..signer.header() };
    assert_invalid(check(&signer, &signer.sign_with(&unnamed, &claims()), NOW), "it names no key");
    let critical = Header { crit: Some(vec!["x".to_owned()]), ..signer.header() };
    let token = signer.sign_with(&critical, &claims());
    assert_invalid(check(&signer, &token, NOW), "it has critical headers");
    // Another key's token under the name of this key.
    let renamed = Header { kid: signer.public.common.key_id.clone(), ..other.header() };
    let token = other.sign_with(&renamed, &claims());
    assert_invalid(check(&signer, &token, NOW), "its algorithm is not that of its key");
    let third = Signer::new(Algorithm::ES256);
    let token = third.sign_with(&signer.header(), &claims());
    assert_invalid(check(&signer, &token, NOW), "its signature is wrong");
    // Changed after it was signed, without a signature, and no token at all.
    let token = signer.sign(&claims());
    let changed = token.replacen('.', ".e", 1);
    assert!(check(&signer, &changed, NOW).is_err());
    for text in ["", "a.b.c", "eyJ0eXAiOiJwcmluY2lwYWwrand0IiwiYWxnIjoibm9uZSJ9.e30.", &"x".repeat(5_000)] {
        assert!(matches!(TokenHeader::parse(text), Err(PrincipalRejected::Invalid(_))), "{text}");
    }
}

#[test]
fn missing_scope_is_a_denial_unless_scopes_were_omitted() {
    let signer = Signer::new(Algorithm::EdDSA);
    let scoped = |claims: &Value| principal(check(&signer, &signer.sign(claims), NOW).unwrap(), &["a", "c"]);
    assert_eq!(scoped(&claims()), Err(PrincipalRejected::MissingScopes(vec!["c".to_owned()])));
    let undecided = scoped(&with("scope_omitted", 3)).unwrap_err();
    assert!(matches!(undecided, PrincipalRejected::Undecided(Error::Unavailable { .. })), "{undecided:?}");
}

#[derive(Debug, Default)]
struct TestClock(AtomicU64);

impl TestClock {
    fn advance(&self, seconds: u64) {
        self.0.fetch_add(seconds, Ordering::Relaxed);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

/// A store of keys, and a service whose answer can be changed.
struct Service {
    clock: Arc<TestClock>,
    store: KeyStore,
    answer: Mutex<Result<GetPrincipalKeysResponse, Error>>,
    calls: AtomicUsize,
}

impl Service {
    fn new(answer: Result<GetPrincipalKeysResponse, Error>) -> Self {
        let clock = Arc::new(TestClock::default());
        let store = KeyStore::new(Arc::clone(&clock) as Arc<dyn Clock>);
        Self { clock, store, answer: Mutex::new(answer), calls: AtomicUsize::new(0) }
    }

    fn set(&self, answer: Result<GetPrincipalKeysResponse, Error>) {
        *self.answer.lock().unwrap() = answer;
    }

    async fn find(&self, signer: &Signer) -> Result<(), PrincipalRejected> {
        let fetch = || async {
            self.calls.fetch_add(1, Ordering::Relaxed);
            self.answer.lock().unwrap().clone()
        };
        self.store.key(signer.public.common.key_id.as_deref().unwrap(), fetch).await.map(drop)
    }

    fn calls(&self) -> usize {
        self.calls.load(Ordering::Relaxed)
    }
}

#[tokio::test]
async fn keys_are_fetched_once_and_again_when_old() {
    let signer = Signer::new(Algorithm::EdDSA);
    let service = Service::new(Ok(published(&[&signer])));
    for (seconds, calls) in [(0, 1), (299, 1), (1, 2), (1, 2)] {
        service.clock.advance(seconds);
        service.find(&signer).await.unwrap();
        assert_eq!(service.calls(), calls);
    }
}

#[tokio::test]
async fn unknown_key_is_fetched_at_most_once_in_five_seconds() {
    let (old, new) = (Signer::new(Algorithm::EdDSA), Signer::new(Algorithm::ES256));
    let service = Service::new(Ok(published(&[&old])));
    service.find(&old).await.unwrap();
    service.clock.advance(5);
    for _ in 0..3 {
        assert_invalid(service.find(&new).await, "its key is not published");
    }
    assert_eq!(service.calls(), 2);
    service.set(Ok(published(&[&old, &new])));
    service.clock.advance(5);
    service.find(&new).await.unwrap();
    service.find(&old).await.unwrap();
    assert_eq!(service.calls(), 3);
}

#[tokio::test]
async fn empty_or_failed_answer_never_replaces_keys() {
    let signer = Signer::new(Algorithm::EdDSA);
    let empty = GetPrincipalKeysResponse { jwks: r#"{"keys":[]}"#.to_owned(), issuer: ISSUER.to_owned() };
    let unreadable = GetPrincipalKeysResponse { jwks: "<html>".to_owned(), issuer: ISSUER.to_owned() };
    let service = Service::new(Ok(published(&[&signer])));
    service.find(&signer).await.unwrap();
    for answer in [Ok(empty), Ok(unreadable), Err(Error::DeadlineExceeded)] {
        service.set(answer);
        service.clock.advance(300);
        service.find(&signer).await.unwrap();
        // A key that is not among them may be a new one.
        let other = service.find(&Signer::new(Algorithm::ES256)).await.unwrap_err();
        assert!(matches!(other, PrincipalRejected::Undecided(_)), "{other:?}");
    }
    assert_eq!(service.calls(), 4);
}

#[tokio::test]
async fn without_keys_nothing_is_decided() {
    let signer = Signer::new(Algorithm::EdDSA);
    let service = Service::new(Err(Error::DeadlineExceeded));
    for calls in [1, 1] {
        assert_eq!(service.find(&signer).await, Err(PrincipalRejected::Undecided(Error::DeadlineExceeded)));
        assert_eq!(service.calls(), calls);
    }
    service.set(Ok(published(&[&signer])));
    service.clock.advance(1);
    service.find(&signer).await.unwrap();
}
