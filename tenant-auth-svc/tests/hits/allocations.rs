//! Memory allocations of a cache hit.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tenant_auth_proto::v1;
use tenant_auth_svc::{
    domain::{
        clock::{ManualClock, UnixMillis},
        id::{KeyId, TenantId},
        key::{KeyFormat, KeyHash, KeyRecord},
        key_headers::KeyHeaders,
        network::AllowedNetworks,
        record_source::{CachedRecord, RecordSource},
        scope::{Scope, ScopeSet},
        store::StoreError,
        tenant::TenantStatus,
        unknown_lookup_limiter::LoadContext,
        validate::Validator,
        verdict::{Provenance, Revision, Source},
    },
    fast_path::cache_responder::CacheResponder,
    forward::{
        check::{CHECK_PATH, CheckResponder, UndecidedAs},
        door::FrontDoor,
        principal::PrincipalTokens,
    },
};

use crate::{
    harness::{NOW, front_doors::check_request, unknown_key},
    raw::{BATCH_PATH, VALIDATE_PATH, validate_request},
};

/// A cache in which every key has the same record.
struct SingleRecordCache(Arc<KeyRecord>);

impl RecordSource for SingleRecordCache {
    type Id = KeyHash;
    type Record = KeyRecord;

    fn get(&self, _: &KeyHash) -> Option<CachedRecord<KeyRecord>> {
        let provenance = Provenance { source: Source::Fresh, revision: Revision(7), ..Provenance::NO_LOOKUP };
        Some(CachedRecord { record: Some(Arc::clone(&self.0)), provenance })
    }

    async fn load(&self, _: &[KeyHash], _: &LoadContext) -> Vec<Result<CachedRecord<KeyRecord>, StoreError>> {
        panic!("a cache hit sends no request")
    }

    async fn revalidate(&self, _: &KeyHash, _: Instant) -> Result<CachedRecord<KeyRecord>, StoreError> {
        panic!("a cache hit sends no request")
    }
}

fn cache_responder() -> CacheResponder<SingleRecordCache> {
    let scopes = ["orders:read", "orders:write"].map(|name| Scope::parse(name).unwrap());
    let record = KeyRecord {
        key_id: KeyId::generate(),
        tenant_id: TenantId::generate(),
        tenant_name: "Acme Corporation".into(),
        plan: "enterprise".into(),
        tenant_status: TenantStatus::Active,
        is_disabled: false,
        scopes: ScopeSet::new(scopes.into()).unwrap(),
        allowed_networks: AllowedNetworks::EVERYWHERE,
        expires_at: Some(UnixMillis(NOW.0 + 1_000_000)),
        revoked_at: None,
        last_used_at: None,
    };
    let format = KeyFormat::new("ta").unwrap();
    let clock = ManualClock::at(NOW);
    let validator = Arc::new(Validator::new(SingleRecordCache(Arc::new(record)), format, clock));
    let key_headers = KeyHeaders::parse("authorization,x-api-key").unwrap();
    let tokens = Arc::new(PrincipalTokens::disabled());
    let door = FrontDoor::new(Arc::clone(&validator), key_headers, tokens, Duration::from_secs(1));
    let check = CheckResponder::new(Arc::new(door), Arc::default(), UndecidedAs::DeniedResponse);
    CacheResponder::new(validator, check)
}

fn grpc_frame(message: &impl prost::Message) -> Vec<u8> {
    let message = message.encode_to_vec();
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend(message);
    frame
}

/// Only the response's bytes are allocated: the query is parsed in place, and nothing of the record is
/// copied.
#[test]
fn cache_hit_allocates_only_request_and_response() {
    let hits = cache_responder();
    let count = |path: &str, frame: &[u8]| {
        // The first call allocates the encode buffer, which is kept.
        assert!(hits.respond(path, frame, Instant::now()).is_some());
        let mut answer = None;
        let counted = allocation_counter::measure(|| answer = hits.respond(path, frame, Instant::now()));
        assert!(answer.is_some());
        counted.count_total
    };
    let key = unknown_key();
    assert_eq!(count(VALIDATE_PATH, &grpc_frame(&validate_request(&key, &[]))), 1, "only the response");
    assert_eq!(
        count(VALIDATE_PATH, &grpc_frame(&validate_request(&key, &["orders:read"]))),
        1,
        "a scope allocates nothing"
    );
    let many: Vec<_> = (0..ScopeSet::MAX_SCOPES).map(|number| format!("scope:{number}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert!(
        count(VALIDATE_PATH, &grpc_frame(&validate_request(&key, &many))) < 16,
        "missing scopes make a long list"
    );

    let authorization = format!("Bearer {key}");
    let headers = [("accept", "*/*"), ("authorization", &*authorization)];
    let check = check_request(&headers, &[("scopes", "orders:read orders:write")]);
    assert_eq!(count(CHECK_PATH, &grpc_frame(&check)), 2, "only the response, and the text of the expiry");

    let batch = |size: usize| {
        let requests = vec![validate_request(&key, &["orders:read"]); size];
        count(BATCH_PATH, &grpc_frame(&v1::BatchValidateKeysRequest { requests }))
    };
    let (few, many) = (batch(64), batch(512));
    assert!(many - few <= 4, "growing lists only, and nothing per key: {few} and {many}");
}
