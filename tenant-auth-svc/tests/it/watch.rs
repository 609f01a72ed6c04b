//! The `Watch` stream: events, liveness and how it ends.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1::{
    self, InvalidationScope, SessionExpiry, session_service_client::SessionServiceClient,
    watch_response::Event, watch_service_client::WatchServiceClient,
};
use tenant_auth_svc::domain::clock::{ManualClock, SharedClock};
use tenant_auth_testkit::Fault;
use tonic::{Code, Streaming};
use tonic_types::StatusExt as _;

use crate::harness::{NOW, TestDatabase, TestService};

/// Maximum time to wait for an expected event.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

struct WatchedService {
    database: TestDatabase,
    clock: Arc<ManualClock>,
    service: TestService,
}

impl WatchedService {
    /// Starts a service whose feed polls every few milliseconds; the test controls the time of heartbeats.
    async fn start() -> Self {
        let database = TestDatabase::test_server().await;
        let clock = ManualClock::at(NOW);
        let settings = database.settings().with_flag("TENANT_AUTH_FEED_INTERVAL", Some("10ms".to_owned()));
        let service = TestService::start_with(settings, Arc::clone(&clock) as SharedClock).await;
        Self { database, clock, service }
    }

    async fn subscribe(&self, after: i64) -> Streaming<v1::WatchResponse> {
        let request = v1::WatchRequest { resume_after_revision: after };
        WatchServiceClient::new(self.service.channel.clone()).watch(request).await.unwrap().into_inner()
    }

    /// Returns the next heartbeat, for which the clock must advance. Other messages before it are skipped.
    async fn next_heartbeat(&self, stream: &mut Streaming<v1::WatchResponse>) -> i64 {
        self.clock.advance(Duration::from_secs(1));
        loop {
            let message = next_message(stream).await;
            if let Some(Event::Heartbeat(beat)) = message.event {
                assert!(beat.sent_at.unwrap().seconds >= NOW.0 / 1_000);
                return message.revision;
            }
        }
    }
}

async fn next_message(stream: &mut Streaming<v1::WatchResponse>) -> v1::WatchResponse {
    let message =
        tokio::time::timeout(WAIT_TIMEOUT, stream.message()).await.expect("an event must arrive in time");
    message.unwrap().unwrap()
}

/// Returns the next invalidation and its revision.
async fn next_invalidation(
    stream: &mut Streaming<v1::WatchResponse>,
) -> (i64, InvalidationScope, String, String) {
    loop {
        let message = next_message(stream).await;
        if let Some(Event::Invalidation(invalidation)) = message.event {
            return (message.revision, invalidation.scope(), invalidation.id, invalidation.tenant_id);
        }
    }
}

#[tokio::test]
async fn watch_reports_every_change_once_in_order_by_any_writer() {
    let watched = WatchedService::start().await;
    let service = &watched.service;
    let mut stream = watched.subscribe(0).await;
    watched.next_heartbeat(&mut stream).await;
    let tenant = service.create_tenant("Acme").await;
    let (key, key_id) = service.issue_key(&tenant, &[]).await;
    let bind = v1::BindSessionRequest {
        session_id: "session-1".to_owned(),
        key,
        ttl: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        expiry: SessionExpiry::Fixed.into(),
        ..Default::default()
    };
    let mut sessions = SessionServiceClient::new(service.channel.clone());
    sessions.bind_session(bind).await.unwrap();
    service.revoke_key(&key_id).await;
    watched.database.server().execute("UPDATE tenants SET plan = 'other'").unwrap();
    watched.database.server().execute("DELETE FROM session_bindings").unwrap();

    let mut received = Vec::new();
    for _ in 0..6 {
        received.push(next_invalidation(&mut stream).await);
    }
    let of = |scope, id: &str| (scope, id.to_owned(), tenant.clone());
    let expected = [
        of(InvalidationScope::Tenant, &tenant),
        of(InvalidationScope::Key, &key_id),
        of(InvalidationScope::Session, "session-1"),
        of(InvalidationScope::Key, &key_id),
        of(InvalidationScope::Tenant, &tenant),
        of(InvalidationScope::Session, "session-1"),
    ];
    let revisions: Vec<_> = received.iter().map(|(revision, ..)| *revision).collect();
    assert!(revisions.is_sorted_by(|a, b| a < b), "{revisions:?}");
    let received: Vec<_> = received.into_iter().map(|(_, scope, id, tenant)| (scope, id, tenant)).collect();
    assert_eq!(received, expected);
    assert_eq!(
        watched.next_heartbeat(&mut stream).await,
        revisions[5],
        "the heartbeat confirms all changes up to this revision"
    );

    // A returning subscriber resumes at its revision.
    let mut again = watched.subscribe(revisions[3]).await;
    assert_eq!(next_invalidation(&mut again).await.0, revisions[4]);
    assert_eq!(next_invalidation(&mut again).await.0, revisions[5]);
}

