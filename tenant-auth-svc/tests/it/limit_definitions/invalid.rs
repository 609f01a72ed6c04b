//! Invalid requests: each error names its field.

use prost_types::Duration;
use tenant_auth_proto::v1::{self, limit::Rule};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::harness::{
    TestDatabase, TestService,
    limits::{limit_of, limit_subject, per_day, set_limit},
    violated_fields,
};

const DAY: i32 = v1::CalendarWindow::Day as i32;

fn rolling(seconds: i64, nanos: i32) -> Rule {
    let window = v1::quota::Window::Rolling(Duration { seconds, nanos });
    Rule::Quota(v1::Quota { amount: 1, window: Some(window) })
}

fn calendar(window: i32) -> Rule {
    Rule::Quota(v1::Quota { amount: 1, window: Some(v1::quota::Window::Calendar(window)) })
}

fn refill(amount: i64, every: i32, max_balance: i64) -> Rule {
    Rule::Credits(v1::Credits { initial: 1, refill: Some(v1::CreditRefill { amount, every, max_balance }) })
}

fn rate(amount: i64, per: Option<(i64, i32)>, burst: i64) -> Rule {
    let per = per.map(|(seconds, nanos)| Duration { seconds, nanos });
    Rule::Rate(v1::Rate { amount, per, burst })
}

#[tokio::test]
async fn invalid_rule_names_its_fields() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let quota = |amount| Rule::Quota(v1::Quota { amount, window: None });
    let credits = |initial| Rule::Credits(v1::Credits { initial, refill: None });
    for (rule, fields) in [
        (per_day(-1), &["limit.quota.amount"][..]),
        (per_day(1_000_000_000_001), &["limit.quota.amount"]),
        (quota(1), &["limit.quota.window"]),
        (quota(-1), &["limit.quota.amount", "limit.quota.window"]),
        (calendar(0), &["limit.quota.calendar"]),
        (calendar(9), &["limit.quota.calendar"]),
        (rolling(59, 0), &["limit.quota.rolling"]),
        (rolling(366 * 86_400, 1_000_000), &["limit.quota.rolling"]),
        (rolling(60, 1), &["limit.quota.rolling"]),
        (rolling(-60, 0), &["limit.quota.rolling"]),
        (credits(-1), &["limit.credits.initial"]),
        (refill(0, DAY, 0), &["limit.credits.refill.amount"]),
        (refill(1, 0, -1), &["limit.credits.refill.every", "limit.credits.refill.max_balance"]),
        (rate(0, None, 0), &["limit.rate.amount"]),
        (rate(1_000_000_001, None, 1), &["limit.rate.amount"]),
        (rate(1, Some((0, 999_000_000)), 0), &["limit.rate.per"]),
        (rate(1, Some((86_401, 0)), -1), &["limit.rate.per", "limit.rate.burst"]),
        (rate(1, None, 1_000_000_001), &["limit.rate.burst"]),
    ] {
        let limit = limit_of("pro", "requests", rule);
        let refused = service.admin().set_limit(set_limit(limit)).await.unwrap_err();
        assert_eq!(violated_fields(refused), fields, "{rule:?}");
    }
    let limit = limit_of("pro", "requests", rolling(59, 0));
    let refused = service.admin().set_limit(set_limit(limit)).await.unwrap_err();
    let message = "limit.quota.rolling: must be 1 minute to 366 days, in whole milliseconds; use a rate for shorter windows";
    assert_eq!(refused.message(), message);
}

