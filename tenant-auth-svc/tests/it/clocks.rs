//! Replicas with wrong clocks: shared data is deleted or overwritten only by the database's clock.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1::{
    self, SessionExpiry, Verdict, session_service_client::SessionServiceClient,
    usage_service_client::UsageServiceClient,
};
use tenant_auth_svc::domain::clock::{Clock as _, ManualClock, SharedClock, UnixMillis};
use tonic::{Code, Status};

use crate::harness::{NOW, TestDatabase, TestService, http_request};

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;

/// A database, and replicas with their own clocks.
struct SkewedReplicas {
    database: TestDatabase,
    /// The clock of the database and of a replica with the correct time.
    database_clock: Arc<ManualClock>,
    punctual: TestService,
    tenant: String,
    key: String,
    key_id: String,
}

impl SkewedReplicas {
    async fn start() -> Self {
        let database = TestDatabase::test_server().await;
        let truth = ManualClock::at(NOW);
        database.follow_clock(&truth);
        let right = Self::replica(&database, 0).await;
        let tenant = right.create_tenant("Acme").await;
        let (key, key_id) = right.issue_key(&tenant, &[]).await;
        Self { database, database_clock: truth, punctual: right, tenant, key, key_id }
    }

    /// Starts a replica whose clock is `ahead` of the correct time, or behind it if negative.
    async fn replica(database: &TestDatabase, ahead: i64) -> TestService {
        let clock = ManualClock::at(UnixMillis(NOW.0 + ahead)) as SharedClock;
        let settings = database.settings().with_flag("TENANT_AUTH_SESSIONS_PER_TENANT", Some("2".to_owned()));
        TestService::start_with(settings, clock).await
    }

    async fn replica_ahead(&self, by: i64) -> TestService {
        Self::replica(&self.database, by).await
    }

    async fn bind(
        &self,
        by: &TestService,
        id: &str,
        expiry: SessionExpiry,
    ) -> Result<v1::BindSessionResponse, Status> {
        let request = v1::BindSessionRequest {
            session_id: id.to_owned(),
            key: self.key.clone(),
            ttl: Some(prost_types::Duration { seconds: 600, nanos: 0 }),
            expiry: expiry.into(),
            ..Default::default()
        };
        let mut sessions = SessionServiceClient::new(by.channel.clone());
        Ok(sessions.bind_session(request).await?.into_inner())
    }

    async fn record(&self, by: &TestService, id: &str) -> v1::RecordUsageResponse {
        let event = v1::UsageEvent {
            tenant_id: self.tenant.clone(),
            metric: "calls".to_owned(),
            quantity: 7,
            occurred_at: None,
        };
        let request = v1::RecordUsageRequest { request_id: id.to_owned(), events: vec![event] };
        let mut usage = UsageServiceClient::new(by.channel.clone());
        usage.record_usage(request).await.unwrap().into_inner()
    }

    /// Returns the single number that a query yields.
    fn query_number(&self, sql: &str) -> i64 {
        let rows = self.database.server().query(sql).unwrap();
        rows[0][0]["value"].as_str().unwrap().parse().unwrap()
    }
}

fn millis(at: Option<prost_types::Timestamp>) -> i64 {
    at.map(|at| at.seconds * 1_000 + i64::from(at.nanos) / 1_000_000).unwrap()
}

#[tokio::test]
async fn replica_with_fast_clock_expires_no_session() {
    for ahead in [HOUR, 36 * DAY] {
        let skewed = SkewedReplicas::start().await;
        let fast = skewed.replica_ahead(ahead).await;
        for (id, expiry) in [("one", SessionExpiry::Fixed), ("two", SessionExpiry::Sliding)] {
            let bound = skewed.bind(&skewed.punctual, id, expiry).await.unwrap();
            assert_eq!((bound.verdict(), bound.already_bound), (Verdict::Valid, false));
        }
        // It deletes no session, frees no slot, and does not treat a bound session as expired.
        assert_eq!(fast.running.sweep_sessions().await.unwrap(), 0);
        let third = skewed.bind(&fast, "three", SessionExpiry::Fixed).await;
        assert_eq!(third.unwrap_err().code(), Code::ResourceExhausted);
        assert!(skewed.bind(&fast, "one", SessionExpiry::Fixed).await.unwrap().already_bound);
        assert_eq!(skewed.query_number("SELECT count(*) FROM session_bindings"), 2);
        let request = v1::ValidateSessionRequest { session_id: "one".to_owned(), ..Default::default() };
        let response = skewed.punctual.validation().validate_session(request).await.unwrap().into_inner();
        assert_eq!(response.verdict(), Verdict::Valid);

        // Once the sessions have expired, any replica may delete them, including one whose clock is far
        // behind.
        skewed.database_clock.advance(Duration::from_secs(1_201));
        let slow = skewed.replica_ahead(-ahead).await;
        assert_eq!(slow.running.sweep_sessions().await.unwrap(), 2);
    }
}

