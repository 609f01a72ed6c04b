//! Limits as operators set, read and delete them.

mod credits;
mod invalid;
mod refills;
mod state;
mod stored;

use serde_json::json;
use tenant_auth_proto::v1;
use tenant_auth_testkit::Fault;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{
    TestDatabase, TestService, error_reason,
    limits::{limit_of, limit_subject, per_day, set_limit},
    updates::audit_details,
};

async fn set(service: &TestService, limit: v1::Limit) -> v1::Limit {
    service.admin().set_limit(set_limit(limit)).await.unwrap().into_inner().limit.unwrap()
}

#[tokio::test]
async fn limit_is_set_read_listed_and_deleted() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let tenant = service.create_tenant("Acme").await;
        let (_, key) = service.issue_key(&tenant, &[]).await;
        let rules = [
            per_day(10_000),
            v1::limit::Rule::Quota(v1::Quota {
                amount: 0,
                window: Some(v1::quota::Window::Rolling(prost_types::Duration { seconds: 3_600, nanos: 0 })),
            }),
            v1::limit::Rule::Credits(v1::Credits {
                initial: 5,
                refill: Some(v1::CreditRefill {
                    amount: 7,
                    every: v1::CalendarWindow::Month.into(),
                    max_balance: 9,
                }),
            }),
            v1::limit::Rule::Rate(v1::Rate {
                amount: 10,
                per: Some(prost_types::Duration { seconds: 1, nanos: 500_000_000 }),
                burst: 20,
            }),
        ];
        for (subject, rule) in [tenant.as_str(), &key, &tenant, &key].into_iter().zip(rules) {
            let wanted = v1::Limit { shadow: true, ..limit_of(subject, "requests.daily", rule) };
            let response = service.admin().set_limit(set_limit(wanted.clone())).await.unwrap().into_inner();
            let stored = response.limit.unwrap();
            assert!(stored.version > 0 && stored.version <= response.revision, "{}", database.name());
            let expected =
                v1::Limit { version: stored.version, updated_at: stored.updated_at, ..wanted.clone() };
            assert_eq!(stored, expected);
            let reference =
                v1::GetLimitRequest { subject: limit_subject(subject), name: "requests.daily".to_owned() };
            let read = service.admin().get_limit(reference).await.unwrap().into_inner();
            assert_eq!(read.limit.as_ref(), Some(&stored));
            assert_eq!(set(&service, wanted).await, stored, "the same values change nothing");
            let list = v1::ListLimitsRequest { subject: limit_subject(subject), ..Default::default() };
            let listed = service.admin().list_limits(list).await.unwrap().into_inner();
            assert_eq!((listed.limits, &*listed.next_page_token), (vec![stored], ""));
        }

        let deletion =
            || v1::DeleteLimitRequest { subject: limit_subject(&tenant), name: "requests.daily".to_owned() };
        let deleted = service.admin().delete_limit(deletion()).await.unwrap().into_inner();
        assert!(deleted.existed && deleted.revision > 0);
        let again = service.admin().delete_limit(deletion()).await.unwrap().into_inner();
        assert!(!again.existed);
        let reference =
            v1::GetLimitRequest { subject: limit_subject(&tenant), name: "requests.daily".to_owned() };
        let missing = service.admin().get_limit(reference).await.unwrap_err();
        assert_eq!((missing.code(), &*error_reason(&missing)), (Code::NotFound, "NO_SUCH_LIMIT"));
    }
}

#[tokio::test]
async fn defaults_of_a_limit_are_filled_in() {
    let database = TestDatabase::embedded();
    let service = TestService::start(&database).await;
    let rate = v1::limit::Rule::Rate(v1::Rate { amount: 10, per: None, burst: 0 });
    let limit = v1::Limit { on_outage: 0, ..limit_of("pro", "burst", rate) };
    let stored = set(&service, limit).await;
    assert_eq!(stored.on_outage(), v1::OutagePolicy::Closed);
    let per = Some(prost_types::Duration { seconds: 1, nanos: 0 });
    assert_eq!(stored.rule, Some(v1::limit::Rule::Rate(v1::Rate { amount: 10, per, burst: 10 })));
}

#[tokio::test]
async fn change_based_on_old_version_is_aborted() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let expecting = |amount, version| v1::SetLimitRequest {
        expected_version: Some(version),
        ..set_limit(limit_of(&tenant, "requests", per_day(amount)))
    };
    let first = service.admin().set_limit(expecting(1, 0)).await.unwrap().into_inner().limit.unwrap();
    for version in [0, first.version + 1] {
        let refused = service.admin().set_limit(expecting(2, version)).await.unwrap_err();
        let details = refused.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((refused.code(), &*info.reason), (Code::Aborted, "LIMIT_VERSION_MISMATCH"));
        assert_eq!(info.metadata["version"], first.version.to_string());
    }
    let second = service.admin().set_limit(expecting(2, first.version)).await.unwrap().into_inner();
    // The response was lost, and the caller repeats its request.
    let repeated = service.admin().set_limit(expecting(2, first.version)).await.unwrap().into_inner();
    assert_eq!(repeated.limit, second.limit);
}

