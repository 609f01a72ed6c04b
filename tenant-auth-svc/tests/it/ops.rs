//! `/livez` and `/readyz`, in every state that the service can be in, and its end.

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

use crate::{
    captured::Captured,
    harness::{Answer, Database, NOW, Service, http, http_until, outcome, strange_key},
};

/// Longer than any test: it ends by something else.
const LONG: &str = "300s";
/// How long what has to happen may take.
const PATIENCE: Duration = Duration::from_secs(30);

fn ops(service: &Service) -> SocketAddr {
    service.running.ops_address().unwrap()
}

async fn get(service: &Service, path: &str) -> Answer {
    http(ops(service), &format!("GET {path}")).await.unwrap()
}

/// What `/readyz` says, without and with details: one status for all.
async fn readyz(service: &Service) -> (u16, String, String) {
    let short = get(service, "/readyz").await;
    let verbose = get(service, "/readyz?verbose").await;
    let machine = get(service, "/readyz?verbose&format=json").await;
    assert_eq!((short.status, short.status), (verbose.status, machine.status));
    (short.status, short.body, verbose.body)
}

async fn facts(service: &Service) -> Value {
    let answer = get(service, "/readyz?verbose&format=json").await;
    assert!(answer.head.contains("content-type: application/json"), "{}", answer.head);
    serde_json::from_str(&answer.body).unwrap()
}

async fn is_alive(service: &Service) -> bool {
    let answer = get(service, "/livez").await;
    (answer.status, &*answer.body) == (200, "ok")
}

#[track_caller]
fn says(told: &str, line: &str) {
    assert!(told.lines().any(|told| told == line), "{line}:\n{told}");
}

#[track_caller]
fn begins(told: &str, start: &str) {
    assert!(told.lines().any(|told| told.starts_with(start)), "{start}:\n{told}");
}

fn shared(clock: &Arc<ManualClock>) -> SharedClock {
    Arc::clone(clock) as SharedClock
}

#[tokio::test]
async fn a_service_is_alive_before_it_is_ready() {
    let mut database = Database::test_server().await;
    database.server_mut().stop().await;
    let clock = ManualClock::at(NOW);
    let mut service = Service::start_unready(database.settings(), shared(&clock)).await;
    // Whoever asked it, the database was asked by now.
    assert_eq!(outcome(&service.validate(&strange_key()).await), "Unavailable");
    clock.advance(Duration::from_secs(312));
    assert!(is_alive(&service).await);
    let (status, short, verbose) = readyz(&service).await;
    assert_eq!((status, &*short), (503, "waiting"));
    says(&verbose, "process   waiting for the database since 2026-09-21T14:13:20Z, 312 s");
    begins(&verbose, "reads     failing (unreachable) since 2026-09-21T14:13:20Z, 312 s; last tried ");
    says(&verbose, "breaker   closed");
    says(&verbose, "feed      off");

    database.server_mut().start_again().unwrap();
    service.running.ready().await.unwrap();
    clock.advance(Duration::from_secs(2));
    let (status, short, verbose) = readyz(&service).await;
    assert_eq!((status, &*short), (200, "ready"));
    says(&verbose, "process   ready since 2026-09-21T14:18:32Z, 2 s");
    begins(&verbose, "reads     works since 2026-09-21T14:18:32Z, 2 s; last tried ");
    assert!(is_alive(&service).await);
}

