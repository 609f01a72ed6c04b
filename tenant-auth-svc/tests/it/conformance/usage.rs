//! Usage, written down and summed.

use std::time::Duration;

use tenant_auth_svc::domain::{
    clock::UnixMillis,
    id::TenantId,
    page::{PageRequest, PageSize},
    store::{Lane, Store},
    usage::{
        Bucket, Claim, CompareFrom, Counted, Difference, Hour, Kept, Metric, PayloadHasher, Refusal,
        RequestId, UsageQuery, UsageStore,
    },
};

use super::make::new_tenant;
use crate::harness::{NOW, call, change};

fn claim(tenants: &[&TenantId], quantity: i64) -> Claim {
    let mut hasher = PayloadHasher::default();
    hasher.event("ten", "calls", quantity, None);
    let counted = tenants.iter().map(|tenant| Counted {
        tenant_id: (*tenant).clone(),
        hour: Hour::of(NOW),
        metric: Metric::parse("calls").unwrap(),
        quantity,
        events: 1,
    });
    Claim {
        caller: None,
        id: RequestId::parse(TenantId::generate().as_str()).unwrap(),
        payload: hasher.finish(),
        refused: vec![(7, Refusal::TooOld)],
        counted: counted.collect(),
        events: tenants.len() + 1,
    }
}

async fn sum(store: &impl UsageStore, tenant: &TenantId) -> Option<i64> {
    let query = UsageQuery {
        tenant_id: tenant.clone(),
        metric: None,
        start: Hour::of(NOW),
        end: Hour::of(NOW).next(),
        bucket: Bucket::Hour,
        page: PageRequest { size: PageSize::DEFAULT, after: None },
    };
    let page = store.sum_usage(call(Lane::Usage), &query).await.unwrap()?;
    Some(page.items.iter().map(|sum| sum.quantity).sum())
}

async fn record(store: &impl UsageStore, claims: &[Claim]) -> Vec<Kept> {
    let kept = store.record_usage(call(Lane::Usage), claims).await.unwrap();
    kept.into_iter().map(Result::unwrap).collect()
}

pub(super) async fn usage(store: &(impl Store + UsageStore)) {
    let tenant = store.create_tenant(call(Lane::Admin), &new_tenant(), &change()).await.unwrap().id;
    let nobody = TenantId::generate();
    let (first, second) = (claim(&[&tenant, &nobody], 5), claim(&[&tenant], 1_000_000_000_000));
    let kept = record(store, &[first.clone(), second.clone()]).await;
    assert_eq!(kept.len(), 2);
    assert_eq!((kept[0].payload, &kept[0].refused), (first.payload, &first.refused));
    assert_eq!(kept[0].unknown_tenants, std::slice::from_ref(&nobody));
    assert_eq!((kept[1].payload, kept[1].unknown_tenants.len()), (second.payload, 0));
    assert!(!kept[0].already_recorded && !kept[1].already_recorded);
    assert_eq!(sum(store, &tenant).await, Some(1_000_000_000_005));
    assert_eq!(sum(store, &nobody).await, None);

    // Again, with something new, and judged otherwise.
    let mut other = first.clone();
    other.refused.clear();
    other.counted[0].hour = Hour::of(NOW).next();
    let third = claim(&[&tenant], 0);
    let again = record(store, &[other, third]).await;
    assert!(again[0].already_recorded && !again[1].already_recorded);
    assert_eq!(again[0].refused, first.refused);
    assert_eq!(sum(store, &tenant).await, Some(1_000_000_000_005));

    let from = CompareFrom { hour: Hour::of(UnixMillis(0)), after: None };
    let hours = (&from, Hour::of(UnixMillis::MAX));
    let kept = Duration::from_secs(400 * 86_400);
    let compared = store.compare_usage(call(Lane::Maintenance), &tenant, hours, kept, 10).await.unwrap();
    assert_eq!(compared.differences, []);
    // What is named and right is left as it is.
    let right = Difference {
        tenant_id: tenant.clone(),
        hour: Hour::of(NOW),
        metric: Metric::parse("calls").unwrap(),
        total: 1,
        events: 1,
        rows: 1,
    };
    let repaired = store.repair_usage(call(Lane::Maintenance), &[right], kept, &change()).await.unwrap();
    assert_eq!(repaired, []);
    assert_eq!(sum(store, &tenant).await, Some(1_000_000_000_005));
    // Nothing is as old as that, whoever else writes here.
    let age = Duration::from_secs(1_000 * 365 * 86_400);
    assert_eq!(store.sweep_requests(call(Lane::Maintenance), age, 1_000).await.unwrap(), 0);
    assert_eq!(store.sweep_events(call(Lane::Maintenance), age, None, 1_000).await.unwrap().events, 0);
}
