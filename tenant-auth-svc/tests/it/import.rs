//! Imported keys validate, whatever their text looks like.

use proptest::{
    prelude::*,
    strategy::ValueTree as _,
    test_runner::{Config, TestRunner},
};
use tenant_auth_proto::v1::{
    self, Source, Verdict, batch_validate_keys_result::Result as Validated,
    import_key_result::Result as Imported,
};
use tenant_auth_svc::domain::key::{KeyFormat, KeyHash, PresentedKey, key_text};
use tonic::Code;

use crate::harness::{TestDatabase, TestService, owned, sessions::session_client};

/// Keys of one request, the limit of an import.
const BATCH: usize = 500;

fn sha256(key: &str) -> Vec<u8> {
    KeyHash::of(&PresentedKey::new(key.to_owned())).as_bytes().to_vec()
}

fn import_of(tenant: &str, key: &str) -> v1::ImportKey {
    v1::ImportKey {
        tenant_id: tenant.to_owned(),
        sha256: sha256(key),
        prefix_hint: key.chars().take(24).collect(),
        ..Default::default()
    }
}

async fn import(service: &TestService, keys: Vec<v1::ImportKey>) -> Vec<Imported> {
    let response = service.admin().import_keys(v1::ImportKeysRequest { keys }).await.unwrap().into_inner();
    response.results.into_iter().map(|result| result.result.unwrap()).collect()
}

async fn verdicts(service: &TestService, keys: &[String]) -> Vec<Verdict> {
    let requests =
        keys.iter().map(|key| v1::ValidateKeyRequest { key: key.clone(), ..Default::default() }).collect();
    let batch = v1::BatchValidateKeysRequest { requests };
    let results = service.validation().batch_validate_keys(batch).await.unwrap().into_inner().results;
    let verdict = |result: v1::BatchValidateKeysResult| match result.result.unwrap() {
        Validated::Response(response) => response.verdict(),
        Validated::Error(error) => panic!("{error:?}"),
    };
    results.into_iter().map(verdict).collect()
}

/// Texts near the boundaries of the rule: any text, keys of other systems, damaged keys of ours.
fn texts() -> impl Strategy<Value = String> {
    let damaged = (any::<u8>(), any::<char>()).prop_map(|(at, to)| {
        let key = KeyFormat::new("ta").unwrap().generate().unwrap();
        let mut chars: Vec<char> = key.expose().chars().collect();
        let at = usize::from(at) % chars.len();
        chars[at] = to;
        chars.into_iter().collect()
    });
    prop_oneof![
        any::<String>(),
        "[!-~]{6,12}",
        "[ -~]{8,40}",
        "[!-~]{250,260}",
        "ta_[0-9A-Za-z]{36}",
        "ta_[!-~]{0,60}",
        "(ta|t|ta_ta|sk_live)_[0-9a-f]{24}",
        "[!-~]{8,20}[\n\r\t \u{a0}\u{feff}é]",
        damaged,
    ]
}

#[tokio::test]
async fn every_text_that_can_be_a_key_validates_after_its_import() {
    let service = TestService::start(&TestDatabase::embedded()).await;
    let tenant = service.create_tenant("Acme").await;
    let mut runner = TestRunner::new(Config::default());
    let (mut keys, mut others) = (Vec::new(), Vec::new());
    while keys.len() < 4 * BATCH || others.len() < BATCH {
        let text = texts().new_tree(&mut runner).unwrap().current();
        match key_text::check(&text) {
            Ok(()) => keys.push(text),
            // An empty key is an invalid request.
            Err(_) if !text.is_empty() => others.push(text),
            Err(_) => {}
        }
    }
    for keys in keys.chunks(BATCH) {
        // Presented before the import, so that the cache has negative entries for them.
        verdicts(&service, keys).await;
        let imports = keys.iter().map(|key| import_of(&tenant, key)).collect();
        for (key, outcome) in keys.iter().zip(import(&service, imports).await) {
            assert!(matches!(outcome, Imported::ImportedKeyId(_) | Imported::ExistingKeyId(_)), "{key:?}");
        }
        for (key, verdict) in keys.iter().zip(verdicts(&service, keys).await) {
            assert_eq!(verdict, Verdict::Valid, "{key:?}");
        }
    }
    for texts in others.chunks(BATCH) {
        for (text, verdict) in texts.iter().zip(verdicts(&service, texts).await) {
            assert_eq!(verdict, Verdict::Malformed, "{text:?}");
        }
    }
}