#[tokio::test]
async fn readiness_outlives_an_outage_and_says_what_is_wrong() {
    let database = Database::test_server().await;
    let clock = ManualClock::at(NOW);
    // One of the calls takes all of it.
    let settings = database
        .settings()
        .with_flag("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", Some("5s".to_owned()))
        .with_flag("TENANT_AUTH_DATABASE_TIMEOUT", Some("5s".to_owned()));
    let service = Service::start_with(settings, shared(&clock)).await;
    let (known, _) = service.key(&service.tenant("Acme").await, &[]).await;
    service.validate(&known).await.unwrap();
    clock.advance(Duration::from_secs(8));

    database.server().faults().set(Fault::service_unavailable());
    assert_eq!(outcome(&service.validate(&strange_key()).await), "Unavailable");
    clock.advance(Duration::from_secs(300));
    let (status, short, verbose) = readyz(&service).await;
    assert_eq!((status, &*short), (200, "ready"));
    says(&verbose, "process   ready since 2026-09-21T14:13:20Z, 308 s");
    begins(&verbose, "reads     failing (unreachable) since 2026-09-21T14:13:28Z, 300 s; last tried ");

    // The same outage, in another shape.
    database.server().faults().set(Fault::Hang);
    assert_eq!(outcome(&service.validate(&strange_key()).await), "Unavailable");
    clock.advance(Duration::from_secs(12));
    // The caller may be told before the call to the database has been given up.
    let gives_up = |answer: &Answer| answer.body.contains("failing (timed_out)");
    let verbose = http_until(ops(&service), "GET /readyz?verbose", gives_up).await.body;
    begins(&verbose, "reads     failing (timed_out) since 2026-09-21T14:13:28Z, 312 s; last tried ");
    says(&verbose, "breaker   closed");

    database.server().faults().set(Fault::unauthorized());
    for _ in 0..20 {
        assert_eq!(outcome(&service.validate(&strange_key()).await), "Unavailable");
    }
    assert_eq!(service.validate(&known).await.unwrap().verdict(), Verdict::Valid, "why it is ready");
    let (status, _, verbose) = readyz(&service).await;
    assert_eq!(status, 200);
    begins(&verbose, "reads     failing (denied) since 2026-09-21T14:13:28Z, 312 s; last tried ");
    assert!(verbose.contains("\nbreaker   open for lookups: "), "{verbose}");
    let told = facts(&service).await;
    assert_eq!(told["ready"], true);
    assert_eq!(told["now"], "2026-09-21T14:18:40Z");
    let expected = json!({
        "state": "failing", "failure": "denied", "since": "2026-09-21T14:13:28Z", "for_ms": 312_000,
        "last_tried_ms": 0,
    });
    assert_eq!(told["reads"], expected);
    assert_eq!(told["database"], json!({ "doubt": null, "doubted_since": null, "standstill_ms": null }));
    assert_eq!(told["breaker"]["state"], "open");
    assert_eq!(told["feed"]["state"], "off");

    database.server().faults().clear();
    clock.advance(Duration::from_secs(1));
    assert_eq!(service.validate(&strange_key()).await.unwrap().verdict(), Verdict::Unknown);
    let (_, _, verbose) = readyz(&service).await;
    begins(&verbose, "reads     works since 2026-09-21T14:18:41Z, 0 ms; last tried ");
    says(&verbose, "breaker   closed");
}

#[tokio::test]
async fn a_silent_feed_is_told_of_and_does_not_make_unready() {
    let database = Database::test_server().await;
    let clock = ManualClock::at(NOW);
    let settings = database.settings().with_flag("TENANT_AUTH_FEED_INTERVAL", Some("10ms".to_owned()));
    let service = Service::start_with(settings, shared(&clock)).await;
    let heard = |answer: &Answer| answer.body.contains("\nfeed      heard 0 ms ago\n");
    http_until(ops(&service), "GET /readyz?verbose", heard).await;

    database.server().faults().set(Fault::service_unavailable());
    clock.advance(Duration::from_secs(313));
    let (status, _, verbose) = readyz(&service).await;
    assert_eq!(status, 200);
    says(&verbose, "feed      silent since 2026-09-21T14:13:20Z, 313 s");
    let feed = facts(&service).await["feed"].clone();
    let expected = json!({ "state": "silent", "last_heard": "2026-09-21T14:13:20Z", "ago_ms": 313_000 });
    assert_eq!(feed, expected);

    database.server().faults().clear();
    // The breaker may have opened meanwhile, and then waits for time to pass.
    let heard_again = |answer: &Answer| {
        clock.advance(Duration::from_millis(100));
        answer.body.contains("\nfeed      heard ")
    };
    http_until(ops(&service), "GET /readyz?verbose", heard_again).await;
}

#[tokio::test]
async fn a_schema_that_cannot_be_used_is_never_ready() {
    let database = Database::test_server().await;
    drop(Service::start(&database).await);
    let newer =
        "INSERT INTO schema_migrations (version, name, checksum, applied_at) VALUES (999, 'x', 'x', 1)";
    database.server().execute(newer).unwrap();
    let clock = ManualClock::at(NOW);
    let mut service = Service::start_unready(database.settings(), shared(&clock)).await;
    service.running.ready().await.unwrap_err();
    let (status, short, verbose) = readyz(&service).await;
    assert_eq!((status, &*short), (503, "unusable"));
    says(
        &verbose,
        "process   unusable (schema_newer) since 2026-09-21T14:13:20Z, 0 ms; the log says what to do",
    );
    begins(&verbose, "reads     works since 2026-09-21T14:13:20Z, 0 ms; last tried ");
    assert_eq!(facts(&service).await["process"]["reason"], "schema_newer");
    assert!(is_alive(&service).await);
}

#[tokio::test]
async fn what_is_not_there_is_said_with_what_is() {
    let service = Service::start(&Database::embedded()).await;
    for path in ["/", "/metrics/x", "/livez/", "/readyz/verbose", "//readyz"] {
        let answer = get(&service, path).await;
        assert_eq!(answer.status, 404, "{path}");
        assert_eq!(answer.body.lines().count(), 1, "{path}");
        assert!(answer.body.contains("/livez") && answer.body.contains("/readyz?verbose"), "{}", answer.body);
    }
    for path in ["/livez", "/readyz", "/readyz?verbose"] {
        let head = http(ops(&service), &format!("HEAD {path}")).await.unwrap();
        assert_eq!((head.status, &*head.body), (200, ""), "{path}");
        for method in ["POST", "PUT", "DELETE"] {
            let refused = http(ops(&service), &format!("{method} {path}")).await.unwrap();
            assert_eq!(refused.status, 405, "{method} {path}");
            assert!(refused.head.contains("allow: get,head"), "{}", refused.head);
        }
    }
    let answer = get(&service, "/readyz?format=json&verbose=1&more").await;
    assert!(answer.head.contains("application/json"), "in any order: {}", answer.head);
    assert!(answer.head.contains("cache-control: no-store"), "{}", answer.head);
    assert_eq!(get(&service, "/readyz?format=json").await.body, "ready");
}

