//! Changes that another replica makes: they take effect with the next poll of the feed.

use tenant_auth_proto::v1::{
    DecidedBy, DeleteLimitRequest, OutagePolicy, SuspendTenantRequest, UpdateTenantRequest, Verdict,
};

use super::{LimitedTenant, decided_by, with_policy};
use crate::harness::{
    TestService,
    limits::{consume, limit_subject, per_day, store_limit},
};

async fn verdict(service: &TestService, key: &str, amount: i64) -> Verdict {
    consume(service, key, amount).await.unwrap().verdict()
}

#[tokio::test]
async fn changed_limit_takes_effect_on_the_other_replica() {
    let limited = LimitedTenant::start(per_day(10_000), OutagePolicy::LocalShare).await;
    let (second, key) = (limited.second_replica().await, &limited.key);
    assert_eq!(verdict(&second, key, 100).await, Verdict::Valid);
    // It holds more than is left now.
    store_limit(&limited.service, with_policy(&limited.tenant, per_day(101), OutagePolicy::LocalShare)).await;
    second.poll_feed().await;
    assert_eq!(verdict(&second, key, 1).await, Verdict::Valid);
    assert_eq!(verdict(&second, key, 1).await, Verdict::QuotaExceeded);

    store_limit(&limited.service, with_policy(&limited.tenant, per_day(200), OutagePolicy::LocalShare)).await;
    second.poll_feed().await;
    assert_eq!(verdict(&second, key, 99).await, Verdict::Valid);
    assert_eq!(verdict(&second, key, 1).await, Verdict::QuotaExceeded);

    let delete = DeleteLimitRequest { subject: limit_subject(&limited.tenant), name: "limit".to_owned() };
    limited.service.admin().delete_limit(delete).await.unwrap();
    second.poll_feed().await;
    let unlimited = consume(&second, key, 1_000).await.unwrap();
    assert_eq!((unlimited.verdict(), unlimited.limits.len()), (Verdict::Valid, 0));
}

/// What a replica held of the former limit is not given back to the new one.
#[tokio::test]
async fn limit_that_is_deleted_and_set_again_permits_its_amount_once() {
    let limited = LimitedTenant::start(per_day(1_000), OutagePolicy::LocalShare).await;
    let (second, key) = (limited.second_replica().await, &limited.key);
    assert_eq!(verdict(&second, key, 10).await, Verdict::Valid);
    let delete = DeleteLimitRequest { subject: limit_subject(&limited.tenant), name: "limit".to_owned() };
    limited.service.admin().delete_limit(delete).await.unwrap();
    store_limit(&limited.service, with_policy(&limited.tenant, per_day(1_000), OutagePolicy::LocalShare))
        .await;
    limited.service.poll_feed().await;
    let mut admitted = 0;
    for _ in 0..4 {
        admitted += i64::from(verdict(&limited.service, key, 200).await == Verdict::Valid) * 200;
    }
    second.poll_feed().await;
    for _ in 0..60 {
        for replica in [&second, &limited.service] {
            admitted += i64::from(verdict(replica, key, 10).await == Verdict::Valid) * 10;
        }
    }
    assert!((500..=1_000).contains(&admitted), "{admitted}");
}

#[tokio::test]
async fn changed_plan_takes_effect_on_the_other_replica() {
    let limited = LimitedTenant::start(per_day(10_000), OutagePolicy::Closed).await;
    let second = limited.second_replica().await;
    let tenant = limited.service.create_tenant("Globex").await;
    let (key, _) = limited.service.issue_key(&tenant, &[]).await;
    store_limit(&limited.service, with_policy("pro", per_day(50), OutagePolicy::Closed)).await;
    store_limit(&limited.service, with_policy("basic", per_day(20), OutagePolicy::Closed)).await;
    second.poll_feed().await;
    assert_eq!(verdict(&second, &key, 15).await, Verdict::Valid);
    let change = UpdateTenantRequest {
        tenant_id: tenant.clone(),
        update_mask: Some(prost_types::FieldMask { paths: vec!["plan".to_owned()] }),
        plan: "basic".to_owned(),
        ..Default::default()
    };
    limited.service.admin().update_tenant(change).await.unwrap();
    second.poll_feed().await;
    assert_eq!(verdict(&second, &key, 10).await, Verdict::QuotaExceeded, "15 of 20 are used");
    assert_eq!(verdict(&second, &key, 5).await, Verdict::Valid);
}

#[tokio::test]
async fn suspended_tenant_takes_nothing_on_the_other_replica() {
    let limited = LimitedTenant::start(per_day(10), OutagePolicy::Closed).await;
    let second = limited.second_replica().await;
    let first = consume(&second, &limited.key, 5).await.unwrap();
    assert_eq!(decided_by(&first), (Verdict::Valid, DecidedBy::Database));
    let suspend = SuspendTenantRequest { tenant_id: limited.tenant.clone(), reason: "test".to_owned() };
    limited.service.admin().suspend_tenant(suspend).await.unwrap();
    second.poll_feed().await;
    let denied = consume(&second, &limited.key, 1).await.unwrap();
    assert_eq!((denied.verdict(), denied.limits.len()), (Verdict::TenantSuspended, 0));
    second.running.stop().await;
    assert_eq!(limited.until_state(|state| state.leased == 0).await.used, 5);
}
