//! OTLP export: spans of sampled requests, metrics, and a collector that does not respond.

use opentelemetry_proto::tonic::{
    metrics::v1::{HistogramDataPoint, metric::Data, number_data_point::Value},
    trace::v1::{Span, status::StatusCode},
};
use tenant_auth_proto::v1;
use tenant_auth_svc::{domain::clock::ManualClock, telemetry::names};
use tenant_auth_testkit::Fault;
use tonic::Request;

use crate::harness::{
    NOW, TOKEN, TestDatabase, TestService,
    captured::TestLog,
    collector::{Collector, attribute_text},
    outcome,
    scrape::Scrape,
    unknown_key,
};

const PARENT_SPAN: &str = "b7ad6b7169203331";

/// Starts a service that exports to a collector.
async fn service_with_collector(database: &TestDatabase, endpoint: &str, share: &str) -> TestService {
    let settings = database
        .settings()
        .with_flag("TENANT_AUTH_OTLP_ENDPOINT", Some(endpoint.to_owned()))
        .with_flag("TENANT_AUTH_TRACE_SAMPLE", Some(share.to_owned()));
    // The clock is stopped, so that fresh entries stay fresh on a busy machine.
    TestService::start_with(settings, ManualClock::at(NOW)).await
}

/// Validates as a caller that sends a trace context, sampled or not.
async fn validate(service: &TestService, key: &str, trace: &str, sampled: bool) {
    let mut request = Request::new(v1::ValidateKeyRequest {
        key: key.to_owned(),
        required_scopes: Vec::new(),
        ..Default::default()
    });
    let parent = format!("00-{trace}-{PARENT_SPAN}-0{}", u8::from(sampled));
    request.metadata_mut().insert("traceparent", parent.parse().unwrap());
    // The span contains the result.
    let _ = service.validation().validate_key(request).await;
}

fn spans_of_trace<'a>(spans: &'a [Span], trace: &str) -> Vec<&'a Span> {
    spans.iter().filter(|span| hex::encode(&span.trace_id) == trace).collect()
}

#[tokio::test]
async fn trace_continues_to_database_call() {
    let captured = TestLog::shared();
    let (database, collector) = (TestDatabase::test_server().await, Collector::start().await);
    let service = service_with_collector(&database, &collector.endpoint, "0").await;
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    let trace = "0af7651916cd43dd8448eb211c803101";
    validate(&service, &key, trace, true).await;
    let got = collector.wait_until(|got| spans_of_trace(&got.spans, trace).len() == 2).await;

    let spans = spans_of_trace(&got.spans, trace);
    let find = |name: &str| *spans.iter().find(|span| span.name == name).unwrap();
    let rpc = find("tenantauth.v1.ValidationService/ValidateKey");
    assert_eq!(hex::encode(&rpc.parent_span_id), PARENT_SPAN);
    let says = |span: &Span, name: &str| attribute_text(&span.attributes, name).unwrap();
    assert_eq!(says(rpc, "rpc.method"), "tenantauth.v1.ValidationService/ValidateKey");
    assert_eq!(says(rpc, "rpc.response.status_code"), "OK");
    assert_eq!(says(rpc, "tenant_auth.verdict"), "valid");
    assert_eq!(says(rpc, "tenant_auth.source"), "database");
    assert_eq!(says(rpc, "rpc.system.name"), "grpc");
    let call = find("query");
    assert_eq!(call.parent_span_id, rpc.span_id);
    assert_eq!((&*says(call, "tenant_auth.lane"), &*says(call, "db.operation.name")), ("unknown", "query"));
    assert_eq!((&*says(call, "db.system.name"), &*says(call, "server.address")), ("sqlite", "127.0.0.1"));
    assert_eq!(attribute_text(&call.attributes, "error.type"), None, "it did not fail");
    assert_eq!(got.spans.len(), 2, "the other requests are not sampled: {:?}", got.spans);
    let lines = captured.lines(1, |line| line.contains(trace) && line.contains("tenant_auth::rpc")).await;
    let line = lines.first().expect("the trace is in the access log");
    assert!(line.contains(&format!("\"trace_id\":\"{trace}\"")) && line.contains("ValidateKey"), "{line}");
    assert!(line.contains(&format!("\"span_id\":\"{}\"", hex::encode(&rpc.span_id))), "{line}");

    // First from the cache, then failing.
    let (memory, failed) = ("0af7651916cd43dd8448eb211c803102", "0af7651916cd43dd8448eb211c803103");
    validate(&service, &key, memory, true).await;
    validate(&service, &key, "0af7651916cd43dd8448eb211c803104", false).await;
    database.server().faults().set(Fault::unauthorized());
    validate(&service, &unknown_key(), failed, true).await;
    let got = collector.wait_until(|got| got.spans.len() >= 5).await;
    assert_eq!((spans_of_trace(&got.spans, memory).len(), got.spans.len()), (1, 5));
    let spans = spans_of_trace(&got.spans, failed);
    assert_eq!(spans.len(), 2);
    for span in spans {
        assert_eq!(span.status.as_ref().unwrap().code(), StatusCode::Error, "{span:?}");
        let failure = if span.name == "query" { "denied" } else { "UNAVAILABLE" };
        assert_eq!(attribute_text(&span.attributes, "error.type").as_deref(), Some(failure), "{span:?}");
    }
}