/// A subscriber that receives a change and sends a request at once must not get the old state.
#[tokio::test]
async fn cache_is_invalidated_before_subscribers_are_notified() {
    let watched = WatchedService::start().await;
    let service = &watched.service;
    let tenant = service.create_tenant("Acme").await;
    let mut stream = watched.subscribe(0).await;
    for _ in 0..20 {
        let (key, key_id) = service.issue_key(&tenant, &[]).await;
        while next_invalidation(&mut stream).await.2 != key_id {}
        assert_eq!(service.validate(&key).await.unwrap().verdict(), v1::Verdict::Valid);
        let revoke = format!("UPDATE api_keys SET revoked_at = 1 WHERE id = '{key_id}'");
        watched.database.server().execute(&revoke).unwrap();
        while next_invalidation(&mut stream).await.2 != key_id {}
        assert_eq!(service.validate(&key).await.unwrap().verdict(), v1::Verdict::Revoked);
    }
}

/// A heartbeat confirms that all changes were sent. While the database does not answer, the service cannot
/// confirm that.
#[tokio::test]
async fn watch_sends_no_heartbeat_while_feed_is_silent() {
    let watched = WatchedService::start().await;
    let mut stream = watched.subscribe(0).await;
    watched.next_heartbeat(&mut stream).await;
    watched.database.server().faults().set(Fault::service_unavailable());
    let requests = watched.database.server().counters().requests;
    watched.database.server().wait_for(|counters| counters.requests > requests + 2).await;
    // Messages of polls before the fault may still be in transit.
    while let Ok(message) = tokio::time::timeout(Duration::from_millis(1), stream.message()).await {
        message.unwrap().unwrap();
    }
    for _ in 0..10 {
        watched.clock.advance(Duration::from_secs(1));
        let requests = watched.database.server().counters().requests;
        watched.database.server().wait_for(|counters| counters.requests > requests).await;
    }
    let silent = tokio::time::timeout(Duration::from_millis(1), stream.message()).await;
    assert!(silent.is_err(), "{silent:?}");
    watched.database.server().faults().clear();
    watched.next_heartbeat(&mut stream).await;
}

#[tokio::test]
async fn watch_reports_log_discontinuity_and_replica_shutdown() {
    let watched = WatchedService::start().await;
    watched.service.create_tenant("Acme").await;
    let mut stream = watched.subscribe(0).await;
    watched.next_heartbeat(&mut stream).await;
    let server = watched.database.server();
    for seq in [9_000, 9_001] {
        let entry =
            format!("INSERT INTO changes (seq, kind, ref, tenant_id, at) VALUES ({seq}, 'key', 'x', 'y', 1)");
        // Pruned beyond this replica's position, in one step.
        server.execute(&entry).unwrap();
        server.execute(&format!("DELETE FROM changes WHERE seq < {seq}")).unwrap();
    }
    loop {
        if let Some(Event::StartOver(start_over)) = next_message(&mut stream).await.event {
            assert!(start_over.reason.contains("was pruned past"), "{start_over:?}");
            break;
        }
    }
    let mut long_gone = watched.subscribe(1_000_000).await;
    watched.next_heartbeat(&mut stream).await;
    watched.next_heartbeat(&mut stream).await;
    assert!(matches!(next_message(&mut long_gone).await.event, Some(Event::StartOver(_))));

    // An open watch does not delay shutdown.
    watched.service.running.stop().await;
    let end = loop {
        match stream.message().await {
            Ok(Some(_)) => {}
            Ok(None) => panic!("the stream must end with a status"),
            Err(status) => break status,
        }
    };
    assert_eq!(end.code(), Code::Unavailable, "{end:?}");
    assert_eq!(end.get_error_details().error_info().unwrap().reason, "REPLICA_DRAINING");
}

#[tokio::test]
async fn watch_is_refused_with_reason_without_feed() {
    let database = TestDatabase::embedded();
    let service = TestService::start(&database).await;
    let mut client = WatchServiceClient::new(service.channel.clone());
    let refused = client.watch(v1::WatchRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert_eq!(refused.get_error_details().error_info().unwrap().reason, "CHANGE_FEED_DISABLED");
    let wrong = client.watch(v1::WatchRequest { resume_after_revision: -1 }).await.unwrap_err();
    assert_eq!(wrong.code(), Code::InvalidArgument);
}

/// A subscriber holds no request permit, and thousands of them cause no further database requests.
#[tokio::test]
async fn watch_subscribers_add_no_database_requests() {
    let watched = WatchedService::start().await;
    let mut streams = Vec::new();
    for _ in 0..150 {
        streams.push(watched.subscribe(0).await);
    }
    let tenant = watched.service.create_tenant("Acme").await;
    let statements = watched.database.server().counters().statements;
    for stream in &mut streams {
        assert_eq!(next_invalidation(stream).await.2, tenant);
    }
    let reads = watched.database.server().counters().statements - statements;
    // The feed keeps its own polling rate, however many subscribers there are.
    let requests = watched.database.server().counters().requests;
    watched.database.server().wait_for(|counters| counters.requests > requests + 3).await;
    assert!(reads < 150, "{reads} statements for 150 subscribers");
}
