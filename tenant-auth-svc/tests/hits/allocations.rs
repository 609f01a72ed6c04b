//! Memory allocations of a cache hit.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use prost::Message as _;
use tenant_auth_proto::v1;
use tenant_auth_svc::{
    database::{client::DatabaseClient, sql::SqlStore},
    domain::{
        cache_policy::UpstreamHealth,
        clock::{ManualClock, OptionalMillis, UnixMillis},
        id::{KeyId, TenantId},
        key::{KeyFormat, KeyHash, KeyRecord},
        key_headers::KeyHeaders,
        limit::{Cost, LimitEnforcer, consume::KeyConsumer},
        network::AllowedNetworks,
        record_source::{CachedRecord, RecordSource},
        scope::{Scope, ScopeSet},
        store::StoreError,
        tenant::{TenantSnapshot, TenantStatus},
        unknown_lookup_limiter::LoadContext,
        usage::UsageMetric,
        validate::Validator,
        verdict::{Provenance, Revision, Source},
    },
    fast_path::cache_responder::CacheResponder,
    forward::{
        check::{CHECK_PATH, CheckResponder, UndecidedAs},
        door::FrontDoor,
        principal::PrincipalTokens,
    },
    limit_leases::{LeaseExchanger, LimitLeases},
};

use crate::{
    harness::{
        NOW, TestDatabase, TestService,
        front_doors::check_request,
        limits::{consumption, limit_of, per_day, rate, store_limit},
        unknown_key,
    },
    raw::{BATCH_PATH, CONSUME_PATH, VALIDATE_PATH, validate_request},
};

/// A cache in which every key has the same record.
struct SingleRecordCache(KeyRecord);

impl RecordSource for SingleRecordCache {
    type Id = KeyHash;
    type Record = KeyRecord;

    fn get(&self, _: &KeyHash) -> Option<CachedRecord<KeyRecord>> {
        let provenance = Provenance { source: Source::Fresh, revision: Revision(7), ..Provenance::NO_LOOKUP };
        Some(CachedRecord { record: Some(self.0.clone()), provenance })
    }

    async fn load(&self, _: &[KeyHash], _: &LoadContext) -> Vec<Result<CachedRecord<KeyRecord>, StoreError>> {
        panic!("a cache hit sends no request")
    }

    async fn revalidate(&self, _: &KeyHash, _: Instant) -> Result<CachedRecord<KeyRecord>, StoreError> {
        panic!("a cache hit sends no request")
    }
}

fn record(tenant_id: TenantId, key_id: KeyId) -> KeyRecord {
    let scopes = ["orders:read", "orders:write"].map(|name| Scope::parse(name).unwrap());
    KeyRecord {
        key_id: key_id.into(),
        tenant: TenantSnapshot {
            id: tenant_id,
            name: "Acme Corporation".into(),
            plan: "enterprise".into(),
            status: TenantStatus::Active,
        }
        .into(),
        scopes: ScopeSet::new(scopes.into()).unwrap().into(),
        allowed_networks: AllowedNetworks::EVERYWHERE,
        expires_at: Some(UnixMillis(NOW.0 + 1_000_000)).into(),
        revoked_at: OptionalMillis::NONE,
        last_used_at: OptionalMillis::NONE,
        is_disabled: false,
    }
}

/// Limits that are exchanged with a real database.
fn limits(database: &TestDatabase) -> LimitLeases<SqlStore<DatabaseClient>> {
    let store = SqlStore::new(database.client(), Arc::default());
    LimitLeases::new(store, ManualClock::at(NOW), Box::new(|_| UpstreamHealth::Healthy), 100)
}

fn cache_responder<L: LimitEnforcer>(record: KeyRecord, limits: L) -> CacheResponder<SingleRecordCache, L> {
    let format = KeyFormat::new("ta").unwrap();
    let clock = ManualClock::at(NOW);
    let validator = Arc::new(Validator::new(SingleRecordCache(record), format, clock));
    let key_headers = KeyHeaders::parse("authorization,x-api-key").unwrap();
    let tokens = Arc::new(PrincipalTokens::disabled());
    let door = FrontDoor::new(Arc::clone(&validator), key_headers, tokens, Duration::from_secs(1));
    let check = CheckResponder::new(Arc::new(door), Arc::default(), UndecidedAs::DeniedResponse);
    let consumer = Arc::new(KeyConsumer::new(Arc::clone(&validator), limits));
    CacheResponder::new(validator, consumer, check)
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
#[tokio::test]
async fn cache_hit_allocates_only_request_and_response() {
    let database = TestDatabase::test_server().await;
    let hits = cache_responder(record(TenantId::generate(), KeyId::generate()), limits(&database));
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

/// One allocation more than a validation: the list of limits.
#[tokio::test]
async fn decision_from_a_lease_allocates_the_list_of_limits_and_the_response() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start_at(&database, &ManualClock::at(NOW)).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, key_id) = service.issue_key(&tenant, &[]).await;
    store_limit(&service, limit_of(&tenant, "requests.daily", per_day(1_000_000))).await;
    store_limit(&service, limit_of(&tenant, "requests.rate", rate(100_000, 1, 100_000))).await;
    let limits = limits(&database);
    let _exchanger = LeaseExchanger::start(limits.clone());
    let record = record(TenantId::parse(&tenant).unwrap(), KeyId::parse(&key_id).unwrap());
    let costs = [Cost { metric: UsageMetric::parse("requests").unwrap(), amount: 1 }].into_iter().collect();
    let deadline = Instant::now() + Duration::from_secs(10);
    assert_eq!(limits.take(&record, &costs, deadline).await.unwrap().denial, None);

    let hits = cache_responder(record, limits);
    let frame = grpc_frame(&consumption(&key, &[("requests", 1)]));
    assert!(hits.respond(CONSUME_PATH, &frame, Instant::now()).is_some());
    let mut response = None;
    let counted =
        allocation_counter::measure(|| response = hits.respond(CONSUME_PATH, &frame, Instant::now()));
    let response = v1::ConsumeResponse::decode(&response.unwrap().frame[5..]).unwrap();
    assert_eq!((response.verdict(), response.limits.len()), (v1::Verdict::Valid, 2));
    assert_eq!(response.limits[0].decided_by(), v1::DecidedBy::Lease);
    assert_eq!(counted.count_total, 2, "the list of limits, and the response");
}
