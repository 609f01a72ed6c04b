//! Queries of usage sums.

use prost_types::Timestamp;
use tenant_auth_proto::v1;
use tenant_auth_svc::domain::clock::{ManualClock, UnixMillis};
use tenant_auth_testkit::Fault;
use tonic::Code;

use crate::harness::{
    TestDatabase, TestService, error_reason,
    usage::{record_usage, usage_client, usage_event},
};

/// 2026-10-02T00:00:00Z.
const START_OF_DAY: i64 = 1_790_899_200;

fn usage_query(tenant: &str, start: i64, end: i64, bucket: v1::UsageBucket) -> v1::QueryUsageRequest {
    let timestamp = |seconds| Some(Timestamp { seconds, nanos: 0 });
    v1::QueryUsageRequest {
        tenant_id: tenant.to_owned(),
        start_time: timestamp(start),
        end_time: timestamp(end),
        bucket: bucket.into(),
        ..Default::default()
    }
}

/// Returns every sum of all pages: seconds, metric, quantity.
async fn all_sums(service: &TestService, mut request: v1::QueryUsageRequest) -> Vec<(i64, String, i64)> {
    let mut sums = Vec::new();
    loop {
        let page = usage_client(service).query_usage(request.clone()).await.unwrap().into_inner();
        assert!(request.page_size == 0 || page.sums.len() <= usize::try_from(request.page_size).unwrap());
        sums.extend(
            page.sums.into_iter().map(|sum| (sum.bucket_start.unwrap().seconds, sum.metric, sum.quantity)),
        );
        if page.next_page_token.is_empty() {
            return sums;
        }
        request.page_token = page.next_page_token;
    }
}

#[tokio::test]
async fn usage_is_summed_by_utc_hour_day_and_month() {
    for database in TestDatabase::all().await {
        let clock = ManualClock::at(UnixMillis((START_OF_DAY + 3 * 3_600) * 1_000));
        let service = TestService::start_at(&database, &clock).await;
        let (tenant, other) = (service.create_tenant("Acme").await, service.create_tenant("Other").await);
        let at = |seconds: i64| Some(UnixMillis(seconds * 1_000));
        let (hour, last_month) = (3_600, START_OF_DAY - 2 * 86_400);
        let events = vec![
            usage_event(&tenant, "b", 1, at(START_OF_DAY)),
            usage_event(&tenant, "b", 2, at(START_OF_DAY + hour - 1)),
            usage_event(&tenant, "a", 4, at(START_OF_DAY)),
            usage_event(&tenant, "b", 8, at(START_OF_DAY + hour)),
            usage_event(&tenant, "b", 16, at(START_OF_DAY - 1)),
            usage_event(&tenant, "b", 32, at(last_month)),
            usage_event(&other, "b", 64, at(START_OF_DAY)),
        ];
        let id = format!("sums-{tenant}");
        assert_eq!(record_usage(&service, &id, events).await.unwrap().accepted, 7);

        let (from, to) = (START_OF_DAY - 20 * 86_400, START_OF_DAY + 86_400);
        let row = |start: i64, metric: &str, quantity: i64| (start, metric.to_owned(), quantity);
        let by_hour = [
            row(last_month, "b", 32),
            row(START_OF_DAY - hour, "b", 16),
            row(START_OF_DAY, "a", 4),
            row(START_OF_DAY, "b", 3),
            row(START_OF_DAY + hour, "b", 8),
        ];
        let by_day = [
            row(last_month, "b", 32),
            row(START_OF_DAY - 86_400, "b", 16),
            row(START_OF_DAY, "a", 4),
            row(START_OF_DAY, "b", 11),
        ];
        let (september, october) = (START_OF_DAY - 31 * 86_400, START_OF_DAY - 86_400);
        let by_month = [row(september, "b", 32), row(october, "a", 4), row(october, "b", 27)];
        for page_size in [0, 1, 2] {
            for (bucket, expected) in [
                (v1::UsageBucket::Hour, &by_hour[..]),
                (v1::UsageBucket::Day, &by_day),
                (v1::UsageBucket::Unspecified, &by_day),
                (v1::UsageBucket::Month, &by_month),
            ] {
                let request = v1::QueryUsageRequest { page_size, ..usage_query(&tenant, from, to, bucket) };
                assert_eq!(all_sums(&service, request).await, expected, "{bucket:?} {page_size}");
            }
        }
        let only_a = v1::QueryUsageRequest {
            metric: "a".to_owned(),
            ..usage_query(&tenant, from, to, v1::UsageBucket::Day)
        };
        assert_eq!(all_sums(&service, only_a).await, [row(START_OF_DAY, "a", 4)]);
        // An hour that the range starts in counts in full; the hour at its end does not count.
        let part = usage_query(&tenant, START_OF_DAY + 1, START_OF_DAY + hour, v1::UsageBucket::Hour);
        assert_eq!(all_sums(&service, part).await, [row(START_OF_DAY, "a", 4), row(START_OF_DAY, "b", 3)]);
        let nothing = usage_query(&tenant, START_OF_DAY + 7_200, START_OF_DAY + 7_201, v1::UsageBucket::Hour);
        assert_eq!(all_sums(&service, nothing).await, []);

        let unknown = usage_query("nobody-at-all", from, to, v1::UsageBucket::Day);
        let missing = usage_client(&service).query_usage(unknown).await.unwrap_err();
        assert_eq!((missing.code(), &*error_reason(&missing)), (Code::NotFound, "NO_SUCH_TENANT"));
    }
}

#[tokio::test]
async fn failed_usage_query_is_never_an_empty_sum() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    for fault in [Fault::MissingRows, Fault::html_ok(), Fault::service_unavailable()] {
        database.server().faults().set(fault.clone());
        let request = usage_query(&tenant, 0, START_OF_DAY, v1::UsageBucket::Day);
        let failed = usage_client(&service).query_usage(request).await.unwrap_err();
        assert_eq!(failed.code(), Code::Unavailable, "{fault:?}");
    }
}
