//! `/livez` and `/readyz` in every state of the service, and the shutdown.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tenant_auth_proto::v1::{self, Verdict, validation_service_client::ValidationServiceClient};
use tenant_auth_svc::{
    config::{LogConfig, LogFormat, Settings},
    domain::clock::{ManualClock, SharedClock, SystemClock},
    telemetry::logging,
};
use tenant_auth_testkit::Fault;
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;

use crate::harness::{
    HttpAnswer, NOW, TestDatabase, TestService, captured::TestLog, http_request, http_until, outcome,
    unknown_key,
};

/// Longer than any test, so that something else ends it.
const LONGER_THAN_TEST: &str = "300s";
/// Maximum time to wait for an expected event.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

fn ops_address(service: &TestService) -> SocketAddr {
    service.running.ops_address().unwrap()
}

async fn get_path(service: &TestService, path: &str) -> HttpAnswer {
    http_request(ops_address(service), &format!("GET {path}")).await.unwrap()
}

/// Returns what `/readyz` reports, without and with details, and the status that both must share.
async fn readyz(service: &TestService) -> (u16, String, String) {
    let short = get_path(service, "/readyz").await;
    let verbose = get_path(service, "/readyz?verbose").await;
    let machine = get_path(service, "/readyz?verbose&format=json").await;
    assert_eq!((short.status, short.status), (verbose.status, machine.status));
    (short.status, short.body, verbose.body)
}

async fn readiness_json(service: &TestService) -> Value {
    let answer = get_path(service, "/readyz?verbose&format=json").await;
    assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    serde_json::from_str(&answer.body).unwrap()
}

async fn is_alive(service: &TestService) -> bool {
    let answer = get_path(service, "/livez").await;
    (answer.status, &*answer.body) == (200, "ok")
}

#[track_caller]
fn assert_line(report_text: &str, line: &str) {
    assert!(report_text.lines().any(|report_text| report_text == line), "{line}:\n{report_text}");
}

#[track_caller]
fn assert_line_starts(report_text: &str, start: &str) {
    assert!(report_text.lines().any(|report_text| report_text.starts_with(start)), "{start}:\n{report_text}");
}

fn shared_clock(clock: &Arc<ManualClock>) -> SharedClock {
    Arc::clone(clock) as SharedClock
}

#[tokio::test]
async fn service_is_live_before_it_is_ready() {
    let mut database = TestDatabase::test_server().await;
    database.server_mut().stop().await;
    let clock = ManualClock::at(NOW);
    let mut service = TestService::start_unready(database.settings(), shared_clock(&clock)).await;
    // By now the database has been called, by this request or another.
    assert_eq!(outcome(&service.validate(&unknown_key()).await), "Unavailable");
    clock.advance(Duration::from_secs(312));
    assert!(is_alive(&service).await);
    let (status, short, verbose) = readyz(&service).await;
    assert_eq!((status, &*short), (503, "waiting"));
    assert_line(&verbose, "process   waiting for the database since 2026-09-21T14:13:20Z, 312 s");
    assert_line_starts(
        &verbose,
        "reads     failing (unreachable) since 2026-09-21T14:13:20Z, 312 s; last tried ",
    );
    assert_line(&verbose, "breaker   closed");
    assert_line(&verbose, "feed      off");

    database.server_mut().start_again().unwrap();
    service.running.wait_until_ready().await.unwrap();
    clock.advance(Duration::from_secs(2));
    let (status, short, verbose) = readyz(&service).await;
    assert_eq!((status, &*short), (200, "ready"));
    assert_line(&verbose, "process   ready since 2026-09-21T14:18:32Z, 2 s");
    assert_line_starts(&verbose, "reads     works since 2026-09-21T14:18:32Z, 2 s; last tried ");
    assert!(is_alive(&service).await);
}

