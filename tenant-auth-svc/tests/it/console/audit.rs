//! The audit log in the console, and its export.

mod export;

use tenant_auth_svc::domain::access::Role;
use tenant_auth_testkit::Fault;

use crate::harness::{
    TestDatabase,
    console::{Browser, start_with_console},
    console_audit::with_entries,
};

/// Returns the details of the rows of a page, in order.
fn details(page: &str) -> Vec<u32> {
    let parts = page.split(">detail ").skip(1);
    parts.map(|part| part.split_once('<').unwrap().0.parse().unwrap()).collect()
}

/// Returns the path of a link by its text.
fn link(page: &str, label: &str) -> Option<String> {
    let (before, _) = page.split_once(&format!(">{label}</a>"))?;
    let (_, tag) = before.rsplit_once("<a ").unwrap();
    let (_, rest) = tag.split_once("href=\"").unwrap();
    Some(rest.split_once('"').unwrap().0.replace("&amp;", "&"))
}

#[tokio::test]
async fn audit_log_is_shown_page_by_page_to_both_roles() {
    for role in [Role::Viewer, Role::Operator] {
        let database = TestDatabase::test_server().await;
        let (_file, _service, browser) = with_entries(&database, role).await;
        let first = browser.page("/audit").await;
        assert_eq!(details(&first), (150..250).rev().collect::<Vec<_>>(), "newest first");
        assert_eq!(link(&first, "Newest entries"), None);
        for part in [
            "<time datetime=\"2030-01-01T00:04:09Z\">",
            "<a href=\"/keys/key_249\"><code class=\"id\">key_249</code></a>",
            "<a href=\"/tenants/acme\">",
            "request-249",
            "<a href=\"/audit\" aria-current=\"page\">",
        ] {
            assert!(first.contains(part), "{part}: {first}");
        }
        let second = browser.page(&link(&first, "Older entries").unwrap()).await;
        assert_eq!(details(&second), (50..150).rev().collect::<Vec<_>>());
        let last = browser.page(&link(&second, "Older entries").unwrap()).await;
        assert_eq!(details(&last), (0..50).rev().collect::<Vec<_>>());
        assert_eq!(link(&last, "Older entries"), None);
        assert_eq!(link(&last, "Newest entries").as_deref(), Some("/audit"));
    }
}

#[tokio::test]
async fn audit_log_is_filtered_by_every_field() {
    let database = TestDatabase::test_server().await;
    let (_file, _service, browser) = with_entries(&database, Role::Viewer).await;
    let all = |is_wanted: fn(&u32) -> bool| (0..250).rev().filter(is_wanted).collect::<Vec<_>>();
    for (query, expected) in [
        ("action=key.revoke", all(|entry| entry % 5 == 0)),
        ("caller=anna&action=key.revoke", all(|entry| entry % 5 == 0 && entry % 2 == 1)),
        ("target=+key_7+", vec![7]),
        ("tenant=acme&since=2030-01-01T00:04", all(|entry| *entry >= 240)),
        ("since=2030-01-01T00:00:10&until=2030-01-01T00:00:20", all(|entry| (10..20).contains(entry))),
        ("caller=nobody", vec![]),
        ("tenant=other&action=&caller=&since=&until=", vec![]),
    ] {
        let page = browser.page(&format!("/audit?{query}")).await;
        assert_eq!(details(&page), expected, "{query}");
        assert_eq!(page.contains("No entry matches."), expected.is_empty(), "{query}");
        assert_eq!(link(&page, "Show all").as_deref(), Some("/audit"));
    }
    // The form keeps what was entered, and the links of the pages keep it too.
    let page = browser.page("/audit?caller=anna&since=2030-01-01T00:00:00&action=key.other").await;
    for part in [
        "name=\"caller\" value=\"anna\"",
        "value=\"2030-01-01T00:00:00\"",
        "<option value=\"key.other\" selected>",
    ] {
        assert!(page.contains(part), "{part}: {page}");
    }
    let page = browser.page("/audit?caller=anna&since=2030-01-01T00:00:00").await;
    let older = link(&page, "Older entries").unwrap();
    assert!(older.starts_with("/audit?caller=anna&since=2030-01-01T00%3A00%3A00&after="), "{older}");
    let older = browser.page(&older).await;
    assert_eq!(details(&older), all(|entry| entry % 2 == 1)[100..]);
    assert!(link(&older, "Export as CSV").unwrap().starts_with("/audit.csv?caller=anna&since="));
}

