//! The list of tenants.

use tenant_auth_testkit::Fault;

use crate::harness::{
    TestDatabase,
    console::{Browser, start_with_console},
    console_pages::{HOSTILE_NAMES, Pages, assert_inert, attributes, quoted},
};

#[tokio::test]
async fn tenants_are_listed_page_by_page() {
    let pages = Pages::start().await;
    let first = pages.writer.create_tenant("Acme & Sons").await;
    let page = pages.viewer.page("/tenants").await;
    for shown in ["Acme &amp; Sons", &first, "pro", "active", "UTC", &format!("href=\"/tenants/{first}\"")] {
        assert!(page.contains(shown), "{shown}: {page}");
    }
    assert!(!page.contains("rel=\"next\""), "everything is on the first page");
    pages.execute(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 60) \
         INSERT INTO tenants (id, name, plan, created_at, updated_at) SELECT 'a-' || i, 'Tenant ' || i, '', 1, 1 FROM n",
    );
    let page = pages.viewer.page("/tenants").await;
    assert_eq!(page.matches("href=\"/tenants/a-").count(), 50);
    let (_, rest) = page.split_once("rel=\"next\" href=\"").expect("there must be a next page");
    let next = rest.split_once('"').unwrap().0.replace("&amp;", "&");
    let page = pages.viewer.page(&next).await;
    assert_eq!(page.matches("href=\"/tenants/a-").count(), 10);
    assert!(page.contains(&first) && !page.contains("rel=\"next\""), "the rest");
}

#[tokio::test]
async fn list_without_tenants_says_so() {
    let database = TestDatabase::embedded();
    let service = start_with_console(&database).await;
    let browser = Browser::new(&service);
    assert!(browser.page("/tenants").await.contains("There is no tenant yet."));
}

#[tokio::test]
async fn database_that_refuses_reads_leaves_the_frame() {
    let pages = Pages::start().await;
    pages.database.server().faults().set_reads(Fault::blocked());
    for path in ["/tenants", "/tenants/acme", "/keys/key_1"] {
        let answer = pages.operator.get(path).await;
        assert_eq!(answer.status, 503, "{path}: {}", answer.body);
        for shown in ["The database does not answer", "role=\"alert\"", "aria-label=\"Pages\"", "Log out"] {
            assert!(answer.body.contains(shown), "{path}: {shown}: {}", answer.body);
        }
    }
}

#[tokio::test]
async fn pages_need_a_login() {
    let pages = Pages::start().await;
    let stranger = Browser::new(&pages.service);
    for path in ["/tenants", "/tenants/acme", "/keys/key_1"] {
        let answer = stranger.get(path).await;
        let location = answer.header("location").unwrap().to_owned();
        assert!(answer.status == 303 && location.starts_with("/login?to="), "{path}: {location}");
    }
    for path in ["/find", "/tenants/acme/suspend", "/keys/key_1/revoke", "/sessions/unbind"] {
        let answer = stranger.post_raw(path, &[("reason", "r")], &stranger.same_origin()).await;
        assert_eq!((answer.status, answer.header("location")), (303, Some("/login?to=%2f")), "{path}");
    }
}

#[tokio::test]
async fn hostile_names_are_inert() {
    let pages = Pages::start().await;
    let long = "x".repeat(10_000);
    for (number, name) in HOSTILE_NAMES.into_iter().chain([&*long]).enumerate() {
        pages.execute(&format!(
            "INSERT INTO tenants (id, name, plan, created_at, updated_at) VALUES ('t{number}', {name}, {name}, 1, 1)",
            name = quoted(name)
        ));
    }
    let page = pages.viewer.page("/tenants").await;
    assert_inert(&page);
    assert_eq!(attributes(&page, "href").iter().filter(|href| href.starts_with("/tenants/t")).count(), 6);
    assert!(page.contains("(10000 characters)") && page.len() < 20_000, "{} bytes", page.len());
    for number in 0..6 {
        assert_inert(&pages.operator.page(&format!("/tenants/t{number}")).await);
    }
}
