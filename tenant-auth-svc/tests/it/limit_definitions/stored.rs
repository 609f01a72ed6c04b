//! What is stored of limits: unreadable rows, what is deleted with a tenant, and the plans of statements.

use tenant_auth_proto::v1;
use tenant_auth_svc::database::sql::SqlStore;
use tenant_auth_svc::domain::{
    id::{KeyId, TenantId},
    limit::store::{LimitHolder, LimitStore as _},
    store::{FailureKind, Lane},
    text::Plan,
};
use tonic::Code;

use crate::harness::{
    TestDatabase, TestService, call, error_reason,
    limits::{limit_of, limit_subject, per_day, set_limit},
    scrape::Scrape,
    statements::query_plan,
};

#[tokio::test]
async fn unreadable_limit_fails_alone_and_can_be_replaced() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    for name in ["bad", "good"] {
        service.admin().set_limit(set_limit(limit_of(&tenant, name, per_day(1)))).await.unwrap();
    }
    for corruption in [
        "kind = 'week'",
        "amount = -1",
        "metric = 'Bad Metric'",
        "on_outage = 'maybe'",
        "burst = 7",
        "amount = 'x'",
    ] {
        database.server().execute(&format!("UPDATE limits SET {corruption} WHERE name = 'bad'")).unwrap();
        let get = |name: &str| v1::GetLimitRequest { subject: limit_subject(&tenant), name: name.to_owned() };
        let failed = service.admin().get_limit(get("bad")).await.unwrap_err();
        assert_eq!(
            (failed.code(), &*error_reason(&failed)),
            (Code::Unavailable, "DATABASE_INVALID_RESPONSE")
        );
        service.admin().get_limit(get("good")).await.unwrap();
        // It could deny something, so it is not taken for absent where limits are applied.
        let store = SqlStore::new(database.client(), Default::default());
        let tenant_id = TenantId::parse(&tenant).unwrap();
        let (plan, key) = (Plan::parse("pro").unwrap(), KeyId::generate());
        let effective = store.effective_limits(call(Lane::Unknown), &tenant_id, &plan, &key).await;
        assert_eq!(effective.unwrap_err().kind, FailureKind::InvalidResponse);
        let state = store.limit_state(call(Lane::Admin), &LimitHolder::Tenant(tenant_id)).await;
        assert_eq!(state.unwrap_err().kind, FailureKind::InvalidResponse);
        let replaced = limit_of(&tenant, "bad", per_day(1));
        service.admin().set_limit(set_limit(replaced)).await.unwrap();
        service.admin().get_limit(get("bad")).await.unwrap();
    }
    let scrape = Scrape::collect(&service).await;
    scrape.assert_value(r#"tenant_auth_unreadable_records_total{table="limits"}"#, 6.0);
}

#[tokio::test]
async fn deleted_tenant_leaves_no_limits() {
    for database in TestDatabase::all().await {
        let service = TestService::start(&database).await;
        let tenant = service.create_tenant("Acme").await;
        let (_, key) = service.issue_key(&tenant, &[]).await;
        for subject in [&tenant, &key] {
            service.admin().set_limit(set_limit(limit_of(subject, "requests", per_day(1)))).await.unwrap();
        }
        let suspend = v1::SuspendTenantRequest { tenant_id: tenant.clone(), reason: "unpaid".to_owned() };
        service.admin().suspend_tenant(suspend).await.unwrap();
        let deletion = v1::DeleteTenantRequest {
            tenant_id: tenant.clone(),
            reason: "contract ended".to_owned(),
            delete_usage: false,
        };
        while !service.admin().delete_tenant(deletion.clone()).await.unwrap().into_inner().complete {}
        for subject in [&tenant, &key] {
            let list = v1::ListLimitsRequest { subject: limit_subject(subject), ..Default::default() };
            let listed = service.admin().list_limits(list).await.unwrap().into_inner();
            assert_eq!(listed.limits, [], "{}", database.name());
        }
    }
}