#[tokio::test]
async fn untraced_requests_are_sampled_and_spans_flushed_at_shutdown() {
    let (database, collector) = (TestDatabase::test_server().await, Collector::start().await);
    let service = service_with_collector(&database, &collector.endpoint, "1").await;
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    for _ in 0..5 {
        service.validate(&key).await.unwrap();
    }
    validate(&service, &key, "0af7651916cd43dd8448eb211c803201", false).await;
    service.running.stop().await;
    let got = collector.received();
    let validations = got.spans.iter().filter(|span| span.name.ends_with("/ValidateKey"));
    assert_eq!(validations.count(), 5);
    let admin = got.spans.iter().find(|span| span.name.ends_with("/IssueKey")).unwrap();
    assert!(admin.parent_span_id.is_empty());
    let below = |span: &&Span| span.parent_span_id == admin.span_id;
    assert!(got.spans.iter().any(|span| below(&span) && span.name == "transaction"));

    let metric = |name: &str| got.metrics.iter().find(|metric| metric.name == name).unwrap();
    let Some(Data::Sum(sum)) = &metric("tenant_auth_verdicts").data else { panic!("a counter is a sum") };
    let valid = sum
        .data_points
        .iter()
        .find(|point| attribute_text(&point.attributes, "verdict").as_deref() == Some("valid"));
    assert_eq!(valid.unwrap().value, Some(Value::AsDouble(6.0)));
    assert!(sum.is_monotonic);
    for (name, labels) in [
        ("rpc.server.call.duration", [("rpc.system.name", "grpc"), ("rpc.response.status_code", "OK")]),
        (
            "db.client.operation.duration",
            [("db.system.name", "sqlite"), ("db.operation.name", "transaction")],
        ),
    ] {
        assert_eq!(metric(name).unit, "s");
        let Some(Data::Histogram(times)) = &metric(name).data else { panic!("the type must match") };
        let has = |point: &&HistogramDataPoint| {
            let says = |(label, value): &(&str, &str)| {
                attribute_text(&point.attributes, label).as_deref() == Some(value)
            };
            labels.iter().all(says) && attribute_text(&point.attributes, "error.type").is_none()
        };
        assert!(times.data_points.iter().any(|point| has(&point)), "{times:?}");
    }
    for name in ["grpc_server_handling", "tenant_auth_database_call_duration"] {
        assert!(got.metrics.iter().all(|metric| metric.name != name), "{name} has another name here");
    }
    let Some(Data::Histogram(times)) = &metric("rpc.server.call.duration").data else {
        panic!("the type must match")
    };
    for point in &times.data_points {
        assert_eq!(point.bucket_counts.iter().sum::<u64>(), point.count);
        assert_eq!(point.bucket_counts.len(), point.explicit_bounds.len() + 1);
    }
    let Some(Data::Gauge(_)) = &metric(names::PROCESS_START.otlp_name()).data else {
        panic!("the type must match")
    };
}

