//! Requests that a browser was made to send, and what every response says to browsers.

use tenant_auth_svc::domain::access::Role;

use crate::harness::{
    TestDatabase,
    console::{Browser, form_token, start_with_console, start_with_people},
    http_exchange,
};

#[tokio::test]
async fn every_response_has_the_security_headers() {
    let (_file, service) = start_with_people(&TestDatabase::embedded(), &[Role::Viewer]).await;
    let browser = Browser::logged_in(&service, Role::Viewer).await;
    let style = browser.page("/").await;
    let style =
        style.split_once("rel=\"stylesheet\" href=\"").unwrap().1.split_once('"').unwrap().0.to_owned();
    let forged = browser.post_raw("/logout", &[], &[("origin", "http://evil.example")]).await;
    let pages = [
        browser.get("/").await,
        browser.get("/login").await,
        browser.get("/no-such-page").await,
        browser.get(&style).await,
        Browser::new(&service).get("/").await,
        forged,
    ];
    for answer in pages {
        for (name, value) in [
            (
                "content-security-policy",
                "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                 form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
            ),
            ("x-frame-options", "deny"),
            ("x-content-type-options", "nosniff"),
            ("referrer-policy", "same-origin"),
            ("cross-origin-opener-policy", "same-origin"),
            ("cross-origin-resource-policy", "same-origin"),
        ] {
            assert_eq!(answer.header(name), Some(value), "{}", answer.head);
        }
        let is_asset = answer.head.contains("text/css");
        let cache = if is_asset { "public, max-age=31536000, immutable" } else { "no-store" };
        assert_eq!(answer.header("cache-control"), Some(cache), "{}", answer.head);
    }
}

#[tokio::test]
async fn forms_of_other_sites_and_without_a_token_are_refused() {
    let (_file, service) = start_with_people(&TestDatabase::embedded(), &[Role::Operator]).await;
    let browser = Browser::logged_in(&service, Role::Operator).await;
    let other = Browser::logged_in(&service, Role::Operator).await;
    let token = form_token(&browser.page("/").await);
    let others_token = form_token(&other.page("/").await);
    let own = format!("http://{}", browser.address);
    for (why, token, headers) in [
        ("forged origin", token.as_str(), vec![("origin", "http://evil.example")]),
        ("origin of another port", &token, vec![("origin", "http://127.0.0.1:1")]),
        ("origin of a sandbox", &token, vec![("origin", "null")]),
        ("cross-site", &token, vec![("origin", &*own), ("sec-fetch-site", "cross-site")]),
        ("same-site", &token, vec![("origin", &*own), ("sec-fetch-site", "same-site")]),
        ("no origin", &token, vec![]),
        ("no token", "", vec![("origin", &*own)]),
        ("wrong token", "0000", vec![("origin", &*own)]),
        ("token of another login", &others_token, vec![("origin", &*own)]),
    ] {
        let answer = browser.post_raw("/logout", &[("form_token", token)], &headers).await;
        assert_eq!(answer.status, 403, "{why}");
    }
    assert_eq!(browser.post_raw("/logout", &[], &browser.same_origin()).await.status, 403, "no field");
    assert_eq!(browser.get("/").await.status, 200, "still logged in");
}

#[tokio::test]
async fn console_without_login_is_not_served_under_the_name_of_another_site() {
    let service = start_with_console(&TestDatabase::embedded()).await;
    let browser = Browser::new(&service);
    for (host, status) in
        [("rebound.example", 403), ("localhost:1", 200), ("127.0.0.1", 200), ("[::1]:1", 200)]
    {
        let answer = http_exchange(browser.address, "GET /", &[("host", host)], "").await.unwrap();
        assert_eq!(answer.status, status, "{host}");
    }
}

#[tokio::test]
async fn large_and_unreadable_forms_are_refused() {
    let (_file, service) = start_with_people(&TestDatabase::embedded(), &[Role::Operator]).await;
    let browser = Browser::logged_in(&service, Role::Operator).await;
    let answer = browser.submit("/", "/logout", &[("filler", &"x".repeat(70_000))]).await;
    assert_eq!(answer.status, 413);
    assert!(answer.body.contains("The form is too large."), "{}", answer.body);
    assert_eq!(browser.get("/").await.status, 200);
}
