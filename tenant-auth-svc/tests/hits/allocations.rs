//! What a hit allocates.

use std::{sync::Arc, time::Instant};

use tenant_auth_proto::v1;
use tenant_auth_svc::{
    domain::{
        clock::{ManualClock, UnixMillis},
        guesses::OnBehalf,
        id::{KeyId, TenantId},
        key::{KeyFormat, KeyHash, KeyRecord},
        knowledge::{Knowledge, RecordSource},
        scope::{Scope, ScopeSet},
        store::StoreError,
        tenant::TenantStatus,
        validate::Validator,
        verdict::{Provenance, Revision, Source},
    },
    fast_path::hits::Hits,
};

use crate::{
    BATCH, UNARY,
    harness::{NOW, strange_key},
    question,
};

/// Memory that knows every key to be the same.
struct OneForAll(Arc<KeyRecord>);

impl RecordSource for OneForAll {
    type Id = KeyHash;
    type Record = KeyRecord;

    fn recall(&self, _: &KeyHash) -> Option<Knowledge<KeyRecord>> {
        let provenance = Provenance { source: Source::Fresh, revision: Revision(7), ..Provenance::BY_LOOKS };
        Some(Knowledge { record: Some(Arc::clone(&self.0)), provenance })
    }

    async fn fetch(&self, _: &[KeyHash], _: &OnBehalf) -> Vec<Result<Knowledge<KeyRecord>, StoreError>> {
        panic!("a hit asks nobody")
    }

    async fn verify(&self, _: &KeyHash, _: Instant) -> Result<Knowledge<KeyRecord>, StoreError> {
        panic!("a hit asks nobody")
    }
}

fn hits() -> Hits<OneForAll> {
    let scopes = ["orders:read", "orders:write"].map(|name| Scope::parse(name).unwrap());
    let record = KeyRecord {
        key_id: KeyId::generate(),
        tenant_id: TenantId::generate(),
        tenant_name: "Acme Corporation".into(),
        plan: "enterprise".into(),
        tenant_status: TenantStatus::Active,
        scopes: ScopeSet::new(scopes.into()).unwrap(),
        expires_at: Some(UnixMillis(NOW.0 + 1_000_000)),
        revoked_at: None,
        last_used_at: None,
    };
    let format = KeyFormat::new("ta").unwrap();
    let clock = ManualClock::at(NOW);
    Hits::new(Arc::new(Validator::new(OneForAll(Arc::new(record)), format, clock)))
}

fn framed(message: &impl prost::Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    frame
}

/// The answer's bytes, and nothing else: the question is read where it lies, and nothing of the record is copied on its way.
#[test]
fn a_hit_allocates_what_is_asked_and_what_is_answered() {
    let hits = hits();
    let count = |path: &str, frame: &[u8]| {
        // The first one makes room for drafts, which stays.
        assert!(hits.answer(path, frame).is_some());
        let mut answer = None;
        let counted = allocation_counter::measure(|| answer = hits.answer(path, frame));
        assert!(answer.is_some());
        counted.count_total
    };
    let key = strange_key();
    assert_eq!(count(UNARY, &framed(&question(&key, &[]))), 1, "the answer");
    assert_eq!(count(UNARY, &framed(&question(&key, &["orders:read"]))), 1, "a scope costs nothing");
    let many: Vec<_> = (0..ScopeSet::MAX_SCOPES).map(|number| format!("scope:{number}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert!(count(UNARY, &framed(&question(&key, &many))) < 16, "those that are missing make a long list");

    let batch = |size: usize| {
        let requests = vec![question(&key, &["orders:read"]); size];
        count(BATCH, &framed(&v1::BatchValidateKeysRequest { requests }))
    };
    let (few, many) = (batch(64), batch(512));
    assert!(many - few <= 4, "lists that grow, and nothing for each key: {few} and {many}");
}
