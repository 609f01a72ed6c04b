//! Metering: what an acknowledgement means, whatever happens on the way.

mod ambiguity;
mod callers;
mod grouping;
mod property;
mod repair;
mod sums;
mod upkeep;

use std::time::Duration;

use prost_types::Timestamp;
use tenant_auth_proto::v1::{self, usage_service_client::UsageServiceClient};
use tenant_auth_svc::domain::clock::{ManualClock, UnixMillis};
use tonic::{Code, Status, transport::Channel};
use tonic_types::{RpcStatusExt as _, StatusExt as _};

use crate::harness::{Database, NOW, Service};

/// What every transaction of usage holds, and nothing else does.
const WRITE: &str = "INSERT INTO usage_requests";

fn client(service: &Service) -> UsageServiceClient<Channel> {
    UsageServiceClient::new(service.channel.clone())
}

fn event(tenant: &str, metric: &str, quantity: i64, at: Option<UnixMillis>) -> v1::UsageEvent {
    let occurred_at = at.map(|at| Timestamp { seconds: at.0.div_euclid(1_000), nanos: 0 });
    v1::UsageEvent { tenant_id: tenant.to_owned(), metric: metric.to_owned(), quantity, occurred_at }
}

async fn record(
    service: &Service,
    id: &str,
    events: Vec<v1::UsageEvent>,
) -> Result<v1::RecordUsageResponse, Status> {
    let request = v1::RecordUsageRequest { request_id: id.to_owned(), events };
    Ok(client(service).record_usage(request).await?.into_inner())
}

/// Waits until this many events wait to be committed.
async fn until_waiting(service: &Service, wanted: usize) {
    let reached = service.running.committing().has_waiting(|waiting| waiting == wanted);
    tokio::time::timeout(Duration::from_secs(30), reached).await.expect("they must come to wait");
}

/// Records for a caller that leaves as soon as this many events wait.
async fn leave(service: &Service, id: &str, event: v1::UsageEvent, waiting: usize) {
    tokio::select! {
        outcome = record(service, id, vec![event]) => panic!("{outcome:?}"),
        () = until_waiting(service, waiting) => {}
    }
}

/// Everything that a tenant ever consumed of a metric, as callers see it.
async fn total(service: &Service, tenant: &str, metric: &str) -> i64 {
    let request = v1::QueryUsageRequest {
        tenant_id: tenant.to_owned(),
        metric: metric.to_owned(),
        start_time: Some(Timestamp { seconds: 0, nanos: 0 }),
        end_time: Some(Timestamp { seconds: 250_000_000_000, nanos: 0 }),
        bucket: v1::UsageBucket::Month.into(),
        ..Default::default()
    };
    let response = client(service).query_usage(request).await.unwrap().into_inner();
    response.sums.iter().map(|sum| sum.quantity).sum()
}

fn reason(status: &Status) -> String {
    status.get_error_details().error_info().unwrap().reason.clone()
}

/// Each refused event: its place, code and reason.
fn rejected(response: &v1::RecordUsageResponse) -> Vec<(i32, Code, String)> {
    let each = response.rejected.iter().map(|rejected| {
        let error = rejected.error.as_ref().unwrap();
        let reason = error.get_error_details().error_info().unwrap().reason.clone();
        (rejected.index, Code::from(error.code), reason)
    });
    each.collect()
}