#[tokio::test]
async fn limit_of_unknown_tenant_or_key_is_refused() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    for (subject, reason, message, field) in [
        ("ten_nobody", "NO_SUCH_TENANT", "there is no tenant ten_nobody", "subject.tenant_id"),
        ("key_nobody", "NO_SUCH_KEY", "there is no key key_nobody", "subject.key_id"),
    ] {
        let limit = limit_of(subject, "requests", per_day(1));
        let refused = service.admin().set_limit(set_limit(limit)).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        let details = refused.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((&*info.reason, refused.message()), (reason, message));
        assert_eq!(info.metadata["field"], field);
    }
}

#[tokio::test]
async fn each_change_is_recorded_with_the_values_before_and_after() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let tenant = service.create_tenant("Acme").await;
        set(&service, limit_of(&tenant, "requests", per_day(10))).await;
        let rate = v1::limit::Rule::Rate(v1::Rate { amount: 5, per: None, burst: 0 });
        let shadow = v1::Limit { shadow: true, ..limit_of(&tenant, "requests", rate) };
        for _ in 0..2 {
            set(&service, shadow.clone()).await;
        }
        let deletion =
            v1::DeleteLimitRequest { subject: limit_subject(&tenant), name: "requests".to_owned() };
        service.admin().delete_limit(deletion).await.unwrap();
        let daily = json!({
            "metric": "requests", "kind": "day", "amount": 10, "on_outage": "closed", "shadow": false,
        });
        let rate = json!({
            "metric": "requests", "kind": "rate", "amount": 5, "period_ms": 1_000, "burst": 5,
            "on_outage": "closed", "shadow": true,
        });
        let expected = [
            json!({ "limit": "requests", "after": daily }),
            json!({ "limit": "requests", "before": daily, "after": rate }),
        ];
        assert_eq!(audit_details(&service, &tenant, "limit.set").await, expected, "{}", database.name());
        let deleted = audit_details(&service, &tenant, "limit.delete").await;
        assert_eq!(deleted, [json!({ "limit": "requests", "before": rate })]);

        // Entries of a key appear among those of its tenant, and a plan has none.
        let (_, key) = service.issue_key(&tenant, &[]).await;
        set(&service, limit_of(&key, "requests", per_day(1))).await;
        let list = v1::ListAuditEventsRequest { tenant_id: tenant, ..Default::default() };
        let events = service.admin().list_audit_events(list).await.unwrap().into_inner().events;
        assert_eq!((&*events[0].action, &events[0].target), ("limit.set", &key));
    }
}

#[tokio::test]
async fn limit_of_a_plan_is_recorded_under_the_name_of_the_plan() {
    let database = TestDatabase::embedded();
    let service = TestService::start(&database).await;
    set(&service, limit_of("pro", "requests", per_day(10))).await;
    assert_eq!(audit_details(&service, "plan:pro", "limit.set").await.len(), 1);
}

#[tokio::test]
async fn lost_response_to_a_change_changes_nothing_twice() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    for fault in [Fault::ResetAfterCommit, Fault::ResetBeforeExecute] {
        let tenant = service.create_tenant("Acme").await;
        database.server().faults().set_for(1, fault.clone());
        let new = v1::SetLimitRequest {
            expected_version: Some(0),
            ..set_limit(limit_of(&tenant, "requests", per_day(1)))
        };
        service.admin().set_limit(new).await.unwrap();
        assert_eq!(audit_details(&service, &tenant, "limit.set").await.len(), 1, "{fault:?}");

        database.server().faults().set_for(1, fault.clone());
        let deletion =
            v1::DeleteLimitRequest { subject: limit_subject(&tenant), name: "requests".to_owned() };
        let deleted = service.admin().delete_limit(deletion).await.unwrap().into_inner();
        assert!(deleted.existed, "{fault:?}");
        assert_eq!(audit_details(&service, &tenant, "limit.delete").await.len(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn limits_are_listed_in_pages_without_unreadable_ones() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    for name in ["a", "b", "c", "d", "e"] {
        for subject in [tenant.as_str(), "pro plan"] {
            set(&service, limit_of(subject, name, per_day(1))).await;
        }
    }
    database.server().execute("UPDATE limits SET kind = 'week' WHERE name IN ('b', 'c')").unwrap();
    let list = async |subject: Option<&str>| {
        let (mut names, mut token) = (Vec::new(), String::new());
        loop {
            let request = v1::ListLimitsRequest {
                subject: subject.and_then(limit_subject),
                page_size: 1,
                page_token: token,
            };
            let page = service.admin().list_limits(request).await.unwrap().into_inner();
            names.extend(page.limits.into_iter().map(|limit| limit.name));
            token = page.next_page_token;
            if token.is_empty() {
                return names;
            }
        }
    };
    assert_eq!(list(Some(&tenant)).await, ["a", "d", "e"]);
    assert_eq!(list(Some("pro plan")).await, ["a", "d", "e"]);
    assert_eq!(list(None).await, ["a", "d", "e", "a", "d", "e"], "first of plans, then of tenants");
}