#[tokio::test]
async fn invalid_limit_names_its_fields() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let valid = || limit_of("pro", "requests", per_day(1));
    for (limit, fields) in [
        (v1::Limit::default(), &["limit.subject", "limit.name", "limit.metric", "limit.rule"][..]),
        (v1::Limit { subject: limit_subject(""), ..valid() }, &["limit.subject.plan"]),
        (v1::Limit { subject: limit_subject(&"x".repeat(33)), ..valid() }, &["limit.subject.plan"]),
        (v1::Limit { subject: limit_subject("ten_ "), ..valid() }, &["limit.subject.tenant_id"]),
        (v1::Limit { subject: limit_subject("key_ "), ..valid() }, &["limit.subject.key_id"]),
        (v1::Limit { name: "Requests".to_owned(), ..valid() }, &["limit.name"]),
        (v1::Limit { metric: "a-b".to_owned(), ..valid() }, &["limit.metric"]),
        (v1::Limit { on_outage: 9, ..valid() }, &["limit.on_outage"]),
    ] {
        let refused = service.admin().set_limit(set_limit(limit.clone())).await.unwrap_err();
        assert_eq!(violated_fields(refused), fields, "{limit:?}");
    }
    let refused = service.admin().set_limit(v1::SetLimitRequest::default()).await.unwrap_err();
    assert_eq!(violated_fields(refused), ["limit"]);
    let negative = v1::SetLimitRequest { expected_version: Some(-1), ..set_limit(valid()) };
    let refused = service.admin().set_limit(negative).await.unwrap_err();
    assert_eq!(violated_fields(refused), ["expected_version"]);
}

#[tokio::test]
async fn invalid_reference_names_its_fields() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let refused = service.admin().get_limit(v1::GetLimitRequest::default()).await.unwrap_err();
    assert_eq!(violated_fields(refused), ["subject", "name"]);
    let refused = service.admin().delete_limit(v1::DeleteLimitRequest::default()).await.unwrap_err();
    assert_eq!(violated_fields(refused), ["subject", "name"]);

    let plan = |plan: &str| v1::ListLimitsRequest { subject: limit_subject(plan), ..Default::default() };
    for name in ["a", "b"] {
        service.admin().set_limit(set_limit(limit_of("pro", name, per_day(1)))).await.unwrap();
    }
    let first = v1::ListLimitsRequest { page_size: 1, ..plan("pro") };
    let token = service.admin().list_limits(first).await.unwrap().into_inner().next_page_token;
    for (request, fields) in [
        (v1::ListLimitsRequest { page_size: -1, ..plan("pro") }, &["page_size"][..]),
        (v1::ListLimitsRequest { page_token: "?".to_owned(), ..plan("pro") }, &["page_token"]),
        // Of another list.
        (v1::ListLimitsRequest { page_token: token, ..plan("free") }, &["page_token"]),
        (plan(""), &["subject.plan"]),
        (
            v1::ListLimitsRequest { subject: Some(v1::LimitSubject::default()), ..Default::default() },
            &["subject"],
        ),
    ] {
        let refused = service.admin().list_limits(request.clone()).await.unwrap_err();
        assert_eq!(violated_fields(refused), fields, "{request:?}");
    }
}

#[tokio::test]
async fn invalid_adjustment_names_its_fields() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let valid = || v1::AddCreditsRequest {
        subject: limit_subject("ten_1"),
        name: "tokens".to_owned(),
        amount: 1,
        adjustment_id: "invoice-1".to_owned(),
        reason: String::new(),
    };
    let all = &["subject", "name", "amount", "adjustment_id"];
    for (request, fields) in [
        (v1::AddCreditsRequest::default(), &all[..]),
        (v1::AddCreditsRequest { subject: limit_subject("pro"), ..valid() }, &["subject.plan"]),
        (v1::AddCreditsRequest { amount: 1_000_000_000_001, ..valid() }, &["amount"]),
        (v1::AddCreditsRequest { amount: i64::MIN, ..valid() }, &["amount"]),
        (v1::AddCreditsRequest { adjustment_id: "x".repeat(129), ..valid() }, &["adjustment_id"]),
        (v1::AddCreditsRequest { reason: "x".repeat(201), ..valid() }, &["reason"]),
        (v1::AddCreditsRequest { reason: "\u{202e}".to_owned(), ..valid() }, &["reason"]),
    ] {
        let refused = service.admin().add_credits(request.clone()).await.unwrap_err();
        assert_eq!(violated_fields(refused), fields, "{request:?}");
    }
    let refused = service.admin().add_credits(valid()).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound, "{:?}", refused.get_error_details());
}
