//! `/metrics`: contains every documented metric, no other, and correct values.

mod idle;
mod limits;
mod messages;

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1::{self, usage_service_client::UsageServiceClient};
use tenant_auth_svc::{
    config::Settings,
    domain::clock::{ManualClock, SharedClock, SystemClock},
    telemetry::names,
};
use tenant_auth_testkit::Fault;
use tonic::{Code, Request, client::Grpc, metadata::MetadataValue};
use tonic_prost::ProstCodec;

use crate::harness::{
    NOW, TestDatabase, TestService,
    front_doors::{check, check_request},
    outcome,
    scrape::{Scrape, VALIDATE, handled_series, in_flight_series, rpc_labels, verdicts_series},
    stream_request, unknown_key,
};

fn answers_series(source: &str) -> String {
    format!("tenant_auth_answers_total{{source=\"{source}\"}}")
}

fn undecided_series(reason: &str) -> String {
    format!("tenant_auth_undecided_total{{reason=\"{reason}\"}}")
}

async fn record_usage(service: &TestService, id: &str, tenants: &[&str]) -> Code {
    let event = |tenant: &&str| v1::UsageEvent {
        tenant_id: (*tenant).to_owned(),
        metric: "calls".to_owned(),
        quantity: 1,
        occurred_at: None,
    };
    let request =
        v1::RecordUsageRequest { request_id: id.to_owned(), events: tenants.iter().map(event).collect() };
    let answer = UsageServiceClient::new(service.channel.clone()).record_usage(request).await;
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

async fn validate_batch(service: &TestService, keys: &[&str]) {
    let request = |key: &&str| v1::ValidateKeyRequest {
        key: (*key).to_owned(),
        required_scopes: Vec::new(),
        ..Default::default()
    };
    let requests = keys.iter().map(request).collect();
    service.validation().batch_validate_keys(v1::BatchValidateKeysRequest { requests }).await.unwrap();
}

fn shared_clock(clock: &Arc<ManualClock>) -> SharedClock {
    Arc::clone(clock) as SharedClock
}

#[tokio::test]
async fn exported_metrics_match_documented_metrics() {
    let database = TestDatabase::test_server().await;
    let settings = database.settings().with_flag("TENANT_AUTH_FEED_INTERVAL", Some("250ms".to_owned()));
    let service = TestService::start_with(settings, SystemClock::shared()).await;
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    service.validate(&key).await.unwrap();
    check(&service, check_request(&[("x-api-key", &key)], &[])).await.unwrap();

    let text = Scrape::collect(&service).await.text;
    let after = |mark: &str| -> Vec<String> {
        text.lines().filter_map(|line| line.strip_prefix(mark)).map(str::to_owned).collect()
    };
    // What has labels appears with its first count.
    let not_counted = [
        names::REQUESTS_SHED,
        names::CONNECTIONS_ENDED,
        names::UNKNOWN_LOOKUPS_REFUSED,
        names::USAGE_EVENTS,
        names::USAGE_ROWS,
        names::OTLP_EXPORTS,
        // They need a read URL.
        names::DATABASE_READ_REPLICA_USED,
        names::DATABASE_READ_REPLICA_LAG,
        names::DATABASE_READ_REPLICA_LAG_CHANGES,
        names::DATABASE_READS,
        names::DATABASE_READ_FALLBACKS,
    ]
    .map(|metric| metric.name);
    // Process metrics exist on Linux only. Expiry metrics need TLS or a JWT token (see `expiry`).
    let is_exported = |metric: &&names::MetricDefinition| {
        let expires = ["tenant_auth_certificate_", "tenant_auth_token_"];
        (cfg!(target_os = "linux")
            || !metric.name.starts_with("process_")
            || *metric == &names::PROCESS_START)
            && !expires.iter().any(|prefix| metric.name.starts_with(prefix))
            && !not_counted.contains(&metric.name)
    };
    let all: Vec<_> = names::ALL.iter().filter(is_exported).collect();
    let types: Vec<_> =
        all.iter().map(|metric| format!("{} {}", metric.name, metric.kind.as_str())).collect();
    assert_eq!(after("# TYPE "), types);
    let helps: Vec<_> = all.iter().map(|metric| format!("{} {}", metric.name, metric.help)).collect();
    assert_eq!(after("# HELP "), helps);

    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_once(['{', ' ']).unwrap();
        let metric = names::ALL.iter().filter(|metric| name.starts_with(metric.name));
        let metric = metric.max_by_key(|metric| metric.name.len()).unwrap();
        let labels = rest.rsplit_once('}').map_or("", |(labels, _)| labels);
        let labels: Vec<_> = labels.split("\",").filter_map(|label| label.split_once('=')).collect();
        let named: Vec<_> = labels.iter().map(|(name, _)| *name).filter(|name| *name != "le").collect();
        assert_eq!(named, metric.labels, "{line}");
    }
}