#[tokio::test]
async fn session_times_follow_database_clock() {
    for ahead in [-36 * DAY, -HOUR, HOUR, 36 * DAY] {
        let skewed = SkewedReplicas::start().await;
        let replica = skewed.replica_ahead(ahead).await;
        let session = skewed.bind(&replica, "one", SessionExpiry::Sliding).await.unwrap().session.unwrap();
        assert_eq!(millis(session.created_at), NOW.0);
        assert_eq!(millis(session.expires_at), NOW.0 + 600_000);
        // The key is used on a replica with the correct clock, and five minutes later on this one.
        skewed.database_clock.advance(Duration::from_secs(300));
        for user in [&skewed.punctual, &replica] {
            let request = v1::ValidateSessionRequest { session_id: "one".to_owned(), ..Default::default() };
            user.validation().validate_session(request).await.unwrap();
            user.running.flush_pending_writes().await.unwrap();
        }
        let ends = skewed.query_number("SELECT expires_at FROM session_bindings");
        let latest = skewed.database_clock.now().0 + 600_000;
        assert!((NOW.0 + 600_000..=latest).contains(&ends), "{ahead}: {}", ends - NOW.0);
    }
}

#[tokio::test]
async fn rotation_overlap_ends_by_database_clock() {
    let skewed = SkewedReplicas::start().await;
    let fast = skewed.replica_ahead(36 * DAY).await;
    let request = v1::RotateKeyRequest {
        key_id: skewed.key_id.clone(),
        overlap: Some(prost_types::Duration { seconds: 60, nanos: 0 }),
        ..Default::default()
    };
    let rotated = fast.admin().rotate_key(request).await.unwrap().into_inner();
    assert_eq!(millis(rotated.replaced.unwrap().expires_at), NOW.0 + 60_000);
}

/// A replica that is ahead does not write a last-used time in the future, which would hide all later uses.
#[tokio::test]
async fn last_used_time_follows_database_clock() {
    for ahead in [-36 * DAY, 36 * DAY] {
        let skewed = SkewedReplicas::start().await;
        let replica = skewed.replica_ahead(ahead).await;
        replica.validate(&skewed.key).await.unwrap();
        replica.running.flush_pending_writes().await.unwrap();
        assert_eq!(skewed.query_number("SELECT last_used_at FROM api_keys"), NOW.0);
    }
}

#[tokio::test]
async fn usage_is_counted_once_despite_clock_skew() {
    let skewed = SkewedReplicas::start().await;
    let fast = skewed.replica_ahead(36 * DAY).await;
    let slow = skewed.replica_ahead(-36 * DAY).await;
    for (id, by) in [("by-slow", &slow), ("by-right", &skewed.punctual), ("by-fast", &fast)] {
        assert!(!skewed.record(by, id).await.already_recorded);
    }
    let first_seen = "SELECT count(*) FROM usage_requests WHERE first_seen_at = ";
    assert_eq!(
        skewed.query_number(&format!("{first_seen}{}", NOW.0)),
        3,
        "the first-seen time does not depend on the replica"
    );
    for replica in [&fast, &slow, &skewed.punctual] {
        replica.running.sweep_usage().await.unwrap();
    }
    for id in ["by-slow", "by-right", "by-fast"] {
        for by in [&slow, &skewed.punctual, &fast] {
            assert!(skewed.record(by, id).await.already_recorded, "{id}");
        }
    }
    assert_eq!(skewed.query_number("SELECT sum(quantity) FROM usage_totals"), 21);
    // The usage that the slow replica recorded belongs to an hour long past: its events are retained as long
    // as its request.
    assert_eq!(skewed.query_number("SELECT sum(quantity) FROM usage_events"), 21);
}

#[tokio::test]
async fn replica_reports_its_clock_skew() {
    let skewed = SkewedReplicas::start().await;
    for (ahead, reported) in [
        (0, "agrees with the database's"),
        (4_000, "agrees with the database's"),
        (HOUR, "3600 s ahead of the database's: "),
        (-36 * DAY, "3110400 s behind the database's: "),
    ] {
        let clock = ManualClock::at(UnixMillis(NOW.0 + ahead)) as SharedClock;
        let settings =
            skewed.database.settings().with_flag("TENANT_AUTH_FEED_INTERVAL", Some("250ms".to_owned()));
        let replica = TestService::start_with(settings, clock).await;
        replica.poll_feed().await;
        let ops = replica.running.ops_address().unwrap();
        let verbose = http_request(ops, "GET /readyz?verbose").await.unwrap().body;
        assert!(verbose.contains(&format!("\nclock     {reported}")), "{verbose}");
        let metrics = http_request(ops, "GET /metrics").await.unwrap().body;
        let value =
            metrics.lines().find_map(|line| line.strip_prefix("tenant_auth_clock_offset_seconds ")).unwrap();
        let (reported, ahead) = (value.parse::<f64>().unwrap(), ahead as f64 / 1_000.0);
        // The error is half a read's duration, which is zero with stopped clocks, plus SQLite's rounding.
        assert!((reported - ahead).abs() < 0.01, "{reported} for {ahead}");
    }
}
