//! The page of a key.

use tenant_auth_proto::v1;
use tenant_auth_testkit::Fault;

use crate::harness::{console_pages::Pages, owned};

#[tokio::test]
async fn page_shows_what_a_key_may_do_and_what_was_changed() {
    let pages = Pages::start().await;
    let tenant = pages.writer.create_tenant("Acme").await;
    let request = v1::IssueKeyRequest {
        tenant_id: tenant.clone(),
        name: "for ci".to_owned(),
        scopes: owned(&["data:read"]),
        allowed_networks: owned(&["203.0.113.0/24"]),
        ..Default::default()
    };
    let issued = pages.writer.admin().issue_key(request).await.unwrap().into_inner();
    let (key_id, plaintext) = (issued.key.unwrap().key_id, issued.plaintext);
    let page = pages.viewer.page(&format!("/keys/{key_id}")).await;
    for shown in [
        "for ci",
        "active",
        &key_id,
        &format!("href=\"/tenants/{tenant}\""),
        "data:read",
        "203.0.113.0/24",
        "key.issue",
        &format!("href=\"/audit?target={key_id}\""),
        "the key may be used only from",
    ] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    assert!(!page.contains(&plaintext) && !page.contains("/revoke"), "a viewer may not revoke it");
    let page = pages.operator.page(&format!("/keys/{key_id}")).await;
    for form in ["/rotate\"", "/pause\"", "/revoke\""] {
        assert!(page.contains(form), "{form}: {page}");
    }
}

#[tokio::test]
async fn denial_is_explained_for_an_address_and_scopes() {
    let pages = Pages::start().await;
    let tenant = pages.writer.create_tenant("Acme").await;
    let (_, key_id) = pages.writer.issue_key(&tenant, &["data:read"]).await;
    let networks =
        format!("UPDATE api_keys SET allowed_networks = '[\"203.0.113.0/24\"]' WHERE id = '{key_id}'");
    pages.execute(&networks);
    let ask = async |query: &str| pages.viewer.page(&format!("/keys/{key_id}?{query}")).await;
    let page = ask("address=192.0.2.1&scopes=").await;
    assert!(page.contains("not from <bdi class=\"text\">192.0.2.1</bdi>"), "{page}");
    let page = ask("address=203.0.113.7&scopes=data%3Aread+data%3Awrite").await;
    assert!(page.contains("lacks the scopes <bdi class=\"text\">data:write</bdi>"), "{page}");
    assert!(page.contains("value=\"203.0.113.7\""), "the form keeps what was asked: {page}");
    let page = ask("address=203.0.113.7&scopes=data%3Aread").await;
    assert!(page.contains("<strong>Admitted: </strong>"), "{page}");
    let page = ask("address=%3Cscript%3E").await;
    assert!(
        page.contains("client_address:") && page.contains("data:read"),
        "the rest of the page stays: {page}"
    );
    assert!(!page.contains("<script>"), "{page}");
}

#[tokio::test]
async fn replaced_key_leads_to_its_successors() {
    let pages = Pages::start().await;
    let tenant = pages.writer.create_tenant("Acme").await;
    let (_, first) = pages.writer.issue_key(&tenant, &[]).await;
    let mut key_id = first.clone();
    let mut successors = Vec::new();
    for _ in 0..2 {
        let rotate = v1::RotateKeyRequest { key_id, ..Default::default() };
        key_id = pages.writer.admin().rotate_key(rotate).await.unwrap().into_inner().key.unwrap().key_id;
        successors.push(key_id.clone());
    }
    let page = pages.operator.page(&format!("/keys/{first}")).await;
    let (_, chain) = page.split_once("Replaced by").unwrap();
    let places: Vec<_> =
        successors.iter().map(|id| chain.find(&format!("href=\"/keys/{id}\"")).unwrap()).collect();
    assert!(places.is_sorted(), "{page}");
    assert!(!page.contains("/rotate\""), "it was rotated already");
}

#[tokio::test]
async fn key_is_readable_from_memory_while_the_database_is_gone() {
    let pages = Pages::start().await;
    let tenant = pages.writer.create_tenant("Acme").await;
    let (key, key_id) = pages.writer.issue_key(&tenant, &["data:read"]).await;
    let (_, unseen) = pages.writer.issue_key(&tenant, &[]).await;
    let found = pages.operator.submit("/tenants", "/find", &[("text", &key)]).await;
    assert_eq!(found.status, 303);
    pages.remember(&key).await;
    pages.database.server().faults().set(Fault::blocked());
    let answer = pages.operator.get(&format!("/keys/{key_id}")).await;
    assert_eq!(answer.status, 503, "{}", answer.body);
    for shown in [
        "The database does not answer",
        "This replica remembers:",
        "data:read",
        &tenant,
        "<strong>Admitted: </strong>",
    ] {
        assert!(answer.body.contains(shown), "{shown}: {}", answer.body);
    }
    assert!(!answer.body.contains("/revoke\""), "what cannot be read is not changed");
    let answer = pages.operator.get(&format!("/keys/{unseen}")).await;
    assert!(
        answer.status == 503 && answer.body.contains("This replica remembers nothing of the key."),
        "{}",
        answer.body
    );
    let found = pages.operator.submit("/tenants", "/find", &[("text", &key)]).await;
    assert_eq!((found.status, found.header("location")), (303, Some(&*format!("/keys/{key_id}"))));
}