#[tokio::test]
async fn every_request_and_every_item_is_counted_once() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = TestService::start_with(database.settings(), shared_clock(&clock)).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, key_id) = service.issue_key(&tenant, &[]).await;
    let unknown = unknown_key();
    for _ in 0..7 {
        service.validate(&key).await.unwrap();
    }
    service.validate(&unknown).await.unwrap();
    service.validate("!").await.unwrap();
    assert_eq!(
        service.validation().validate_key(v1::ValidateKeyRequest::default()).await.unwrap_err().code(),
        Code::InvalidArgument
    );

    let scrape = Scrape::collect(&service).await;
    // Denials count as responses like any other.
    scrape.assert_value(&handled_series(VALIDATE, "OK"), 9.0);
    scrape.assert_value(&handled_series(VALIDATE, "InvalidArgument"), 1.0);
    scrape.assert_value(&handled_series(VALIDATE, "Unavailable"), 0.0);
    assert!(scrape.text.contains(&handled_series(VALIDATE, "Unavailable")), "initially zero");
    scrape.assert_value(&in_flight_series(VALIDATE), 0.0);
    let took = |suffix: &str| format!("grpc_server_handling_seconds_{suffix}");
    scrape.assert_value(&took(&format!("count{{{}}}", rpc_labels(VALIDATE))), 10.0);
    scrape.assert_value(&took(&format!("bucket{{{},le=\"+Inf\"}}", rpc_labels(VALIDATE))), 10.0);
    assert!(scrape.value(&took(&format!("sum{{{}}}", rpc_labels(VALIDATE)))) > 0.0);
    for (verdict, count) in [("valid", 7.0), ("unknown", 1.0), ("malformed", 1.0), ("revoked", 0.0)] {
        scrape.assert_value(&verdicts_series(verdict), count);
    }
    for (source, count) in [("database", 2.0), ("fresh", 6.0), ("none", 1.0), ("stale", 0.0)] {
        scrape.assert_value(&answers_series(source), count);
    }
    scrape.assert_value("tenant_auth_cache_misses_total{cache=\"keys\"}", 2.0);
    scrape.assert_value("tenant_auth_cache_entries{cache=\"keys\",kind=\"record\"}", 1.0);
    scrape.assert_value("tenant_auth_cache_entries{cache=\"keys\",kind=\"negative\"}", 1.0);

    validate_batch(&service, &[&key, &key, &unknown, "!"]).await;
    let asked: Vec<_> = (0..3).map(|id| stream_request(id, &key)).collect();
    let stream = service.validation().stream_validate_keys(tokio_stream::iter(asked)).await;
    let mut stream = stream.unwrap().into_inner();
    while stream.message().await.unwrap().is_some() {}
    service.revoke_key(&key_id).await;
    service.validate(&key).await.unwrap();
    let scrape = Scrape::collect(&service).await;
    scrape.assert_value(&handled_series("tenantauth.v1.ValidationService/BatchValidateKeys", "OK"), 1.0);
    scrape.assert_value(&handled_series("tenantauth.v1.ValidationService/StreamValidateKeys", "OK"), 1.0);
    for (verdict, count) in [("valid", 12.0), ("unknown", 2.0), ("malformed", 2.0), ("revoked", 1.0)] {
        scrape.assert_value(&verdicts_series(verdict), count);
    }
    scrape.assert_value(&answers_series("negative"), 1.0);
}

