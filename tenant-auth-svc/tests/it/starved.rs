//! A process without CPU time: a response that it could not read in time says nothing about the database.

use std::{
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

use tenant_auth_svc::{
    database::{
        engine::{Engine as _, Row, SqlValue, Statement},
        hrana::{RemoteConfig, RemoteEngine},
    },
    domain::{
        clock::{ManualClock, SharedClock},
        store::{Call, Lane},
    },
};
use tenant_auth_testkit::Fault;
use tokio::sync::oneshot;

use crate::harness::{LOOKUP, NOW, TestDatabase, TestService, http_request, scrape::Scrape, unknown_key};

/// More calls than the breaker needs for a conclusion.
const TIMED_OUT_CALLS: u64 = 25;

/// Starts a service whose database answers one lookup and then no more lookups.
async fn service_with_unanswered_lookups(
    database: &TestDatabase,
    prepare: impl Fn(&TestService),
) -> TestService {
    let settings = database
        .settings()
        .with_flag("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", Some("40ms".to_owned()))
        .with_flag("TENANT_AUTH_DATABASE_TIMEOUT", Some("40ms".to_owned()))
        .with_flag("TENANT_AUTH_FEED_INTERVAL", Some("off".to_owned()));
    let clock = ManualClock::at(NOW) as SharedClock;
    let service = TestService::start_with(settings, clock).await;
    prepare(&service);
    // On a busy machine even this call may exceed its timeout.
    while service.validate(&unknown_key()).await.is_err() {}
    database.server().faults().set_where(LOOKUP, u64::MAX, Fault::Hang);
    for _ in 0..TIMED_OUT_CALLS {
        service.validate(&unknown_key()).await.unwrap_err();
    }
    service
}

const BREAKER_OPENED_SERIES: &str = r#"tenant_auth_database_breaker_opened_total{circuit="lookups"}"#;

#[tokio::test]
async fn starved_process_does_not_open_breaker() {
    let database = TestDatabase::test_server().await;
    let service = service_with_unanswered_lookups(&database, |service| {
        service.running.measure_scheduler_lag();
        // Records a scheduler lag that covers the whole wait, and one hour more.
        let now = Instant::now();
        service.running.scheduler_lag().record(now, now + Duration::from_secs(3_600));
    })
    .await;
    let scrape = Scrape::collect(&service).await;
    scrape.assert_value(BREAKER_OPENED_SERIES, 0.0);
    let starved = scrape.count(r#"tenant_auth_database_failures_total{operation="read",kind="starved"}"#);
    assert!(starved >= f64::from(u32::try_from(TIMED_OUT_CALLS).unwrap()), "{starved}");
    assert!(scrape.value("tenant_auth_scheduler_lag_seconds") >= 0.1);
    let verbose =
        http_request(service.running.ops_address().unwrap(), "GET /readyz?verbose").await.unwrap().body;
    assert!(verbose.contains("this replica is starved of CPU"), "{verbose}");
    assert!(verbose.contains("breaker   closed"), "{verbose}");
}

#[tokio::test]
async fn punctual_process_opens_breaker_on_timeouts() {
    let database = TestDatabase::test_server().await;
    let service = service_with_unanswered_lookups(&database, |_| {}).await;
    let scrape = Scrape::collect(&service).await;
    assert!(scrape.value(BREAKER_OPENED_SERIES) >= 1.0);
    scrape.assert_value(r#"tenant_auth_database_failures_total{operation="read",kind="starved"}"#, 0.0);
    let verbose =
        http_request(service.running.ops_address().unwrap(), "GET /readyz?verbose").await.unwrap().body;
    assert!(!verbose.contains("starved"), "{verbose}");
}

/// Blocks the thread until the response has arrived and the deadline has passed, so that both are ready at
/// once.
#[tokio::test]
async fn response_already_in_socket_is_used_after_deadline() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let (sender, request_arrived) = oneshot::channel();
    let (may_answer, go) = mpsc::channel::<()>();
    let (answered, was_answered) = mpsc::channel();
    let server = std::thread::spawn(move || answer_on_signal(&listener, sender, &go, &answered));
    let engine = Arc::new(
        RemoteEngine::new(RemoteConfig { url, token: None, proxy: None, connect_timeout: MINUTE }).unwrap(),
    );

    // Long enough to send the request on a busy machine, and short enough to wait for below.
    let deadline = Instant::now() + Duration::from_secs(2);
    let pending = tokio::spawn(async move {
        engine.query(Call::until(Lane::Known, deadline), Statement::new("SELECT 7")).await
    });
    request_arrived.await.unwrap();
    may_answer.send(()).unwrap();
    was_answered.recv().unwrap();
    // A timer fires slightly after its time.
    while Instant::now() <= deadline + Duration::from_millis(50) {
        std::thread::yield_now();
    }
    assert_eq!(pending.await.unwrap(), Ok(vec![Row(vec![SqlValue::Integer(7)])]));
    server.join().unwrap();
}

const MINUTE: Duration = Duration::from_secs(60);

/// Accepts one request, and answers it on a signal.
fn answer_on_signal(
    listener: &std::net::TcpListener,
    sender: oneshot::Sender<()>,
    go: &mpsc::Receiver<()>,
    answered: &mpsc::Sender<()>,
) {
    use std::io::{Read as _, Write as _};

    let (mut stream, _) = listener.accept().unwrap();
    let (mut request, mut buffer) = (Vec::new(), [0; 4_096]);
    // The `close` request is the last part of the body.
    while !String::from_utf8_lossy(&request).contains(r#""type":"close""#) {
        let count = stream.read(&mut buffer).unwrap();
        request.extend_from_slice(&buffer[..count]);
    }
    sender.send(()).unwrap();
    go.recv().unwrap();
    let body = r#"{"baton":null,"base_url":null,"results":[{"type":"ok","response":{"type":"execute","result":{"cols":[{"name":"7"}],"rows":[[{"type":"integer","value":"7"}]],"affected_row_count":0,"last_insert_rowid":null}}},{"type":"ok","response":{"type":"close"}}]}"#;
    let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(answer.as_bytes()).unwrap();
    answered.send(()).unwrap();
}