/// Each change has an entry in the change log, so that replicas read the limits again.
#[tokio::test]
async fn each_change_of_a_limit_is_in_the_change_log() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let (_, key) = service.issue_key(&tenant, &[]).await;
    let before = log(&database).len();
    for subject in [tenant.as_str(), &key, "pro"] {
        for amount in [1, 2, 2] {
            let limit = limit_of(subject, "requests", per_day(amount));
            service.admin().set_limit(set_limit(limit)).await.unwrap();
        }
        let deletion =
            v1::DeleteLimitRequest { subject: limit_subject(subject), name: "requests".to_owned() };
        service.admin().delete_limit(deletion).await.unwrap();
    }
    let entry = |tenant: &str| format!("limit requests {tenant}");
    let expected = [vec![entry(&tenant); 6], vec![entry(""); 3]].concat();
    assert_eq!(log(&database)[before..], expected);
}

fn log(database: &TestDatabase) -> Vec<String> {
    let rows =
        database.server().query("SELECT kind || ' ' || ref || ' ' || tenant_id FROM changes ORDER BY seq");
    rows.unwrap().iter().map(|row| row[0]["value"].as_str().unwrap().to_owned()).collect()
}

/// No statement about limits reads more rows than it needs, however many limits, counters and changes there are.
#[tokio::test]
async fn statements_about_limits_scan_no_table() {
    let database = TestDatabase::test_server().await;
    let service = TestService::start(&database).await;
    let tenant = service.create_tenant("Acme").await;
    let (_, key) = service.issue_key(&tenant, &[]).await;
    let credits = v1::limit::Rule::Credits(v1::Credits { initial: 1, refill: None });
    for subject in [tenant.as_str(), &key, "pro"] {
        let limit = limit_of(subject, "credits", credits);
        service.admin().set_limit(set_limit(limit)).await.unwrap();
        let list = |subject| v1::ListLimitsRequest { subject, ..Default::default() };
        for subject in [limit_subject(subject), None] {
            service.admin().list_limits(list(subject)).await.unwrap();
        }
    }
    for subject in [&tenant, &key] {
        let adjustment = v1::AddCreditsRequest {
            subject: limit_subject(subject),
            name: "credits".to_owned(),
            amount: 5,
            adjustment_id: format!("of-{subject}"),
            reason: String::new(),
        };
        service.admin().add_credits(adjustment).await.unwrap();
        let deletion = v1::DeleteLimitRequest { subject: limit_subject(subject), name: "credits".to_owned() };
        service.admin().delete_limit(deletion).await.unwrap();
    }
    let store = SqlStore::new(database.client(), Default::default());
    let (tenant, key) = (TenantId::parse(&tenant).unwrap(), KeyId::parse(&key).unwrap());
    let plan = Plan::parse("pro").unwrap();
    store.effective_limits(call(Lane::Unknown), &tenant, &plan, &key).await.unwrap();
    for holder in [LimitHolder::Tenant(tenant), LimitHolder::Key(key)] {
        store.limit_state(call(Lane::Admin), &holder).await.unwrap();
    }
    let mut statements = database.server().statements_with("limit");
    statements.retain(|statement| statement.contains("limits") || statement.contains("limit_"));
    statements.retain(|statement| !statement.contains("CREATE "));
    assert!(statements.len() > 12, "{statements:#?}");
    for statement in statements {
        let plan = query_plan(database.server(), &statement);
        for (_, step) in &plan {
            for table in [
                "limits",
                "limit_counters",
                "counter",
                "limit_ids",
                "ids",
                "changes",
                "audit_log",
                "tenants",
                "api_keys",
            ] {
                let scans = step == &format!("SCAN {table}") || step.starts_with(&format!("SCAN {table} "));
                // In the order of the index, up to the limit of the page.
                let is_cut = statement.contains("ORDER BY scope, subject, name LIMIT ?4")
                    && step.contains(" USING INDEX ");
                assert!(!scans || is_cut, "{statement}\n{plan:#?}");
            }
        }
    }
}
