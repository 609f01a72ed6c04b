//! Lists, in pages of 100 records: the first page, and a later one, which must not read those before it. Filters are
//! the least favourable ones.

use prost_types::Timestamp;
use tenant_auth_proto::v1;
use tenant_auth_svc::domain::clock::SystemClock;

use crate::harness::{
    TestService,
    scale::{FilledDatabase, LARGE_TENANT, SMALL_TENANT},
    sessions::session_client,
    usage::usage_client,
};

const PAGE: i32 = 100;
/// The later page.
const FIFTH: usize = 5;

pub(super) async fn run(filled: &mut FilledDatabase) {
    for (name, prefix) in [("tenants", ""), ("tenants by name", "Customer")] {
        measure_pages(filled, name, async |service, page_token| {
            let name_prefix = prefix.to_owned();
            let request = v1::ListTenantsRequest { page_size: PAGE, page_token, name_prefix };
            let found = service.admin().list_tenants(request).await.unwrap().into_inner();
            (found.tenants.len(), found.next_page_token)
        })
        .await;
    }
    run_keys(filled).await;
    run_audit(filled).await;
    measure_pages(filled, "sessions of a tenant", async |service, page_token| {
        let tenant_id = LARGE_TENANT.to_owned();
        let request = v1::ListSessionsRequest { tenant_id, page_size: PAGE, page_token };
        let found = session_client(service).list_sessions(request).await.unwrap().into_inner();
        (found.sessions.len(), found.next_page_token)
    })
    .await;
    let now = SystemClock::shared().now().0 / 1_000;
    for (name, bucket, hours) in [
        ("query a day's usage by hour", v1::UsageBucket::Hour, 24),
        ("query a month's usage by day", v1::UsageBucket::Day, 720),
    ] {
        filled
            .measure(name, async |service| {
                let request = v1::QueryUsageRequest {
                    tenant_id: LARGE_TENANT.to_owned(),
                    start_time: Some(Timestamp { seconds: now - hours * 3_600, nanos: 0 }),
                    end_time: Some(Timestamp { seconds: now, nanos: 0 }),
                    bucket: bucket.into(),
                    ..Default::default()
                };
                usage_client(service).query_usage(request).await.unwrap();
            })
            .await;
    }
}

/// Measures the first page of a list, and a later one if there is one. `list` returns the number of records and the next
/// token.
async fn measure_pages(
    filled: &mut FilledDatabase,
    name: &str,
    list: impl AsyncFn(&TestService, String) -> (usize, String),
) {
    let first = format!("list {name}");
    let (_, mut token) = filled.measure(&first, async |service| list(service, String::new()).await).await;
    for _ in 2..FIFTH {
        if token.is_empty() {
            return;
        }
        token = list(&filled.service, token).await.1;
    }
    if !token.is_empty() {
        filled.measure(&format!("{first}: page {FIFTH}"), async |service| list(service, token).await).await;
    }
}

async fn run_keys(filled: &mut FilledDatabase) {
    let of_tenant = |tenant: &str| v1::ListKeysRequest {
        tenant_id: tenant.to_owned(),
        page_size: PAGE,
        ..Default::default()
    };
    let text = str::to_owned;
    for (name, request) in [
        ("keys of a tenant", of_tenant(LARGE_TENANT)),
        (
            "keys of a tenant, revoked ones too",
            v1::ListKeysRequest { include_inactive: true, ..of_tenant(LARGE_TENANT) },
        ),
        ("keys by prefix", v1::ListKeysRequest { prefix: text("ta_"), ..of_tenant("") }),
        ("keys by name", v1::ListKeysRequest { name_prefix: text("prod"), ..of_tenant("") }),
        (
            "keys of a tenant by name",
            v1::ListKeysRequest { name_prefix: text("prod"), ..of_tenant(SMALL_TENANT) },
        ),
    ] {
        measure_pages(filled, name, async |service, page_token| {
            let request = v1::ListKeysRequest { page_token, ..request.clone() };
            let found = service.admin().list_keys(request).await.unwrap().into_inner();
            (found.keys.len(), found.next_page_token)
        })
        .await;
    }
}

async fn run_audit(filled: &mut FilledDatabase) {
    let page = || v1::ListAuditEventsRequest { page_size: PAGE, ..Default::default() };
    let text = str::to_owned;
    for (name, request) in [
        ("the audit log", page()),
        ("the audit log of a tenant", v1::ListAuditEventsRequest { tenant_id: text(LARGE_TENANT), ..page() }),
        ("the audit log of a caller", v1::ListAuditEventsRequest { caller: text("seed"), ..page() }),
        ("the audit log of an action", v1::ListAuditEventsRequest { action: text("key.issue"), ..page() }),
        (
            "the audit log of a caller and a tenant without entries by it",
            v1::ListAuditEventsRequest { caller: text("seed"), tenant_id: text(SMALL_TENANT), ..page() },
        ),
        (
            "the audit log of a caller and an action that it did not take",
            v1::ListAuditEventsRequest { caller: text("seed"), action: text("key.revoke"), ..page() },
        ),
    ] {
        measure_pages(filled, name, async |service, page_token| {
            let request = v1::ListAuditEventsRequest { page_token, ..request.clone() };
            let found = service.admin().list_audit_events(request).await.unwrap().into_inner();
            (found.events.len(), found.next_page_token)
        })
        .await;
    }
}