#[tokio::test]
async fn refused_requests_are_counted() {
    let database = TestDatabase::test_server().await;
    let folder = tempfile::tempdir().unwrap();
    let callers = folder.path().join("callers.toml");
    let hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"; // "secret"
    std::fs::write(
        &callers,
        format!("[[caller]]\nname = \"api\"\nroles = [\"meter\"]\ntoken_sha256 = [\"{hash}\"]\n"),
    )
    .unwrap();
    let settings = database
        .settings()
        .with_flag("TENANT_AUTH_CALLERS_FILE", Some(callers.display().to_string()))
        .with_flag("TENANT_AUTH_MAX_REQUESTS", Some("1".to_owned()));
    let service = TestService::start_with(settings, SystemClock::shared()).await;

    assert_eq!(outcome(&service.validate("!").await), "Unauthenticated");
    let mut request = Request::new(v1::ValidateKeyRequest::default());
    let token = MetadataValue::from_static("Bearer secret");
    request.metadata_mut().insert("authorization", token.clone());
    let denied = service.validation().validate_key(request).await.unwrap_err();
    assert_eq!(denied.code(), Code::PermissionDenied);
    let mut client = Grpc::new(service.channel.clone());
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/made.up.Service/Method");
    let codec: ProstCodec<v1::ValidateKeyRequest, v1::ValidateKeyResponse> = ProstCodec::default();
    let made_up =
        client.unary(Request::new(v1::ValidateKeyRequest::default()), path, codec).await.unwrap_err();

    // A request that holds the only permit until its body ends.
    let (held, body) = tokio::sync::mpsc::channel::<v1::RecordUsageRequest>(1);
    let mut client = Grpc::new(service.channel.clone());
    let known = token.clone();
    let holding = tokio::spawn(async move {
        client.ready().await.unwrap();
        let body = tokio_stream::wrappers::ReceiverStream::new(body);
        let mut request = Request::new(body);
        request.metadata_mut().insert("authorization", token);
        let path = http::uri::PathAndQuery::from_static("/tenantauth.v1.UsageService/RecordUsage");
        let codec: ProstCodec<v1::RecordUsageRequest, v1::RecordUsageResponse> = ProstCodec::default();
        client.client_streaming(request, path, codec).await.map(drop)
    });
    let holds = async {
        while Scrape::collect(&service)
            .await
            .value("tenant_auth_request_permits_in_use{limiter=\"requests\"}")
            < 1.0
        {}
    };
    tokio::time::timeout(Duration::from_secs(30), holds).await.expect("the request takes the permit");
    for _ in 0..3 {
        let mut request = Request::new(v1::ValidateKeyRequest { key: "!".to_owned(), ..Default::default() });
        request.metadata_mut().insert("authorization", known.clone());
        assert_eq!(
            service.validation().validate_key(request).await.unwrap_err().code(),
            Code::ResourceExhausted
        );
    }
    assert_eq!(
        outcome(&service.validate("!").await),
        "Unauthenticated",
        "unknown callers have permits of their own"
    );
    let scrape = Scrape::collect(&service).await;
    scrape.assert_value(&in_flight_series("tenantauth.v1.UsageService/RecordUsage"), 1.0);
    drop(held);
    assert!(holding.await.unwrap().is_err(), "the message was invalid");

    scrape.assert_value(&handled_series(VALIDATE, "Unauthenticated"), 2.0);
    scrape.assert_value(&handled_series(VALIDATE, "PermissionDenied"), 1.0);
    scrape.assert_value(&handled_series(VALIDATE, "ResourceExhausted"), 3.0);
    scrape.assert_value("tenant_auth_requests_shed_total{limiter=\"requests\"}", 3.0);
    scrape.assert_value("tenant_auth_request_permits{limiter=\"requests\"}", 1.0);
    scrape.assert_value(&handled_series("unknown", &format!("{:?}", made_up.code())), 1.0);
    assert!(!scrape.text.contains("made.up"), "callers cannot create label values");
}

