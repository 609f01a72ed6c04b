//! Usage recording: what an acknowledgement guarantees under faults.

mod ambiguity;
mod batching;
mod callers;
mod property;
mod repair;
mod retention;
mod sums;

use std::time::Duration;

use prost_types::Timestamp;
use tenant_auth_proto::v1::{self};
use tenant_auth_svc::domain::clock::{ManualClock, UnixMillis};
use tonic::Code;
use tonic_types::RpcStatusExt as _;

use crate::harness::{
    NOW, TestDatabase, TestService, error_reason,
    usage::{record_usage, usage_event, usage_total},
};

/// Returns the index, code and reason of each rejected event.
fn rejected_events(response: &v1::RecordUsageResponse) -> Vec<(i32, Code, String)> {
    let each = response.rejected.iter().map(|rejected| {
        let error = rejected.error.as_ref().unwrap();
        let reason = error.get_error_details().error_info().unwrap().reason.clone();
        (rejected.index, Code::from(error.code), reason)
    });
    each.collect()
}

#[tokio::test]
async fn valid_usage_events_are_counted_and_others_rejected_by_name() {
    for database in [TestDatabase::embedded(), TestDatabase::test_server().await] {
        let clock = ManualClock::at(NOW);
        let service = TestService::start_at(&database, &clock).await;
        let tenant = service.create_tenant("Acme").await;
        let day = 24 * 3_600_000;
        let at = |offset| Some(UnixMillis(NOW.0 + offset));
        let events = vec![
            usage_event(&tenant, "api.calls", 3, None),
            usage_event(&tenant, "api.calls", 4, at(-60_000)),
            usage_event("nobody", "api.calls", 1, None),
            usage_event("not an id", "api.calls", 1, None),
            usage_event(&tenant, "API", 1, None),
            usage_event(&tenant, "api.calls", -1, None),
            usage_event(&tenant, "api.calls", 1_000_000_000_001, None),
            usage_event(&tenant, "api.calls", 5, at(-30 * day)),
            usage_event(&tenant, "api.calls", 1, at(-30 * day - 1_000)),
            usage_event(&tenant, "api.calls", 1, at(5 * 60_000 + 1_000)),
            v1::UsageEvent {
                occurred_at: Some(Timestamp { seconds: 0, nanos: -1 }),
                ..usage_event(&tenant, "api.calls", 1, None)
            },
            usage_event(&tenant, "tokens", 0, None),
            usage_event(&"t".repeat(100_000), "api.calls", 1, None),
            usage_event(&tenant, "a\u{0}", 1, None),
        ];
        let first = record_usage(&service, "r-1", events.clone()).await.unwrap();
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
        assert_eq!(rejected_events(&first), expected);
        assert_eq!(usage_total(&service, &tenant, "api.calls").await, 12);

        // Days later, when its events would be judged differently and the unknown tenant exists.
        clock.advance(Duration::from_secs(20 * 86_400));
        let late = v1::CreateTenantRequest {
            tenant_id: "nobody".to_owned(),
            name: "Late".to_owned(),
            ..Default::default()
        };
        service.admin().create_tenant(late).await.unwrap();
        let again = record_usage(&service, "r-1", events).await.unwrap();
        assert!(again.already_recorded);
        assert_eq!(again, v1::RecordUsageResponse { already_recorded: true, ..first });
        assert_eq!(usage_total(&service, &tenant, "api.calls").await, 12);
        assert_eq!(usage_total(&service, "nobody", "api.calls").await, 0);
    }
}

#[tokio::test]
async fn usage_request_id_is_bound_to_its_events() {
    for database in [TestDatabase::embedded(), TestDatabase::test_server().await] {
        let service = TestService::start(&database).await;
        let tenant = service.create_tenant("Acme").await;
        record_usage(&service, "r-1", vec![usage_event(&tenant, "calls", 1, None)]).await.unwrap();
        for other in [
            vec![usage_event(&tenant, "calls", 2, None)],
            vec![usage_event(&tenant, "call", 1, None)],
            vec![usage_event(&tenant, "calls", 1, Some(UnixMillis(0)))],
            vec![usage_event(&tenant, "calls", 1, None), usage_event(&tenant, "calls", 1, None)],
        ] {
            let refused = record_usage(&service, "r-1", other).await.unwrap_err();
            assert_eq!(
                (refused.code(), &*error_reason(&refused)),
                (Code::AlreadyExists, "REQUEST_ID_REUSED")
            );
        }
        assert_eq!(usage_total(&service, &tenant, "calls").await, 1);
    }
}

/// A request without a single countable event is stored as well.
#[tokio::test]
async fn usage_request_without_valid_events_is_still_remembered() {
    let database = TestDatabase::embedded();
    let service = TestService::start(&database).await;
    for already in [false, true] {
        let response =
            record_usage(&service, "r-1", vec![usage_event("nobody", "calls", 1, None)]).await.unwrap();
        assert_eq!((response.accepted, response.already_recorded), (0, already));
        assert_eq!(rejected_events(&response)[0].0, 0);
    }
}
