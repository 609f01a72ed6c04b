//! Storing usage and computing totals.

use std::time::Duration;

use tenant_auth_svc::domain::{
    clock::UnixMillis,
    id::TenantId,
    page::{PageRequest, PageSize},
    store::{Lane, Store},
    usage::{
        ComparisonCursor, CountedTotal, EventRefusal, Hour, IdempotentWrite, PayloadHasher, StoredOutcome,
        TimeBucket, TotalDifference, UsageMetric, UsageQuery, UsageRequestId, UsageStore,
    },
};

use crate::harness::{NOW, call, change, records::new_tenant};

fn new_usage_write(tenants: &[&TenantId], quantity: i64) -> IdempotentWrite {
    let mut hasher = PayloadHasher::default();
    hasher.add_event("ten", "calls", quantity, None);
    let counted = tenants.iter().map(|tenant| CountedTotal {
        tenant_id: (*tenant).clone(),
        hour: Hour::floor(NOW),
        metric: UsageMetric::parse("calls").unwrap(),
        quantity,
        event_count: 1,
    });
    IdempotentWrite {
        caller: None,
        id: UsageRequestId::parse(TenantId::generate().as_str()).unwrap(),
        payload: hasher.finish(),
        refused: vec![(7, EventRefusal::TooOld)],
        totals: counted.collect(),
        event_count: tenants.len() + 1,
    }
}

async fn usage_sum(store: &impl UsageStore, tenant: &TenantId) -> Option<i64> {
    let query = UsageQuery {
        tenant_id: tenant.clone(),
        metric: None,
        start: Hour::floor(NOW),
        end: Hour::floor(NOW).next(),
        bucket: TimeBucket::Hour,
        page: PageRequest { size: PageSize::DEFAULT, after: None },
    };
    let page = store.sum_usage(call(Lane::Usage), &query).await.unwrap()?;
    Some(page.items.iter().map(|sum| sum.quantity).sum())
}

async fn record_usage(store: &impl UsageStore, claims: &[IdempotentWrite]) -> Vec<StoredOutcome> {
    let kept = store.record_usage(call(Lane::Usage), claims).await.unwrap();
    kept.into_iter().map(Result::unwrap).collect()
}

pub(super) async fn check_usage(store: &(impl Store + UsageStore)) {
    let tenant =
        store.create_tenant(call(Lane::Admin), &new_tenant(), &change()).await.unwrap().outcome.tenant.id;
    let unknown_tenant = TenantId::generate();
    let (first, second) =
        (new_usage_write(&[&tenant, &unknown_tenant], 5), new_usage_write(&[&tenant], 1_000_000_000_000));
    let kept = record_usage(store, &[first.clone(), second.clone()]).await;
    assert_eq!(kept.len(), 2);
    assert_eq!((kept[0].payload, &kept[0].refused), (first.payload, &first.refused));
    assert_eq!(kept[0].unknown_tenants, std::slice::from_ref(&unknown_tenant));
    assert_eq!((kept[1].payload, kept[1].unknown_tenants.len()), (second.payload, 0));
    assert!(!kept[0].already_recorded && !kept[1].already_recorded);
    assert_eq!(usage_sum(store, &tenant).await, Some(1_000_000_000_005));
    assert_eq!(usage_sum(store, &unknown_tenant).await, None);

    // The first request again with different outcomes, next to a new request.
    let mut other = first.clone();
    other.refused.clear();
    other.totals[0].hour = Hour::floor(NOW).next();
    let third = new_usage_write(&[&tenant], 0);
    let again = record_usage(store, &[other, third]).await;
    assert!(again[0].already_recorded && !again[1].already_recorded);
    assert_eq!(again[0].refused, first.refused);
    assert_eq!(usage_sum(store, &tenant).await, Some(1_000_000_000_005));

    let from = ComparisonCursor { hour: Hour::floor(UnixMillis(0)), after: None };
    let hours = (&from, Hour::floor(UnixMillis::MAX));
    let kept = Duration::from_secs(400 * 86_400);
    let compared = store.compare_usage(call(Lane::Maintenance), &tenant, hours, kept, 10).await.unwrap();
    assert_eq!(compared.differences, []);
    // A total that is listed but correct is left unchanged.
    let right = TotalDifference {
        tenant_id: tenant.clone(),
        hour: Hour::floor(NOW),
        metric: UsageMetric::parse("calls").unwrap(),
        total: 1,
        events: 1,
        rows: 1,
    };
    let repaired = store.repair_usage(call(Lane::Maintenance), &[right], kept, &change()).await.unwrap();
    assert_eq!(repaired, []);
    assert_eq!(usage_sum(store, &tenant).await, Some(1_000_000_000_005));
    // No event is this old, even on a shared database.
    let age = Duration::from_secs(1_000 * 365 * 86_400);
    assert_eq!(store.sweep_requests(call(Lane::Maintenance), age, 1_000).await.unwrap(), 0);
    assert_eq!(store.sweep_events(call(Lane::Maintenance), age, None, 1_000).await.unwrap().deleted, 0);
}