#[tokio::test]
async fn readiness_survives_outage_and_reports_cause() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    // One call uses up the whole time budget.
    let settings = database
        .settings()
        .with_flag("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", Some("5s".to_owned()))
        .with_flag("TENANT_AUTH_DATABASE_TIMEOUT", Some("5s".to_owned()));
    let service = TestService::start_with(settings, shared_clock(&clock)).await;
    let (known, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    service.validate(&known).await.unwrap();
    clock.advance(Duration::from_secs(8));

    database.server().faults().set(Fault::service_unavailable());
    assert_eq!(outcome(&service.validate(&unknown_key()).await), "Unavailable");
    clock.advance(Duration::from_secs(300));
    let (status, short, verbose) = readyz(&service).await;
    assert_eq!((status, &*short), (200, "ready"));
    assert_line(&verbose, "process   ready since 2026-09-21T14:13:20Z, 308 s");
    assert_line_starts(
        &verbose,
        "reads     failing (unreachable) since 2026-09-21T14:13:28Z, 300 s; last tried ",
    );

    // The same outage with another kind of failure.
    database.server().faults().set(Fault::Hang);
    assert_eq!(outcome(&service.validate(&unknown_key()).await), "Unavailable");
    clock.advance(Duration::from_secs(12));
    // The response may be sent before the call to the database has timed out.
    let gives_up = |answer: &HttpAnswer| answer.body.contains("failing (timed_out)");
    let verbose = http_until(ops_address(&service), "GET /readyz?verbose", gives_up).await.body;
    assert_line_starts(
        &verbose,
        "reads     failing (timed_out) since 2026-09-21T14:13:28Z, 312 s; last tried ",
    );
    assert_line(&verbose, "breaker   closed");

    database.server().faults().set(Fault::unauthorized());
    for _ in 0..20 {
        assert_eq!(outcome(&service.validate(&unknown_key()).await), "Unavailable");
    }
    assert_eq!(
        service.validate(&known).await.unwrap().verdict(),
        Verdict::Valid,
        "the cached key is the reason for readiness"
    );
    let (status, _, verbose) = readyz(&service).await;
    assert_eq!(status, 200);
    assert_line_starts(&verbose, "reads     failing (denied) since 2026-09-21T14:13:28Z, 312 s; last tried ");
    assert!(verbose.contains("\nbreaker   open for lookups: "), "{verbose}");
    let report_text = readiness_json(&service).await;
    assert_eq!(report_text["ready"], true);
    assert_eq!(report_text["now"], "2026-09-21T14:18:40Z");
    let expected = json!({
        "state": "failing", "failure": "denied", "since": "2026-09-21T14:13:28Z", "for_ms": 312_000,
        "last_tried_ms": 0,
    });
    assert_eq!(report_text["reads"], expected);
    assert_eq!(
        report_text["database"],
        json!({
            "distrust_reason": null, "distrusted_since": null, "read_replica_stalled_ms": null, "read_route": null,
        })
    );
    assert_eq!(report_text["breaker"]["state"], "open");
    assert_eq!(report_text["feed"]["state"], "off");

    database.server().faults().clear();
    clock.advance(Duration::from_secs(1));
    assert_eq!(service.validate(&unknown_key()).await.unwrap().verdict(), Verdict::Unknown);
    let (_, _, verbose) = readyz(&service).await;
    assert_line_starts(&verbose, "reads     works since 2026-09-21T14:18:41Z, 0 ms; last tried ");
    assert_line(&verbose, "breaker   closed");
}

