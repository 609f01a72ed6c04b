//! Refills of credits, and the windows of the calendar, by the database's clock.

use std::sync::Arc;

use tenant_auth_proto::v1;
use tenant_auth_svc::{
    database::sql::SqlStore,
    domain::{
        clock::{ManualClock, UnixMillis},
        id::TenantId,
        limit::{
            LimitCount,
            store::{LimitHolder, LimitStore as _},
        },
        store::Lane,
    },
};

use crate::harness::{
    TestDatabase, TestService, call,
    limits::{limit_of, limit_subject, set_limit},
};

/// Parses a time such as 2026-02-28T23:59:59Z.
fn at(text: &str) -> UnixMillis {
    let time = humantime::parse_rfc3339(text).unwrap().duration_since(std::time::UNIX_EPOCH).unwrap();
    UnixMillis(i64::try_from(time.as_millis()).unwrap())
}

struct Account {
    database: TestDatabase,
    clock: Arc<ManualClock>,
    service: TestService,
    tenant: String,
}

impl Account {
    async fn open(now: &str) -> Self {
        let database = TestDatabase::test_server().await;
        let clock = ManualClock::at(at(now));
        let service = TestService::start_at(&database, &clock).await;
        let tenant = service.create_tenant("Acme").await;
        Self { database, clock, service, tenant }
    }

    async fn set_credits(&self, initial: i64, amount: i64, every: v1::CalendarWindow, max_balance: i64) {
        let refill = Some(v1::CreditRefill { amount, every: every.into(), max_balance });
        let credits = v1::limit::Rule::Credits(v1::Credits { initial, refill });
        let limit = limit_of(&self.tenant, "tokens", credits);
        self.service.admin().set_limit(set_limit(limit)).await.unwrap();
    }

    /// Adds one credit, so that there is a counter, which is refilled first.
    async fn add_one(&self) -> i64 {
        let request = v1::AddCreditsRequest {
            subject: limit_subject(&self.tenant),
            name: "tokens".to_owned(),
            amount: 1,
            adjustment_id: TenantId::generate().to_string(),
            reason: String::new(),
        };
        self.service.admin().add_credits(request).await.unwrap().into_inner().credited
    }

    async fn count(&self) -> LimitCount {
        let store = SqlStore::new(self.database.client(), Arc::default());
        let holder = LimitHolder::Tenant(TenantId::parse(&self.tenant).unwrap());
        store.limit_state(call(Lane::Admin), &holder).await.unwrap().unwrap().remove(0).1
    }

    async fn credited_at(&self, now: &str) -> i64 {
        self.clock.jump_to(at(now));
        self.count().await.credited
    }
}

#[tokio::test]
async fn credits_are_refilled_once_for_each_window_that_begins() {
    for (every, times) in [
        (
            v1::CalendarWindow::Hour,
            [
                ("2027-12-31T23:59:59Z", 101),
                ("2028-01-01T00:00:00Z", 111),
                ("2028-01-01T02:30:00Z", 131),
                ("2028-01-02T00:00:00Z", 351),
            ],
        ),
        (
            v1::CalendarWindow::Day,
            [
                ("2027-12-31T23:59:59.999Z", 101),
                ("2028-01-01T00:00:00Z", 111),
                ("2028-01-31T23:59:59Z", 411),
                ("2028-03-01T00:00:00Z", 711),
            ],
        ),
        (
            v1::CalendarWindow::Month,
            [
                ("2027-12-31T23:59:59.999Z", 101),
                ("2028-01-01T00:00:00Z", 111),
                ("2028-02-29T23:59:59Z", 121),
                ("2029-03-01T00:00:00Z", 251),
            ],
        ),
    ] {
        let account = Account::open("2027-12-31T23:15:00Z").await;
        account.set_credits(100, 10, every, 0).await;
        assert_eq!(account.add_one().await, 101);
        for (now, expected) in times {
            assert_eq!(account.credited_at(now).await, expected, "{every:?} at {now}");
        }
        // What was read is what a change finds, and the change refills nothing twice.
        let read = account.count().await.credited;
        assert_eq!(account.add_one().await, read + 1);
        assert_eq!(account.count().await.credited, read + 1);
    }
}

#[tokio::test]
async fn refill_raises_the_balance_to_the_maximum_and_never_lowers_it() {
    let account = Account::open("2028-01-01T00:30:00Z").await;
    account.set_credits(10, 100, v1::CalendarWindow::Hour, 150).await;
    account.add_one().await;
    let used = async |counted: i64| {
        let sql = format!("UPDATE limit_counters SET counted = {counted}");
        account.database.server().execute(&sql).unwrap();
    };
    assert_eq!(account.credited_at("2028-01-01T01:00:00Z").await, 111);
    assert_eq!(account.credited_at("2028-01-01T02:00:00Z").await, 150);
    used(40).await;
    assert_eq!(account.credited_at("2028-01-01T03:00:00Z").await, 190, "the balance is 150");
    used(0).await;
    // An operator may add more than a refill does.
    account.set_credits(10, 100, v1::CalendarWindow::Hour, 5).await;
    assert_eq!(account.credited_at("2028-01-01T09:00:00Z").await, 11);
}

#[tokio::test]
async fn clock_that_goes_back_refills_nothing_twice() {
    let account = Account::open("2028-01-01T00:30:00Z").await;
    account.set_credits(0, 10, v1::CalendarWindow::Hour, 0).await;
    assert_eq!(account.add_one().await, 1);
    account.clock.jump_to(at("2028-01-01T02:30:00Z"));
    assert_eq!(account.add_one().await, 22);
    account.clock.jump_to(at("2028-01-01T00:30:00Z"));
    assert_eq!(account.add_one().await, 23);
    account.clock.jump_to(at("2028-01-01T02:40:00Z"));
    assert_eq!(account.count().await.credited, 23);
}

#[tokio::test]
async fn windows_are_those_of_the_calendar() {
    let account = Account::open("2028-02-29T12:34:56.789Z").await;
    for (every, now, start, end) in [
        (
            v1::CalendarWindow::Hour,
            "2028-02-29T12:34:56.789Z",
            "2028-02-29T12:00:00Z",
            "2028-02-29T13:00:00Z",
        ),
        (v1::CalendarWindow::Day, "2028-02-29T12:34:56.789Z", "2028-02-29T00:00:00Z", "2028-03-01T00:00:00Z"),
        (
            v1::CalendarWindow::Month,
            "2028-02-29T12:34:56.789Z",
            "2028-02-01T00:00:00Z",
            "2028-03-01T00:00:00Z",
        ),
        (
            v1::CalendarWindow::Month,
            "2028-12-31T23:59:59.999Z",
            "2028-12-01T00:00:00Z",
            "2029-01-01T00:00:00Z",
        ),
        (v1::CalendarWindow::Month, "2029-01-01T00:00:00Z", "2029-01-01T00:00:00Z", "2029-02-01T00:00:00Z"),
    ] {
        let window = Some(v1::quota::Window::Calendar(every.into()));
        let quota = v1::limit::Rule::Quota(v1::Quota { amount: 5, window });
        let limit = limit_of(&account.tenant, "requests", quota);
        account.service.admin().set_limit(set_limit(limit)).await.unwrap();
        account.clock.jump_to(at(now));
        let count = account.count().await;
        assert_eq!((count.now, count.window), (at(now), Some((at(start), at(end)))), "{every:?} at {now}");
    }
}