#[tokio::test]
async fn it_can_be_off_and_its_address_can_be_taken() {
    let database = Database::embedded();
    let settings = |at: String| database.settings().with_flag("TENANT_AUTH_OPS_LISTEN", Some(at));
    let service = Service::start_with(settings("off".to_owned()), SystemClock::shared()).await;
    assert_eq!(service.running.ops_address(), None);
    assert_eq!(service.validate(&strange_key()).await.unwrap().verdict(), Verdict::Unknown);
    let other = Database::embedded();
    let taken = service.running.address().to_string();
    let taken = other.settings().with_flag("TENANT_AUTH_OPS_LISTEN", Some(taken));
    let config = tenant_auth_svc::config::ServiceConfig::read(taken).unwrap().0;
    let error = tenant_auth_svc::server::start(config, SystemClock::shared()).await.unwrap_err().to_string();
    assert!(error.contains("TENANT_AUTH_OPS_LISTEN"), "{error}");
}

fn patient(settings: Settings) -> Settings {
    settings.with_flag("TENANT_AUTH_DRAIN_DELAY", Some(LONG.to_owned()))
}

#[tokio::test]
async fn told_to_stop_it_says_so_and_goes_on_serving_for_the_delay() {
    let database = Database::test_server().await;
    let clock = ManualClock::at(NOW);
    let service = Service::start_with(patient(database.settings()), shared(&clock)).await;
    let (key, _) = service.key(&service.tenant("Acme").await, &[]).await;
    let (address, ops) = (service.running.address(), ops(&service));
    let (again, told_again) = oneshot::channel::<()>();
    clock.advance(Duration::from_secs(60));
    let Service { running, channel } = service;
    let ending = tokio::spawn(running.stop_hurried_by(async { told_again.await.unwrap() }));

    let answer = http_until(ops, "GET /readyz?verbose", |answer| answer.status == 503).await;
    says(&answer.body, "process   stopping since 2026-09-21T14:14:20Z, 0 ms");
    assert_eq!(http(ops, "GET /readyz").await.unwrap().body, "stopping");
    assert_eq!(http(ops, "GET /livez").await.unwrap().status, 200);
    // On the connection that is there and on a new one, from memory and from the database.
    let new = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    for channel in [channel, new] {
        for (key, verdict) in [(key.clone(), Verdict::Valid), (strange_key(), Verdict::Unknown)] {
            let request = v1::ValidateKeyRequest { key, required_scopes: Vec::new() };
            let answer = ValidationServiceClient::new(channel.clone()).validate_key(request).await.unwrap();
            assert_eq!(answer.into_inner().verdict(), verdict);
        }
    }
    assert!(!ending.is_finished(), "the delay is longer than this test");

    again.send(()).unwrap();
    tokio::time::timeout(PATIENCE, ending).await.expect("the second time, it waits for nobody").unwrap();
    for gone in [address, ops] {
        let ends = async { while tokio::net::TcpStream::connect(gone).await.is_ok() {} };
        tokio::time::timeout(PATIENCE, ends).await.expect("nobody listens there");
    }
}

#[tokio::test]
async fn what_was_never_ready_ends_without_a_delay() {
    let mut database = Database::test_server().await;
    database.server_mut().stop().await;
    let service = Service::start_unready(patient(database.settings()), SystemClock::shared()).await;
    tokio::time::timeout(PATIENCE, service.running.stop()).await.expect("nobody was sent here");
}

/// The clocks of this test are tokio's own: they jump to the next thing that is waited for.
#[tokio::test]
async fn a_request_that_does_not_end_is_cut_off_and_that_is_logged() {
    let captured = Captured::default();
    let config =
        LogConfig { filter: "warn".to_owned(), format: LogFormat::Json, colours: false, burst: None };
    let writer = captured.clone();
    let (subscriber, _) = logging::subscriber(&config, SystemClock::shared(), move || writer.clone());
    let _log = tracing::subscriber::set_default(subscriber);
    let service = Service::start(&Database::embedded()).await;
    let (questions, asked) = mpsc::channel(1);
    let request = Some(v1::ValidateKeyRequest { key: strange_key(), required_scopes: Vec::new() });
    questions.send(v1::StreamValidateKeysRequest { correlation_id: 1, request }).await.unwrap();
    let answers = service.validation().stream_validate_keys(ReceiverStream::new(asked)).await.unwrap();
    let mut answers = answers.into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().correlation_id, 1);

    tokio::time::pause();
    service.running.stop().await;
    let log = captured.text();
    assert!(log.contains("requests were still under way after 10s and were cut off"), "{log}");
    drop(questions);
}
