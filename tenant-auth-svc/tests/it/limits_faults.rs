//! Limits while the database fails, and what they cost it.

mod changes;
mod clocks;
mod cost;
mod exchange;
mod outage;
mod replicas;
mod restored;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tenant_auth_proto::v1::{self, Verdict};
use tenant_auth_svc::domain::clock::{ManualClock, SharedClock};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{
    NOW, TestDatabase, TestService, error_reason,
    limits::{consume, limit_of, limit_state, store_limit},
};

/// A part that occurs only in exchanges of leases.
const EXCHANGE: &str = "SELECT seq, at FROM limit_log";

/// Maximum real time to wait for anything; no test measures it.
const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

/// A service with a tenant that has one limit.
struct LimitedTenant {
    database: TestDatabase,
    /// The clock of the service and of the database.
    clock: Arc<ManualClock>,
    service: TestService,
    tenant: String,
    key: String,
}

impl LimitedTenant {
    async fn start(rule: v1::limit::Rule, on_outage: v1::OutagePolicy) -> Self {
        let (database, clock) = (TestDatabase::test_server().await, ManualClock::at(NOW));
        database.follow_clock(&clock);
        let service = start_replica(&database, &clock).await;
        let tenant = service.create_tenant("Acme").await;
        let (key, _) = service.issue_key(&tenant, &[]).await;
        store_limit(&service, with_policy(&tenant, rule, on_outage)).await;
        service.poll_feed().await;
        service.validate(&key).await.unwrap();
        Self { database, clock, service, tenant, key }
    }

    /// Another replica on the same database and clock.
    async fn second_replica(&self) -> TestService {
        start_replica(&self.database, &self.clock).await
    }

    async fn consume(&self, amount: i64) -> Result<v1::ConsumeResponse, Status> {
        consume(&self.service, &self.key, amount).await
    }

    fn exchanges(&self) -> u64 {
        self.database.server().requests_with(EXCHANGE)
    }

    /// Takes 1 at a time until something else is the answer. Returns how often, and that answer.
    async fn drain(&self) -> (u64, Result<v1::ConsumeResponse, Status>) {
        for taken in 0..100_000 {
            let answer = self.consume(1).await;
            if answer.as_ref().is_ok_and(|response| response.verdict() == Verdict::Valid) {
                continue;
            }
            return (taken, answer);
        }
        panic!("the limit never ends");
    }

    /// Takes an amount as soon as the database responds again.
    async fn consume_after_outage(&self, amount: i64) -> v1::ConsumeResponse {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        loop {
            match self.consume(amount).await {
                Ok(response) => return response,
                Err(status) => {
                    assert!(Instant::now() < deadline, "{status:?}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }

    /// Waits until the database counts what the condition says.
    async fn until_state(&self, is_reached: impl Fn(&v1::LimitState) -> bool) -> v1::LimitState {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        loop {
            let state = limit_state(&self.service, &self.tenant).await.remove(0);
            if is_reached(&state) {
                return state;
            }
            assert!(Instant::now() < deadline, "{state:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Stops the service, which gives everything back that it holds, and returns what is counted as used.
    async fn used_after_stop(self) -> i64 {
        let second = self.second_replica().await;
        self.service.running.stop().await;
        let state = limit_state(&second, &self.tenant).await.remove(0);
        assert_eq!((state.leased, state.unaccounted), (0, 0), "{state:?}");
        state.used
    }
}

async fn start_replica(database: &TestDatabase, clock: &Arc<ManualClock>) -> TestService {
    TestService::start_with(database.settings(), Arc::clone(clock) as SharedClock).await
}

fn with_policy(subject: &str, rule: v1::limit::Rule, on_outage: v1::OutagePolicy) -> v1::Limit {
    v1::Limit { on_outage: on_outage.into(), ..limit_of(subject, "limit", rule) }
}

fn per_hour(amount: i64) -> v1::limit::Rule {
    let window = v1::quota::Window::Calendar(v1::CalendarWindow::Hour.into());
    v1::limit::Rule::Quota(v1::Quota { amount, window: Some(window) })
}

/// Checks that there is no decision, and that the answer says when to try again.
fn assert_undecided(answer: Result<v1::ConsumeResponse, Status>) {
    let status = answer.expect_err("the database does not respond");
    assert_eq!(
        (status.code(), &*error_reason(&status)),
        (Code::Unavailable, "LIMIT_UNDECIDED"),
        "{status:?}"
    );
    assert!(status.get_error_details().retry_info().unwrap().retry_delay.is_some());
}

fn decided_by(response: &v1::ConsumeResponse) -> (Verdict, v1::DecidedBy) {
    (response.verdict(), response.limits[0].decided_by())
}
