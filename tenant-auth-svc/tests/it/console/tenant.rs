//! The page of a tenant.

use tenant_auth_proto::v1::SessionExpiry;
use tenant_auth_svc::domain::clock::{SystemClock, UnixMillis};
use tenant_auth_testkit::Fault;

use crate::harness::{
    console_pages::{HOSTILE_NAMES, Pages, assert_inert, quoted},
    limits::{limit_of, per_day, store_limit},
    sessions::bind_session,
    usage::{record_usage, usage_event},
};

async fn bind(pages: &Pages, key: &str) {
    bind_session(&pages.writer, "session-1", key, 600, SessionExpiry::Fixed).await.unwrap();
}

#[tokio::test]
async fn page_shows_keys_sessions_limits_usage_and_audit_log() {
    let pages = Pages::start().await;
    let tenant = pages.writer.create_tenant("Acme").await;
    let (key, key_id) = pages.writer.issue_key(&tenant, &["data:read"]).await;
    let (_, revoked) = pages.writer.issue_key(&tenant, &["old"]).await;
    pages.writer.revoke_key(&revoked).await;
    bind(&pages, &key).await;
    store_limit(&pages.writer, limit_of(&tenant, "daily", per_day(10_000))).await;
    let path = format!("/tenants/{tenant}");

    let page = pages.viewer.page(&path).await;
    for shown in [
        "Acme",
        &format!("href=\"/keys/{key_id}\""),
        "data:read",
        "session-1",
        "10,000 per day",
        "<meter",
        "0 of 10,000 (0 %)",
        "Nothing was used in the last 30 days.",
        "key.revoke",
        &format!("href=\"/audit?tenant={tenant}\""),
    ] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    assert!(
        !page.contains(&format!("<a href=\"/keys/{revoked}\"><bdi class=\"text\">test")),
        "only keys that can be used"
    );
    let page = pages.viewer.page(&format!("{path}?keys=all")).await;
    assert!(page.contains(&format!("<a href=\"/keys/{revoked}\"><bdi class=\"text\">test")), "{page}");
}

#[tokio::test]
async fn viewer_sees_no_forms_and_an_operator_does() {
    let pages = Pages::start().await;
    let tenant = pages.writer.create_tenant("Acme").await;
    let (key, _) = pages.writer.issue_key(&tenant, &[]).await;
    bind(&pages, &key).await;
    let path = format!("/tenants/{tenant}");
    let forms = ["/keys\"", "/suspend\"", "/sessions/unbind\""].map(|end| format!("{end}>"));
    let (viewer, operator) = (pages.viewer.page(&path).await, pages.operator.page(&path).await);
    for form in &forms {
        assert!(!viewer.contains(form.as_str()), "{form}: {viewer}");
        assert!(operator.contains(form.as_str()), "{form}: {operator}");
    }
}

#[tokio::test]
async fn usage_is_shown_by_hour_day_and_month_with_its_limit() {
    let pages = Pages::start().await;
    let tenant = pages.writer.create_tenant("Acme").await;
    store_limit(&pages.writer, limit_of(&tenant, "daily", per_day(7_000))).await;
    let now = SystemClock::shared().now();
    let event = |days: i64, quantity| {
        usage_event(&tenant, "requests", quantity, Some(UnixMillis(now.0 - days * 86_400_000)))
    };
    record_usage(&pages.writer, "r-1", vec![event(0, 1_234), event(5, 2_000)]).await.unwrap();
    for (resolution, bars, total) in [("hour", 48, "1,234"), ("day", 30, "3,234"), ("month", 12, "3,234")] {
        let page = pages.viewer.page(&format!("/tenants/{tenant}?usage={resolution}")).await;
        assert_eq!(page.matches("<rect class=\"bar\"").count(), bars, "{resolution}");
        assert!(page.contains(&format!("{total} in all")), "{resolution}: {page}");
        assert!(page.contains(&format!("aria-current=\"true\">by {resolution}")), "{page}");
        let has_limit = page.contains("of 7,000 that the limit permits");
        assert_eq!(has_limit, resolution == "day", "{resolution}: the limit is per day");
    }
}

#[tokio::test]
async fn part_that_cannot_be_read_leaves_the_others() {
    let pages = Pages::start().await;
    let tenant = pages.writer.create_tenant("Acme").await;
    let (_, key_id) = pages.writer.issue_key(&tenant, &[]).await;
    let path = format!("/tenants/{tenant}");
    pages.database.server().faults().set_where("FROM audit_log", 100, Fault::blocked());
    let page = pages.viewer.page(&path).await;
    assert!(page.contains("The database does not answer"), "{page}");
    assert!(page.contains("Acme") && page.contains(&key_id), "{page}");
    assert!(!page.contains("Not known now either"), "the part says it itself: {page}");
}

#[tokio::test]
async fn tenant_that_does_not_exist_is_not_found() {
    let pages = Pages::start().await;
    for path in ["/tenants/nobody", "/keys/key_nobody"] {
        let answer = pages.operator.get(path).await;
        assert_eq!(answer.status, 404, "{path}: {}", answer.body);
        assert!(answer.body.contains("There is no such thing"), "{}", answer.body);
    }
    for path in ["/tenants/%3Cscript%3E", "/keys/a%2Fb"] {
        let answer = pages.operator.get(path).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.body);
        assert_inert(&answer.body);
    }
}

#[tokio::test]
async fn hostile_texts_of_a_tenant_are_inert() {
    let pages = Pages::start().await;
    let tenant = pages.writer.create_tenant("Acme").await;
    let (_, key_id) = pages.writer.issue_key(&tenant, &[]).await;
    let long = "\u{202e}".repeat(10_000);
    for name in HOSTILE_NAMES.into_iter().chain([&*long]) {
        let name = quoted(name);
        pages.execute(&format!("UPDATE tenants SET name = {name}, suspend_reason = {name}"));
        pages.execute(&format!("UPDATE api_keys SET name = {name}, prefix_hint = {name}"));
        pages.execute(&format!("UPDATE audit_log SET caller = {name}, detail = {name}, action = {name}"));
        for path in [format!("/tenants/{tenant}"), format!("/keys/{key_id}")] {
            let page = pages.operator.page(&path).await;
            assert_inert(&page);
            assert!(page.len() < 60_000, "{} bytes", page.len());
        }
    }
}
