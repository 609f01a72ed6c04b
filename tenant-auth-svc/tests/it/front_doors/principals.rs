//! Principal tokens, and the keys that sign them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use jsonwebtoken::{DecodingKey, Validation, jwk::JwkSet};
use rcgen::KeyPair;
use serde_json::Value;
use tempfile::TempDir;
use tenant_auth_proto::v1::{
    GetPrincipalKeysRequest, UpdateKeyRequest, info_service_client::InfoServiceClient,
};
use tenant_auth_svc::{
    config::Settings,
    domain::clock::{ManualClock, SharedClock},
};
use tenant_auth_testkit::Fault;

use crate::harness::{
    NOW, TestDatabase, TestService,
    front_doors::{Checked, check, check_request, forward_address, with_forward_address},
    http_exchange, http_request,
    updates::key_update,
};

const ISSUER: &str = "https://auth.example.com";

/// A file with the keys that sign.
struct KeysFile(TempDir);

impl KeysFile {
    fn new(keys: &[&KeyPair]) -> Self {
        let file = Self(tempfile::tempdir().unwrap());
        file.write(keys);
        file
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("principal-keys.pem")
    }

    fn write(&self, keys: &[&KeyPair]) {
        std::fs::write(self.path(), keys.iter().map(|key| key.serialize_pem()).collect::<String>()).unwrap();
    }

    fn settings(&self, settings: Settings) -> Settings {
        with_forward_address(settings)
            .with_flag("TENANT_AUTH_PRINCIPAL_KEYS_FILE", Some(self.path().display().to_string()))
            .with_flag("TENANT_AUTH_PRINCIPAL_ISSUER", Some(ISSUER.to_owned()))
    }
}

async fn start(file: &KeysFile, database: &TestDatabase, clock: &Arc<ManualClock>) -> TestService {
    database.follow_clock(clock);
    TestService::start_with(file.settings(database.settings()), Arc::clone(clock) as SharedClock).await
}

/// Returns the token about a request at each door.
async fn tokens(service: &TestService, key: &str) -> [String; 2] {
    let headers = [("x-api-key", key)];
    let answer =
        http_exchange(forward_address(service), "GET /forward-auth?audience=billing", &headers, "").await;
    let answer = answer.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    // `head` is in lower case, and a token is not.
    let request = check_request(&headers, &[("audience", "billing")]);
    let checked = Checked::of(&check(service, request).await.unwrap());
    let of_check = checked.header("x-tenant-principal").unwrap().to_owned();
    [answer.header("x-tenant-principal").unwrap().to_owned(), of_check]
}

async fn published(service: &TestService) -> JwkSet {
    let answer = http_request(forward_address(service), "GET /.well-known/jwks.json").await.unwrap();
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/jwk-set+json")));
    let mut info = InfoServiceClient::new(service.channel.clone());
    let keys = info.get_principal_keys(GetPrincipalKeysRequest {}).await.unwrap().into_inner();
    assert_eq!((&*keys.issuer, &*keys.jwks), (ISSUER, &*answer.body));
    serde_json::from_str(&answer.body).unwrap()
}

/// Verifies a token with the published keys, and returns its key's id and its claims.
async fn verify(service: &TestService, token: &str) -> (String, Value) {
    let kid = jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
    let keys = published(service).await;
    let jwk = keys.find(&kid).unwrap_or_else(|| panic!("{kid} is not published"));
    let mut validation = Validation::new(jsonwebtoken::decode_header(token).unwrap().alg);
    validation.set_issuer(&[ISSUER]);
    validation.set_audience(&["billing"]);
    validation.validate_exp = false;
    let decoded = jsonwebtoken::decode::<Value>(token, &DecodingKey::from_jwk(jwk).unwrap(), &validation);
    (kid, decoded.unwrap().claims)
}