#[tokio::test]
async fn silent_feed_is_reported_and_keeps_readiness() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let settings = database.settings().with_flag("TENANT_AUTH_FEED_INTERVAL", Some("10ms".to_owned()));
    let service = TestService::start_with(settings, shared_clock(&clock)).await;
    let feed_is_live = |answer: &HttpAnswer| answer.body.contains("\nfeed      live, last poll 0 ms ago\n");
    http_until(ops_address(&service), "GET /readyz?verbose", feed_is_live).await;

    database.server().faults().set(Fault::service_unavailable());
    clock.advance(Duration::from_secs(313));
    let (status, _, verbose) = readyz(&service).await;
    assert_eq!(status, 200);
    assert_line(&verbose, "feed      silent since 2026-09-21T14:13:20Z, 313 s");
    let feed = readiness_json(&service).await["feed"].clone();
    let expected = json!({ "state": "silent", "last_poll": "2026-09-21T14:13:20Z", "ago_ms": 313_000 });
    assert_eq!(feed, expected);

    database.server().faults().clear();
    // The breaker may be open by now, and then waits for its timeout.
    let live_again = |answer: &HttpAnswer| {
        clock.advance(Duration::from_millis(100));
        answer.body.contains("\nfeed      live, ")
    };
    http_until(ops_address(&service), "GET /readyz?verbose", live_again).await;
}

#[tokio::test]
async fn unusable_schema_is_never_ready() {
    let database = TestDatabase::test_server().await;
    drop(TestService::start(&database).await);
    let newer =
        "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES (999, 'x', 'x', 1)";
    database.server().execute(newer).unwrap();
    let clock = ManualClock::at(NOW);
    let mut service = TestService::start_unready(database.settings(), shared_clock(&clock)).await;
    service.running.wait_until_ready().await.unwrap_err();
    let (status, short, verbose) = readyz(&service).await;
    assert_eq!((status, &*short), (503, "unusable"));
    assert_line(
        &verbose,
        "process   unusable (schema_newer) since 2026-09-21T14:13:20Z, 0 ms; the log says what to do",
    );
    assert_line_starts(&verbose, "reads     works since 2026-09-21T14:13:20Z, 0 ms; last tried ");
    assert_eq!(readiness_json(&service).await["process"]["reason"], "schema_newer");
    assert!(is_alive(&service).await);
}

#[tokio::test]
async fn unknown_ops_path_lists_available_paths() {
    let service = TestService::start(&TestDatabase::embedded()).await;
    for path in ["/", "/metrics/x", "/livez/", "/readyz/verbose", "//readyz"] {
        let answer = get_path(&service, path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.body.lines().count(), 1, "{path}");
        assert!(answer.body.contains("/livez") && answer.body.contains("/readyz?verbose"), "{}", answer.body);
    }
    for path in ["/livez", "/readyz", "/readyz?verbose"] {
        let head = http_request(ops_address(&service), &format!("HEAD {path}")).await.unwrap();
        assert_eq!((head.status, &*head.body), (200, ""), "{path}");
        for method in ["POST", "PUT", "DELETE"] {
            let refused = http_request(ops_address(&service), &format!("{method} {path}")).await.unwrap();
            assert_eq!(refused.status, 405, "{method} {path}");
            assert!(refused.head.contains("allow: get,head"), "{}", refused.head);
        }
    }
    let answer = get_path(&service, "/readyz?format=json&verbose=1&more").await;
    assert!(answer.head.contains("application/json"), "JSON, with parameters in any order: {}", answer.head);
    assert!(answer.head.contains("cache-control: no-store"), "{}", answer.head);
    assert_eq!(get_path(&service, "/readyz?format=json").await.body, "ready");
}

#[tokio::test]
async fn ops_listener_can_be_off_or_find_its_address_taken() {
    let database = TestDatabase::embedded();
    let settings = |at: String| database.settings().with_flag("TENANT_AUTH_OPS_LISTEN", Some(at));
    let service = TestService::start_with(settings("off".to_owned()), SystemClock::shared()).await;
    assert_eq!(service.running.ops_address(), None);
    assert_eq!(service.validate(&unknown_key()).await.unwrap().verdict(), Verdict::Unknown);
    let other = TestDatabase::embedded();
    let taken = service.running.address().to_string();
    let taken = other.settings().with_flag("TENANT_AUTH_OPS_LISTEN", Some(taken));
    let config = tenant_auth_svc::config::ServiceConfig::read(taken).unwrap().0;
    let error = tenant_auth_svc::server::start(config, SystemClock::shared()).await.unwrap_err().to_string();
    assert!(error.contains("TENANT_AUTH_OPS_LISTEN"), "{error}");
}