#[tokio::test]
async fn unreachable_collector_does_not_affect_requests() {
    let database = TestDatabase::test_server().await;
    let hanging = Collector::start_hanging().await;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let away = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    for endpoint in [hanging.endpoint.clone(), away] {
        let service = service_with_collector(&database, &endpoint, "1").await;
        if endpoint == hanging.endpoint {
            hanging.wait_until(|got| got.requests > 0).await;
        }
        let session_calls = (0..100).map(|_| service.validate("!"));
        for answer in futures::future::join_all(session_calls).await {
            assert_eq!(outcome(&answer), "VERDICT_MALFORMED");
        }
        let scrape = Scrape::collect(&service).await;
        scrape.assert_value("tenant_auth_verdicts_total{verdict=\"malformed\"}", 100.0);
        scrape.assert_value("tenant_auth_otlp_spans_total{outcome=\"exported\"}", 0.0);
        service.running.stop().await;
    }
}

#[tokio::test]
async fn spans_contain_no_secrets() {
    let (database, collector) = (TestDatabase::test_server().await, Collector::start().await);
    let service = service_with_collector(&database, &collector.endpoint, "1").await;
    let tenant = service.create_tenant("Canary Limited").await;
    let (key, _) = service.issue_key(&tenant, &["a"]).await;
    let session = v1::BindSessionRequest {
        session_id: "canary-session".to_owned(),
        key: key.clone(),
        ttl: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
        expiry: v1::SessionExpiry::Fixed.into(),
        ..v1::BindSessionRequest::default()
    };
    let mut sessions = v1::session_service_client::SessionServiceClient::new(service.channel.clone());
    let bound = sessions.bind_session(session).await;
    for fault in [None, Some(Fault::html_ok()), Some(Fault::TruncatedJson), Some(Fault::unauthorized())] {
        if let Some(fault) = fault {
            database.server().faults().set(fault);
        }
        let request = v1::ValidateSessionRequest {
            session_id: "canary-session".to_owned(),
            key: key.clone(),
            ..v1::ValidateSessionRequest::default()
        };
        // The result does not matter here.
        let _ = service.validation().validate_session(request).await;
        let _ = service.validate(&format!("{key}-unseen")).await;
        let _ = service.validate(&unknown_key()).await;
    }
    assert!(bound.is_ok(), "{bound:?}");
    service.running.stop().await;
    let got = collector.received();
    assert!(got.spans.len() > 10, "without spans the test proves nothing");
    let sent = format!("{:?}{:?}", got.spans, got.metrics);
    for secret in [&*key, "anary", TOKEN, &*tenant] {
        assert!(!sent.contains(secret), "{secret} was sent to the collector");
    }
}

#[tokio::test]
async fn standard_otel_variables_are_applied() {
    let (database, collector) = (TestDatabase::test_server().await, Collector::start().await);
    let settings = database
        .settings()
        .with_flag("TENANT_AUTH_OTLP_ENDPOINT", Some(collector.endpoint.clone()))
        .with_flag("TENANT_AUTH_TRACE_SAMPLE", Some("1".to_owned()))
        .with_flag("OTEL_EXPORTER_OTLP_HEADERS", Some("x-team=blue%20one".to_owned()))
        .with_flag("OTEL_SERVICE_NAME", Some("auth".to_owned()))
        .with_flag(
            "OTEL_RESOURCE_ATTRIBUTES",
            Some("deployment.environment.name=eu,service.name=other,service.version=0".to_owned()),
        );
    let service = TestService::start_with(settings, ManualClock::at(NOW)).await;
    service.validate(&unknown_key()).await.unwrap();
    service.running.stop().await;
    let got = collector.received();
    assert!(!got.spans.is_empty() && !got.metrics.is_empty());
    for (attributes, headers) in &got.senders {
        let says = |name: &str| attribute_text(attributes, name).unwrap();
        assert_eq!(headers["x-team"], "blue one");
        assert_eq!((&*says("service.name"), &*says("deployment.environment.name")), ("auth", "eu"));
        assert_eq!(
            says("service.version"),
            env!("CARGO_PKG_VERSION"),
            "the version attribute cannot be overridden"
        );
        assert!(!says("service.instance.id").is_empty());
    }
}