#[tokio::test]
async fn filters_that_cannot_be_used_are_explained() {
    let database = TestDatabase::test_server().await;
    let (_file, _service, browser) = with_entries(&database, Role::Viewer).await;
    for (query, problem) in [
        ("since=yesterday", "since: must be a date and a time in UTC"),
        ("since=2030-01-02T00:00&until=2030-01-01T00:00", "until: must be after since"),
        ("caller=a%20b", "caller: must have 1 to 128 visible ASCII characters"),
        ("tenant=a%2Fb", "tenant_id: "),
        ("after=x", "page_token: is not a page token of this list"),
        ("caller=a&caller=b", "The filters cannot be read"),
    ] {
        for list in ["/audit", "/audit.csv", "/audit.json"] {
            let answer = browser.get(&format!("{list}?{query}")).await;
            // An export has all pages.
            let is_ignored = list != "/audit" && query.starts_with("after=");
            assert_eq!(answer.status, if is_ignored { 200 } else { 400 }, "{list}?{query}");
            assert!(is_ignored || answer.body.contains(problem), "{query}: {}", answer.body);
        }
    }
    let page = browser.get("/audit?since=yesterday&caller=anna").await;
    assert!(page.body.contains("name=\"caller\" value=\"anna\""), "what was entered stays");
}

#[tokio::test]
async fn empty_audit_log_says_what_will_appear_there() {
    let service = start_with_console(&TestDatabase::embedded()).await;
    let browser = Browser::new(&service);
    let page = browser.page("/audit").await;
    assert!(page.contains("Nothing has been changed yet."), "{page}");
    assert_eq!((link(&page, "Export as CSV"), link(&page, "Show all")), (None, None));
    service.create_tenant("Acme").await;
    let page = browser.page("/audit").await;
    assert!(page.contains("tenant.create") && page.contains("unauthenticated@127.0.0.1"), "{page}");
}

#[tokio::test]
async fn audit_page_says_so_when_the_database_does_not_answer() {
    let database = TestDatabase::test_server().await;
    let (_file, _service, browser) = with_entries(&database, Role::Viewer).await;
    database.server().faults().set(Fault::ResetBeforeExecute);
    let answer = browser.get("/audit?caller=anna").await;
    assert_eq!(answer.status, 503);
    for part in ["class=\"note failed\"", "name=\"caller\" value=\"anna\"", "aria-current=\"page\""] {
        assert!(answer.body.contains(part), "{part}: {}", answer.body);
    }
    let answer = browser.get("/audit.csv").await;
    assert_eq!((answer.status, answer.header("content-disposition")), (503, None));
    database.server().faults().clear();
    assert_eq!(details(&browser.page("/audit?target=key_3").await), [3]);
}

#[tokio::test]
async fn texts_of_others_are_inert_on_the_audit_page() {
    let database = TestDatabase::test_server().await;
    let (_file, _service, browser) = with_entries(&database, Role::Viewer).await;
    let hostile = "\"><script>alert(1)</script>\u{202e}";
    database
        .server()
        .execute(&format!(
            "INSERT INTO audit_log (at, caller, action, target, tenant_id, request_id, detail) VALUES \
             (2893456000000, '{hostile}', 'key.{hostile}', '{hostile}', '{hostile}', '{hostile}', '{hostile}'), \
             (2893456000001, 'a', 'key.issue', '../../logout', 'javascript:alert(1)', 'b', '{}')",
            "x".repeat(10_000)
        ))
        .unwrap();
    let query = url::form_urlencoded::byte_serialize(hostile.as_bytes()).collect::<String>();
    for path in
        ["/audit".to_owned(), format!("/audit?action={query}&caller={query}&target={query}&since={query}")]
    {
        let page = browser.get(&path).await.body;
        assert!(!page.contains("<script>alert"), "{page}");
        assert!(!page.contains("href=\"javascript:") && !page.contains("/keys/.."), "{page}");
    }
    let page = browser.page("/audit").await;
    assert_eq!(
        page.matches("<bdi class=\"text\">&quot;&gt;&lt;script&gt;").count(),
        5,
        "each isolated: {page}"
    );
    assert!(page.contains("… (10000 characters)") && !page.contains(&"x".repeat(301)));
}
