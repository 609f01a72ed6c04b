//! Finding tenants and keys.

use tenant_auth_proto::v1;
use tenant_auth_svc::domain::key::{KeyHash, PresentedKey};

use crate::harness::{captured::TestLog, console::Browser, console_pages::Pages, http_exchange, unknown_key};

async fn find(browser: &Browser, text: &str) -> (u16, String, String) {
    let answer = browser.submit("/tenants", "/find", &[("text", text)]).await;
    let location = answer.header("location").unwrap_or_default().to_owned();
    (answer.status, location, answer.body)
}

#[tokio::test]
async fn ids_beginnings_and_whole_keys_lead_to_their_page() {
    let pages = Pages::start().await;
    let tenant = pages.writer.create_tenant("Acme").await;
    let chosen = v1::CreateTenantRequest {
        tenant_id: "customer-7".to_owned(),
        name: "Seven".to_owned(),
        ..Default::default()
    };
    pages.writer.admin().create_tenant(chosen).await.unwrap();
    let (key, key_id) = pages.writer.issue_key(&tenant, &[]).await;
    let foreign = format!("sk-{}", unknown_key());
    let hash = KeyHash::of(&PresentedKey::new(foreign.clone()));
    let import = v1::ImportKey {
        tenant_id: tenant.clone(),
        sha256: hash.as_bytes().to_vec(),
        prefix_hint: "sk-Imported".to_owned(),
        ..Default::default()
    };
    let keys = vec![import];
    pages.writer.admin().import_keys(v1::ImportKeysRequest { keys }).await.unwrap();
    let (key_page, tenant_page) = (format!("/keys/{key_id}"), format!("/tenants/{tenant}"));
    for (text, expected) in [
        (key_id.as_str(), key_page.as_str()),
        (&format!("  {key_id}\t"), &key_page),
        (&tenant, &tenant_page),
        ("customer-7", "/tenants/customer-7"),
        (&key, &key_page),
        (&format!(" {key} "), &key_page),
    ] {
        for browser in [&pages.viewer, &pages.operator] {
            let (status, location, body) = find(browser, text).await;
            assert_eq!((status, location.as_str()), (303, expected), "{text}: {body}");
        }
    }
    let (status, location, body) = find(&pages.viewer, "sk-Imp").await;
    assert!(status == 303 && location.starts_with("/keys/key_"), "{location} {body}");
    let (_, by_text, _) = find(&pages.viewer, &foreign).await;
    assert_eq!(by_text, location.to_lowercase(), "the imported key itself");
}

#[tokio::test]
async fn several_are_listed_and_none_is_said() {
    let pages = Pages::start().await;
    let tenant = pages.writer.create_tenant("Acme").await;
    let (key, first) = pages.writer.issue_key(&tenant, &[]).await;
    let (_, second) = pages.writer.issue_key(&tenant, &[]).await;
    let beginning: String = key.chars().take(3).collect();
    let (status, _, body) = find(&pages.viewer, &beginning).await;
    assert!(status == 200 && body.contains(&first) && body.contains(&second), "{body}");
    let (status, location, body) = find(&pages.viewer, "ACM").await;
    assert_eq!((status, location), (303, format!("/tenants/{tenant}")), "by its name: {body}");
    let (status, _, body) = find(&pages.viewer, "test").await;
    assert!(status == 200 && body.matches(&format!("href=\"/keys/{first}\"")).count() == 1, "{body}");
    let other = pages.writer.create_tenant("Acme & Sons").await;
    let (status, _, body) = find(&pages.viewer, "acme").await;
    assert!(status == 200 && body.contains(&tenant) && body.contains(&other), "{body}");
    let (status, _, body) = find(&pages.viewer, "no <such> thing").await;
    assert!(status == 200 && body.contains("no &lt;such&gt; thing"), "{body}");
    let (status, _, body) = find(&pages.viewer, " ").await;
    assert!(status == 200 && body.contains("Enter an id"), "{body}");
}

#[tokio::test]
async fn pasted_key_is_in_no_log_page_or_address() {
    let log = TestLog::shared();
    let pages = Pages::start().await;
    let tenant = pages.writer.create_tenant("Acme").await;
    let (key, key_id) = pages.writer.issue_key(&tenant, &[]).await;
    let (foreign, damaged) = (format!("sk-{}", unknown_key()), key[..key.len() - 1].to_owned());
    let (status, location, _) = find(&pages.operator, &key).await;
    assert_eq!((status, location), (303, format!("/keys/{key_id}")));
    let (status, location, said) = find(&pages.operator, &damaged).await;
    assert!(status == 200 && location.is_empty() && said.contains("cut off or changed"), "{said}");
    let (status, location, unknown) = find(&pages.operator, &foreign).await;
    assert!(status == 200 && location.is_empty() && unknown.contains("Nothing was found"), "{unknown}");
    let refused = pages.operator.post_raw("/find", &[("text", &key)], &pages.operator.same_origin()).await;
    assert_eq!(refused.status, 403, "the form token is missing");
    let shown = pages.operator.page(&format!("/keys/{key_id}")).await;
    let answered = |line: &str| line.contains("AdminService/ExplainKey") && line.contains("operator");
    assert!(!log.lines(3, answered).await.is_empty(), "without log lines the test proves nothing");
    let said = format!("{said}{unknown}{shown}{}{}", refused.head, refused.body);
    let written = log.text();
    for secret in [&key, &foreign, &damaged] {
        assert!(!said.contains(secret.as_str()), "a page has the key");
        let line = written.lines().find(|line| line.contains(secret.as_str()));
        assert!(line.is_none(), "the log has the key: {line:?}");
    }
}

#[tokio::test]
async fn text_in_the_address_is_not_read() {
    let pages = Pages::start().await;
    let cookie = pages.operator.cookie.clone().unwrap();
    let host = pages.operator.address.to_string();
    let headers = [("host", host.as_str()), ("cookie", &cookie)];
    let answer = http_exchange(pages.operator.address, "GET /find?text=secret", &headers, "").await.unwrap();
    assert_eq!(answer.status, 405, "only a form finds: {}", answer.body);
}