#[tokio::test]
async fn imported_key_with_own_prefix_and_no_checksum_is_valid() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let tenant = service.create_tenant("Acme").await;
        let mut random = [0; 12];
        getrandom::fill(&mut random).unwrap();
        let key = format!("ta_{}", hex::encode(random));
        for _ in 0..2 {
            let before = service.validate(&key).await.unwrap();
            let provenance = before.provenance.unwrap();
            assert_eq!(before.verdict(), Verdict::Malformed);
            assert!(matches!(provenance.source(), Source::Database | Source::Negative), "{provenance:?}");
            assert_eq!(provenance.cacheable_for, Some(prost_types::Duration::default()));
        }
        import(&service, vec![import_of(&tenant, &key)]).await;
        assert_eq!(service.validate(&key).await.unwrap().verdict(), Verdict::Valid);
        let bind = v1::BindSessionRequest {
            session_id: format!("s-{}", hex::encode(random)),
            key,
            ttl: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
            ..Default::default()
        };
        let bound = session_client(&service).bind_session(bind).await.unwrap().into_inner();
        assert_eq!(bound.verdict(), Verdict::Valid);
    }
}

#[tokio::test]
async fn import_of_a_key_with_other_values_names_them() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let tenant = service.create_tenant("Acme").await;
        let mut random = [0; 12];
        getrandom::fill(&mut random).unwrap();
        let key = v1::ImportKey {
            scopes: owned(&["orders:read"]),
            ..import_of(&tenant, &format!("sk_live_{}", hex::encode(random)))
        };
        let imported = import(&service, vec![key.clone()]).await;
        let [Imported::ImportedKeyId(id)] = &imported[..] else { panic!("{imported:?}") };
        let expires_at = Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 });
        let other = v1::ImportKey { scopes: Vec::new(), expires_at, ..key.clone() };
        let different = |fields: &[&str]| {
            Imported::Different(v1::DifferentKey { key_id: id.clone(), fields: owned(fields) })
        };
        let again = import(&service, vec![key.clone(), other]).await;
        assert_eq!(again, [Imported::ExistingKeyId(id.clone()), different(&["scopes", "expires_at"])]);
        service.revoke_key(id).await;
        assert_eq!(import(&service, vec![key]).await, [different(&["revoked_at"])]);
    }
}

#[tokio::test]
async fn import_of_the_hash_of_an_empty_text_is_rejected() {
    let service = TestService::start(&TestDatabase::embedded()).await;
    let tenant = service.create_tenant("Acme").await;
    let outcomes = import(&service, vec![import_of(&tenant, ""), import_of(&tenant, "12345678")]).await;
    let [Imported::Error(status), Imported::ImportedKeyId(_)] = &outcomes[..] else { panic!("{outcomes:?}") };
    assert_eq!(status.message, "sha256: is the SHA-256 of an empty text, which is no key");
}

#[tokio::test]
async fn hint_that_no_key_begins_with_is_rejected() {
    let service = TestService::start(&TestDatabase::embedded()).await;
    let tenant = service.create_tenant("Acme").await;
    let with_hint = |hint: &str| v1::ImportKey { prefix_hint: hint.to_owned(), ..import_of(&tenant, hint) };
    let hints = ["sk live", "sk_live_…", "schlüssel", "sk_live_****"];
    let outcomes = import(&service, hints.map(with_hint).to_vec()).await;
    for (hint, outcome) in hints.iter().zip(&outcomes[..3]) {
        let Imported::Error(status) = outcome else { panic!("{hint}: {outcome:?}") };
        assert_eq!(Code::from(status.code), Code::InvalidArgument, "{hint}");
        assert!(status.message.starts_with("prefix_hint: "), "{}", status.message);
    }
    assert!(matches!(outcomes[3], Imported::ImportedKeyId(_)), "{outcomes:?}");
}