#[tokio::test]
async fn both_doors_give_the_same_token() {
    let database = TestDatabase::test_server().await;
    let (clock, pair) = (ManualClock::at(NOW), KeyPair::generate().unwrap());
    let file = KeysFile::new(&[&pair]);
    let service = start(&file, &database, &clock).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, key_id) = service.issue_key(&tenant, &["a", "b"]).await;
    let [forwarded, checked] = tokens(&service, &key).await;
    assert_eq!(forwarded, checked.to_lowercase(), "signed once");
    let (_, claims) = verify(&service, &checked).await;
    assert_eq!(
        (&claims["sub"], &claims["key_id"], &claims["scope"]),
        (&tenant.into(), &key_id.into(), &"a b".into())
    );
    assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), 60);
    // Without an audience there is no token.
    let checked = Checked::of(&check(&service, check_request(&[("x-api-key", &key)], &[])).await.unwrap());
    assert_eq!(checked.header("x-tenant-principal"), Some(""));
}

#[tokio::test]
async fn stale_answer_has_a_token_of_ten_seconds() {
    let database = TestDatabase::test_server().await;
    let (clock, pair) = (ManualClock::at(NOW), KeyPair::generate().unwrap());
    let file = KeysFile::new(&[&pair]);
    let service = start(&file, &database, &clock).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, _) = service.issue_key(&tenant, &[]).await;
    let [_, before] = tokens(&service, &key).await;
    database.server().faults().set(Fault::ResetBeforeExecute);
    clock.advance(Duration::from_secs(600));
    let [_, after] = tokens(&service, &key).await;
    let lifetime = async |token: &str| {
        let (_, claims) = verify(&service, token).await;
        claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap()
    };
    assert_eq!((lifetime(&before).await, lifetime(&after).await), (60, 10));
}

#[tokio::test]
async fn signing_keys_rotate_without_a_restart() {
    let database = TestDatabase::test_server().await;
    let (clock, old) = (ManualClock::at(NOW), KeyPair::generate().unwrap());
    let next = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    let file = KeysFile::new(&[&old]);
    let service = start(&file, &database, &clock).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, _) = service.issue_key(&tenant, &[]).await;
    let [_, first] = tokens(&service, &key).await;
    let (first_kid, _) = verify(&service, &first).await;
    // The next key is published, and the old one still signs.
    file.write(&[&old, &next]);
    assert!(!service.running.reloader()().signing_keys_refused);
    assert_eq!(published(&service).await.keys.len(), 2);
    let [_, second] = tokens(&service, &key).await;
    assert_eq!(verify(&service, &second).await.0, first_kid);
    // The next key signs, and the old one still verifies.
    file.write(&[&next, &old]);
    service.running.reloader()();
    let [_, third] = tokens(&service, &key).await;
    assert_ne!(verify(&service, &third).await.0, first_kid);
    verify(&service, &first).await;
    // An unusable file changes nothing, and is reported.
    std::fs::write(file.path(), "no key").unwrap();
    assert!(service.running.reloader()().signing_keys_refused);
    assert_eq!(published(&service).await.keys.len(), 2);
    let report = http_request(service.running.ops_address().unwrap(), "GET /readyz?verbose").await.unwrap();
    assert!(report.body.contains("reload refused for principal keys"), "{}", report.body);
}

/// A verifier refuses a token that is older than a change that it has received.
#[tokio::test]
async fn changed_key_gets_a_token_with_a_later_revision() {
    let database = TestDatabase::test_server().await;
    let (clock, pair) = (ManualClock::at(NOW), KeyPair::generate().unwrap());
    let file = KeysFile::new(&[&pair]);
    let service = start(&file, &database, &clock).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, key_id) = service.issue_key(&tenant, &["a"]).await;
    let claims = async || verify(&service, &tokens(&service, &key).await[1]).await.1;
    let before = claims().await["rev"].as_i64().unwrap();
    let narrow = UpdateKeyRequest { scopes: vec!["b".to_owned()], ..key_update(&key_id, &["scopes"]) };
    let changed_at = service.admin().update_key(narrow).await.unwrap().into_inner().revision;
    assert!(before < changed_at);
    let after = claims().await;
    assert_eq!((after["rev"].as_i64() >= Some(changed_at), &after["scope"]), (true, &"b".into()));
}