#[tokio::test]
async fn outage_is_visible_in_metrics() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let settings = database.settings().with_flag("TENANT_AUTH_FEED_INTERVAL", Some("500ms".to_owned()));
    let settings: Settings = settings.with_flag("TENANT_AUTH_CACHE_GRACE", Some("100s".to_owned()));
    let service = TestService::start_with(settings, shared_clock(&clock)).await;
    // The breaker forgets the calls of the startup.
    clock.advance(Duration::from_secs(10));
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    service.validate(&key).await.unwrap();
    service.running.feed().poll().await.unwrap();
    let scrape = Scrape::collect(&service).await;
    scrape.assert_value("tenant_auth_feed_lag_seconds", 0.0);
    scrape.assert_value("tenant_auth_database_up{operation=\"read\"}", 1.0);
    scrape.assert_value("tenant_auth_database_breaker_open{circuit=\"lookups\"}", 0.0);
    scrape.assert_value("tenant_auth_cache_grace_seconds", 100.0);
    scrape.assert_value("tenant_auth_cache_oldest_answer_age_seconds", 0.0);
    assert!(scrape.value("tenant_auth_feed_events_total") >= 2.0, "a tenant and a key were created");

    database.server().faults().set(Fault::unauthorized());
    for _ in 0..40 {
        assert_eq!(outcome(&service.validate(&unknown_key()).await), "Unavailable");
    }
    clock.advance(Duration::from_secs(60));
    // Past the entry's fresh time. The service detects the failing database with a call, or knows it already.
    assert_eq!(outcome(&service.validate(&key).await), "VERDICT_VALID");
    validate_batch(&service, &[&key, &unknown_key()]).await;
    // A failed write leaves no key undecided.
    let create = v1::CreateTenantRequest { name: "x".to_owned(), ..Default::default() };
    assert_eq!(service.admin().create_tenant(create).await.unwrap_err().code(), Code::Unavailable);
    let scrape = Scrape::collect(&service).await;
    scrape.assert_value("tenant_auth_database_up{operation=\"read\"}", 0.0);
    scrape.assert_value("tenant_auth_database_breaker_open{circuit=\"lookups\"}", 1.0);
    scrape.assert_value("tenant_auth_database_breaker_opened_total{circuit=\"lookups\"}", 1.0);
    scrape.assert_value("tenant_auth_feed_lag_seconds", 60.0);
    scrape.assert_value("tenant_auth_cache_oldest_answer_age_seconds", 60.0);
    scrape.assert_value("tenant_auth_ready", 1.0);
    scrape.assert_value(&handled_series(VALIDATE, "Unavailable"), 40.0);
    scrape.assert_value(&handled_series("tenantauth.v1.ValidationService/BatchValidateKeys", "OK"), 1.0);
    scrape.assert_value(&answers_series("stale"), 2.0);
    let failures = |kind: &str| {
        scrape.count(&format!("tenant_auth_database_failures_total{{operation=\"read\",kind=\"{kind}\"}}"))
    };
    assert!(failures("denied") >= 1.0 && failures("circuit_open") >= 1.0, "{}", scrape.text);
    let items: f64 =
        ["denied", "circuit_open"].iter().map(|kind| scrape.value(&undecided_series(kind))).sum();
    assert_eq!(items, 41.0, "each batch item counts, changes do not");

    database.server().faults().clear();
    clock.advance(Duration::from_secs(2));
    service.running.feed().poll().await.unwrap();
    assert_eq!(outcome(&service.validate(&unknown_key()).await), "VERDICT_UNKNOWN");
    let scrape = Scrape::collect(&service).await;
    scrape.assert_value("tenant_auth_database_up{operation=\"read\"}", 1.0);
    scrape.assert_value("tenant_auth_database_breaker_open{circuit=\"lookups\"}", 0.0);
    scrape.assert_value("tenant_auth_feed_lag_seconds", 0.0);
}

#[tokio::test]
async fn usage_events_are_counted_by_outcome() {
    let database = TestDatabase::test_server().await;
    let settings = database.settings().with_flag("TENANT_AUTH_USAGE_QUEUE", Some("500".to_owned()));
    let service = TestService::start_with(settings, SystemClock::shared()).await;
    let tenant = service.create_tenant("Acme").await;
    assert_eq!(record_usage(&service, "one", &[&tenant, &tenant, "nobody"]).await, Code::Ok);
    assert_eq!(record_usage(&service, "one", &[&tenant, &tenant, "nobody"]).await, Code::Ok);
    database.server().faults().set(Fault::unauthorized());
    assert_eq!(record_usage(&service, "two", &[&tenant]).await, Code::Unavailable);
    let none_left = service.running.usage_batcher_task().wait_until_queued(|waiting| waiting == 0);
    tokio::time::timeout(Duration::from_secs(30), none_left).await.expect("all requests must be answered");
    let scrape = Scrape::collect(&service).await;
    for (result, count) in
        [("counted", 2.0), ("rejected", 1.0), ("repeated", 3.0), ("failed", 1.0), ("refused", 0.0)]
    {
        scrape.assert_value(&format!("tenant_auth_usage_events_total{{outcome=\"{result}\"}}"), count);
    }
    for table in ["usage_requests", "usage_events", "usage_totals"] {
        scrape.assert_value(&format!("tenant_auth_usage_rows_written_total{{table=\"{table}\"}}"), 1.0);
    }
    scrape.assert_value("tenant_auth_usage_flush_duration_seconds_count", 3.0);
    scrape.assert_value("tenant_auth_usage_queue_events", 0.0);
    scrape.assert_value("tenant_auth_usage_queue_capacity_events", 500.0);
}

#[tokio::test]
async fn metrics_contain_no_customer_data() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Canary Limited").await;
    let (key, key_id) = service.issue_key(&tenant, &["canary:read"]).await;
    service.validate(&key).await.unwrap();
    service.validate("canary-of-another-system").await.unwrap();
    assert_eq!(record_usage(&service, "canary-request", &[&tenant]).await, Code::Ok);
    let text = Scrape::collect(&service).await.text;
    for secret in [&*key, &*key_id, &*tenant, "anary"] {
        assert!(!text.contains(secret), "{secret}:\n{text}");
    }
}
