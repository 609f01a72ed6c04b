//! Credits that operators add and take away.

use serde_json::json;
use tenant_auth_proto::v1;
use tenant_auth_testkit::Fault;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::harness::{
    TestDatabase, TestService,
    callers::CallersFile,
    error_reason,
    limits::{limit_of, limit_subject, per_day, set_limit},
    updates::audit_details,
    wire::with_token,
};
use tenant_auth_svc::domain::access::Role;

fn adjustment(subject: &str, amount: i64, id: &str) -> v1::AddCreditsRequest {
    v1::AddCreditsRequest {
        subject: limit_subject(subject),
        name: "tokens".to_owned(),
        amount,
        adjustment_id: id.to_owned(),
        reason: "paid".to_owned(),
    }
}

async fn add(
    service: &TestService,
    request: v1::AddCreditsRequest,
) -> Result<v1::AddCreditsResponse, Status> {
    Ok(service.admin().add_credits(request).await?.into_inner())
}

async fn with_credits(service: &TestService, initial: i64) -> String {
    let tenant = service.create_tenant("Acme").await;
    let credits = v1::limit::Rule::Credits(v1::Credits { initial, refill: None });
    service.admin().set_limit(set_limit(limit_of(&tenant, "tokens", credits))).await.unwrap();
    tenant
}

#[tokio::test]
async fn adjustment_counts_once() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let tenant = with_credits(&service, 100).await;
        let id = format!("invoice-{tenant}");
        for already_added in [false, true, true] {
            let added = add(&service, adjustment(&tenant, 50, &id)).await.unwrap();
            assert_eq!((added.credited, added.remaining), (150, 150), "{}", database.name());
            assert_eq!(added.already_added, already_added);
            assert!(added.revision > 0);
        }
        let reused = add(&service, adjustment(&tenant, 51, &id)).await.unwrap_err();
        assert_eq!((reused.code(), &*error_reason(&reused)), (Code::AlreadyExists, "ADJUSTMENT_ID_REUSED"));
        assert!(reused.message().contains(&id), "{reused:?}");
        let taken = add(&service, adjustment(&tenant, -30, &format!("refund-{tenant}"))).await.unwrap();
        assert_eq!((taken.credited, taken.remaining), (120, 120));
        let details = audit_details(&service, &tenant, "limit.add_credits").await;
        let entry = |amount: i64, id: &str| json!({ "limit": "tokens", "amount": amount, "adjustment": id, "reason": "paid" });
        assert_eq!(details, [entry(50, &id), entry(-30, &format!("refund-{tenant}"))]);
    }
}

#[tokio::test]
async fn lost_response_to_an_adjustment_adds_nothing_twice() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    for fault in [Fault::ResetAfterCommit, Fault::ResetBeforeExecute] {
        let tenant = with_credits(&service, 0).await;
        database.server().faults().set_for(1, fault.clone());
        let added = add(&service, adjustment(&tenant, 5, &tenant)).await.unwrap();
        assert_eq!((added.credited, added.already_added), (5, false), "{fault:?}");
        assert_eq!(audit_details(&service, &tenant, "limit.add_credits").await.len(), 1, "{fault:?}");
    }
}

#[tokio::test]
async fn adjustment_survives_a_restart() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = with_credits(&service, 1).await;
    add(&service, adjustment(&tenant, 5, "invoice-1")).await.unwrap();
    service.running.stop().await;
    let service = TestService::start(&database).await;
    let again = add(&service, adjustment(&tenant, 5, "invoice-1")).await.unwrap();
    assert_eq!((again.credited, again.already_added), (6, true));
}

/// What replicas hold and what was used stays covered.
#[tokio::test]
async fn credits_are_taken_away_down_to_what_is_used() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = with_credits(&service, 100).await;
    add(&service, adjustment(&tenant, 1, "first")).await.unwrap();
    let used = "UPDATE limit_counters SET counted = 40, leased = 10";
    assert_eq!(database.server().execute(used), Ok(1));
    let taken = add(&service, adjustment(&tenant, -1_000, "second")).await.unwrap();
    assert_eq!((taken.credited, taken.remaining), (40, 0));
    let added = add(&service, adjustment(&tenant, 5, "third")).await.unwrap();
    assert_eq!((added.credited, added.remaining), (45, 5));
}

#[tokio::test]
async fn each_caller_has_its_own_adjustment_ids() {
    let tokens = ["tac_of-billing", "tac_of-support"];
    let file =
        CallersFile::new(&[("billing", Role::Admin, &tokens[..1]), ("support", Role::Admin, &tokens[1..])]);
    let database = TestDatabase::embedded();
    let service = file.service(&database).await;
    let credits = v1::limit::Rule::Credits(v1::Credits { initial: 0, refill: None });
    let create = v1::CreateTenantRequest { name: "Acme".to_owned(), ..Default::default() };
    let created = service.admin().create_tenant(with_token(tokens[0], create)).await.unwrap().into_inner();
    let tenant = created.tenant.unwrap().tenant_id;
    let limit = set_limit(limit_of(&tenant, "tokens", credits));
    service.admin().set_limit(with_token(tokens[0], limit)).await.unwrap();
    for (token, credited) in [(tokens[0], 5), (tokens[1], 10), (tokens[0], 10), (tokens[1], 10)] {
        let request = with_token(token, adjustment(&tenant, 5, "invoice-1"));
        assert_eq!(service.admin().add_credits(request).await.unwrap().into_inner().credited, credited);
    }
}

#[tokio::test]
async fn credits_need_a_limit_that_has_them() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let missing = add(&service, adjustment(&tenant, 5, "a")).await.unwrap_err();
    assert_eq!((missing.code(), &*error_reason(&missing)), (Code::NotFound, "NO_SUCH_LIMIT"));
    service.admin().set_limit(set_limit(limit_of(&tenant, "tokens", per_day(5)))).await.unwrap();
    let refused = add(&service, adjustment(&tenant, 5, "a")).await.unwrap_err();
    let reason = error_reason(&refused);
    assert_eq!((refused.code(), &*reason), (Code::FailedPrecondition, "LIMIT_WITHOUT_CREDITS"));
    for (subject, reason, message, field) in [
        ("ten_nobody", "NO_SUCH_TENANT", "there is no tenant ten_nobody", "subject.tenant_id"),
        ("key_nobody", "NO_SUCH_KEY", "there is no key key_nobody", "subject.key_id"),
    ] {
        let refused = add(&service, adjustment(subject, 5, "a")).await.unwrap_err();
        assert_eq!(refused.code(), Code::NotFound);
        let details = refused.get_error_details();
        let info = details.error_info().unwrap();
        assert_eq!((&*info.reason, refused.message()), (reason, message));
        assert_eq!(info.metadata["field"], field);
    }
    // An adjustment that was refused has not used its id.
    let credits = v1::limit::Rule::Credits(v1::Credits { initial: 1, refill: None });
    service.admin().set_limit(set_limit(limit_of(&tenant, "tokens", credits))).await.unwrap();
    let added = add(&service, adjustment(&tenant, 5, "a")).await.unwrap();
    assert_eq!((added.credited, added.already_added), (6, false));
}
