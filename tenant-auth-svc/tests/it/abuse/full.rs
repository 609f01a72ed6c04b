//! Fills everything that has a limit at the same time.

use std::collections::HashMap;

use futures::{StreamExt as _, stream};
use tenant_auth_proto::v1::{
    self, Verdict, admin_service_client::AdminServiceClient, session_service_client::SessionServiceClient,
    validation_service_client::ValidationServiceClient,
};
use tenant_auth_svc::domain::key::{KeyHash, PresentedKey};
use tonic::Code;

use super::attacks::{
    BATCH, CLOSED_WINDOW, OPEN_WINDOW, OpenRequests, STREAM, STREAMS_PER_CONNECTION, send_unfinished_requests,
};
use crate::harness::{
    unknown_key,
    victim::{CallerResults, GOOD_TOKEN, GREEDY_TOKEN, ProcessLimits, Victim},
    wire::with_token,
};

/// The chart's memory limit, in bytes.
const CHART_MEMORY_LIMIT: u64 = 512 * 1_024 * 1_024;
/// Number of concurrent calls that fill the caches.
const CONCURRENT_CALLS: usize = 16;

/// Entries in each cache: few by default; with `TENANT_AUTH_TEST_LONG`, the default capacity, which takes
/// minutes.
fn cache_capacity() -> usize {
    if std::env::var_os("TENANT_AUTH_TEST_LONG").is_some() { 100_000 } else { 2_000 }
}

fn key_plaintext(number: usize) -> String {
    format!("a-key-of-another-shape-{number:06}")
}

/// Imports as many keys as the cache has entries. Each key has the maximum number of scopes, each of the
/// maximum length.
async fn import_keys(victim: &Victim, count: usize) {
    let tenant = v1::CreateTenantRequest {
        tenant_id: "full".to_owned(),
        name: "Full".to_owned(),
        ..Default::default()
    };
    let mut admin = AdminServiceClient::new(victim.good_caller_channel());
    admin.create_tenant(with_token(GOOD_TOKEN, tenant)).await.unwrap();
    let scopes: Vec<_> = (0..32).map(|number| format!("{}{number:02}", "s".repeat(62))).collect();
    let key = |number| v1::ImportKey {
        tenant_id: "full".to_owned(),
        sha256: KeyHash::of(&PresentedKey::new(key_plaintext(number))).as_bytes().to_vec(),
        scopes: scopes.clone(),
        ..Default::default()
    };
    let numbers: Vec<_> = (0..count).collect();
    for page in numbers.chunks(250) {
        let request = v1::ImportKeysRequest { keys: page.iter().copied().map(key).collect() };
        admin.import_keys(with_token(GOOD_TOKEN, request)).await.unwrap();
    }
}

async fn validate_keys(victim: &Victim, keys: impl Iterator<Item = String>, expected: Verdict) {
    let keys: Vec<_> = keys.collect();
    let ask = async |page: &[String]| {
        let one = |key: &String| v1::ValidateKeyRequest { key: key.clone(), ..Default::default() };
        let request = v1::BatchValidateKeysRequest { requests: page.iter().map(one).collect() };
        let mut client = ValidationServiceClient::new(victim.good_caller_channel())
            .max_decoding_message_size(16 * 1_024 * 1_024);
        for result in
            client.batch_validate_keys(with_token(GOOD_TOKEN, request)).await.unwrap().into_inner().results
        {
            match result.result.unwrap() {
                v1::batch_validate_keys_result::Result::Response(response) => {
                    assert_eq!(response.verdict(), expected)
                }
                v1::batch_validate_keys_result::Result::Error(error) => panic!("{error:?}"),
            }
        }
    };
    for page in keys.chunks(500) {
        ask(page).await;
    }
}

/// Binds sessions whose attributes have the maximum length.
async fn bind_sessions(victim: &Victim, count: usize) {
    let attributes: HashMap<_, _> = (0..16).map(|number| (format!("{number:02}"), "v".repeat(126))).collect();
    let bind = async |number: usize| {
        let request = v1::BindSessionRequest {
            session_id: format!("{number:01024}"),
            key: key_plaintext(number % 1_000),
            ttl: Some(prost_types::Duration { seconds: 3_600, nanos: 0 }),
            attributes: attributes.clone(),
            ..Default::default()
        };
        let mut client = SessionServiceClient::new(victim.good_caller_channel());
        let mut bind = async || client.bind_session(with_token(GOOD_TOKEN, request.clone())).await;
        let bound = match bind().await {
            // A call may hit the moment at which its connection reaches its maximum age.
            Err(status) if status.code() != Code::ResourceExhausted => bind().await,
            bound => bound,
        };
        assert_eq!(bound.unwrap().into_inner().verdict(), Verdict::Valid);
    };
    stream::iter((0..count).map(bind)).buffer_unordered(CONCURRENT_CALLS).collect::<()>().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_bounded_resources_full_at_once_fit_in_memory_limit() {
    let capacity = cache_capacity();
    let number = capacity.to_string();
    let settings = [
        ("TENANT_AUTH_CACHE_KEYS", number.as_str()),
        ("TENANT_AUTH_CACHE_SESSIONS", number.as_str()),
        ("TENANT_AUTH_CACHE_NEGATIVE_ENTRIES", number.as_str()),
        ("TENANT_AUTH_SESSIONS_PER_TENANT", "1000000"),
        // The only limit that would prevent the test from reaching the others.
        ("TENANT_AUTH_UNKNOWN_LOOKUPS_PER_CALLER", "1000000"),
        ("TENANT_AUTH_UNKNOWN_LOOKUPS", "1000000"),
    ];
    let victim = Victim::start_with(ProcessLimits::default(), &settings).await;
    let before = victim.resident_memory();

    import_keys(&victim, capacity).await;
    validate_keys(&victim, (0..capacity).map(key_plaintext), Verdict::Valid).await;
    bind_sessions(&victim, capacity / 4).await;
    validate_keys(&victim, (0..capacity).map(|_| unknown_key()), Verdict::Unknown).await;
    let memory = victim.resident_memory();
    let one =
        |number: usize| v1::ValidateKeyRequest { key: key_plaintext(number % 1_000), ..Default::default() };
    let batch = v1::BatchValidateKeysRequest { requests: (0..1_000).map(one).collect() };
    let mut streams = OpenRequests::default();
    streams.open_requests(&victim, 6, 100, CLOSED_WINDOW, BATCH, Some(GREEDY_TOKEN), &batch).await;
    let nothing = v1::StreamValidateKeysRequest::default();
    streams
        .open_requests(&victim, 26, STREAMS_PER_CONNECTION, OPEN_WINDOW, STREAM, Some(GREEDY_TOKEN), &nothing)
        .await;
    let _halves = send_unfinished_requests(&victim).await;
    let _streams = streams.outcome();

    let mut seen = CallerResults::default();
    victim.run_good_calls(&mut seen).await;
    let all = victim.resident_memory();
    let mib = |bytes: u64| bytes as f64 / (1_024.0 * 1_024.0);
    println!(
        "{capacity} entries each: {:.0} MiB, caches full {:.0}, everything full {:.0}",
        mib(before),
        mib(memory),
        mib(all)
    );
    assert!(seen.errors.is_empty(), "{:?}", seen.errors);
    assert!(all <= CHART_MEMORY_LIMIT, "{all} bytes");
}