#[tokio::test]
async fn what_can_be_counted_is_and_the_rest_is_named() {
    for database in [Database::embedded(), Database::test_server().await] {
        let clock = ManualClock::at(NOW);
        let service = Service::start_at(&database, &clock).await;
        let tenant = service.tenant("Acme").await;
        let day = 24 * 3_600_000;
        let at = |offset| Some(UnixMillis(NOW.0 + offset));
        let events = vec![
            event(&tenant, "api.calls", 3, None),
            event(&tenant, "api.calls", 4, at(-60_000)),
            event("nobody", "api.calls", 1, None),
            event("not an id", "api.calls", 1, None),
            event(&tenant, "API", 1, None),
            event(&tenant, "api.calls", -1, None),
            event(&tenant, "api.calls", 1_000_000_000_001, None),
            event(&tenant, "api.calls", 5, at(-30 * day)),
            event(&tenant, "api.calls", 1, at(-30 * day - 1_000)),
            event(&tenant, "api.calls", 1, at(5 * 60_000 + 1_000)),
            v1::UsageEvent {
                occurred_at: Some(Timestamp { seconds: 0, nanos: -1 }),
                ..event(&tenant, "api.calls", 1, None)
            },
            event(&tenant, "tokens", 0, None),
            event(&"t".repeat(100_000), "api.calls", 1, None),
            event(&tenant, "a\u{0}", 1, None),
        ];
        let first = record(&service, "r-1", events.clone()).await.unwrap();
        assert_eq!((first.accepted, first.already_recorded), (4, false));
        let invalid = |index, reason: &str| (index, Code::InvalidArgument, reason.to_owned());
        let expected = [
            (2, Code::NotFound, "NO_SUCH_TENANT".to_owned()),
            invalid(3, "TENANT_ID_INVALID"),
            invalid(4, "METRIC_INVALID"),
            invalid(5, "QUANTITY_NEGATIVE"),
            invalid(6, "QUANTITY_TOO_LARGE"),
            invalid(8, "TOO_OLD"),
            invalid(9, "TOO_FAR_AHEAD"),
            invalid(10, "TIME_INVALID"),
            invalid(12, "TENANT_ID_INVALID"),
            invalid(13, "METRIC_INVALID"),
        ];
        assert_eq!(rejected(&first), expected);
        assert_eq!(total(&service, &tenant, "api.calls").await, 12);

        // Days later, by when its events would be judged otherwise and the unknown tenant is there.
        clock.advance(Duration::from_secs(20 * 86_400));
        let late = v1::CreateTenantRequest {
            tenant_id: "nobody".to_owned(),
            name: "Late".to_owned(),
            ..Default::default()
        };
        service.admin().create_tenant(late).await.unwrap();
        let again = record(&service, "r-1", events).await.unwrap();
        assert!(again.already_recorded);
        assert_eq!(again, v1::RecordUsageResponse { already_recorded: true, ..first });
        assert_eq!(total(&service, &tenant, "api.calls").await, 12);
        assert_eq!(total(&service, "nobody", "api.calls").await, 0);
    }
}

#[tokio::test]
async fn an_id_belongs_to_its_events() {
    for database in [Database::embedded(), Database::test_server().await] {
        let service = Service::start(&database).await;
        let tenant = service.tenant("Acme").await;
        record(&service, "r-1", vec![event(&tenant, "calls", 1, None)]).await.unwrap();
        for other in [
            vec![event(&tenant, "calls", 2, None)],
            vec![event(&tenant, "call", 1, None)],
            vec![event(&tenant, "calls", 1, Some(UnixMillis(0)))],
            vec![event(&tenant, "calls", 1, None), event(&tenant, "calls", 1, None)],
        ] {
            let refused = record(&service, "r-1", other).await.unwrap_err();
            assert_eq!((refused.code(), &*reason(&refused)), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
        }
        assert_eq!(total(&service, &tenant, "calls").await, 1);
    }
}

/// A request of which nothing can be counted is remembered all the same.
#[tokio::test]
async fn a_request_without_a_countable_event_is_an_answer() {
    let database = Database::embedded();
    let service = Service::start(&database).await;
    for already in [false, true] {
        let response = record(&service, "r-1", vec![event("nobody", "calls", 1, None)]).await.unwrap();
        assert_eq!((response.accepted, response.already_recorded), (0, already));
        assert_eq!(rejected(&response)[0].0, 0);
    }
}