fn with_long_timeouts(settings: Settings) -> Settings {
    settings.with_flag("TENANT_AUTH_DRAIN_DELAY", Some(LONGER_THAN_TEST.to_owned()))
}

#[tokio::test]
async fn stopping_service_reports_unready_and_serves_for_drain_delay() {
    let database = TestDatabase::test_server().await;
    let clock = ManualClock::at(NOW);
    let service =
        TestService::start_with(with_long_timeouts(database.settings()), shared_clock(&clock)).await;
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    let (address, ops) = (service.running.address(), ops_address(&service));
    let (again, told_again) = oneshot::channel::<()>();
    clock.advance(Duration::from_secs(60));
    let TestService { running, channel } = service;
    let ending = tokio::spawn(running.stop_with_delay_cutoff(async { told_again.await.unwrap() }));

    let answer = http_until(ops, "GET /readyz?verbose", |answer| answer.status == 503).await;
    assert_line(&answer.body, "process   stopping since 2026-09-21T14:14:20Z, 0 ms");
    assert_eq!(http_request(ops, "GET /readyz").await.unwrap().body, "stopping");
    assert_eq!(http_request(ops, "GET /livez").await.unwrap().status, 200);
    // On the existing connection and on a new one, from the cache and from the database.
    let new = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    for channel in [channel, new] {
        for (key, verdict) in [(key.clone(), Verdict::Valid), (unknown_key(), Verdict::Unknown)] {
            let request = v1::ValidateKeyRequest { key, required_scopes: Vec::new(), ..Default::default() };
            let answer = ValidationServiceClient::new(channel.clone()).validate_key(request).await.unwrap();
            assert_eq!(answer.into_inner().verdict(), verdict);
        }
    }
    assert!(!ending.is_finished(), "the drain delay is longer than this test");

    again.send(()).unwrap();
    tokio::time::timeout(WAIT_TIMEOUT, ending)
        .await
        .expect("the second signal ends the drain delay")
        .unwrap();
    for gone in [address, ops] {
        let ends = async { while tokio::net::TcpStream::connect(gone).await.is_ok() {} };
        tokio::time::timeout(WAIT_TIMEOUT, ends).await.expect("the listener must be closed");
    }
}

#[tokio::test]
async fn never_ready_service_stops_without_drain_delay() {
    let mut database = TestDatabase::test_server().await;
    database.server_mut().stop().await;
    let service =
        TestService::start_unready(with_long_timeouts(database.settings()), SystemClock::shared()).await;
    tokio::time::timeout(WAIT_TIMEOUT, service.running.stop())
        .await
        .expect("without traffic there is no drain delay");
}

/// Uses tokio's paused clock, which jumps to the next timer.
#[tokio::test]
async fn endless_request_is_cut_off_at_shutdown_and_logged() {
    let captured = TestLog::default();
    let config =
        LogConfig { filter: "warn".to_owned(), format: LogFormat::Json, colours: false, burst: None };
    let writer = captured.clone();
    let (subscriber, _) = logging::subscriber(&config, SystemClock::shared(), move || writer.clone());
    let _log = tracing::subscriber::set_default(subscriber);
    let service = TestService::start(&TestDatabase::embedded()).await;
    let (questions, asked) = mpsc::channel(1);
    let request = Some(v1::ValidateKeyRequest {
        key: unknown_key(),
        required_scopes: Vec::new(),
        ..Default::default()
    });
    questions.send(v1::StreamValidateKeysRequest { correlation_id: 1, request }).await.unwrap();
    let answers = service.validation().stream_validate_keys(ReceiverStream::new(asked)).await.unwrap();
    let mut answers = answers.into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().correlation_id, 1);

    tokio::time::pause();
    service.running.stop().await;
    let log = captured.text();
    assert!(log.contains("requests still in flight after the drain timeout were cancelled"), "{log}");
    drop(questions);
}
