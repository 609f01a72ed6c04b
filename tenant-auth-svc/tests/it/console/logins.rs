//! Who may log in, and when a login ends.

use std::{sync::Arc, time::Duration};

use tenant_auth_svc::domain::{
    access::Role,
    clock::{ManualClock, SharedClock},
};

use crate::harness::{
    NOW, TestDatabase, TestService,
    captured::TestLog,
    console::{Browser, people, start_with_console, start_with_people, token_of, with_console},
};

#[tokio::test]
async fn page_without_login_leads_to_the_login_and_back() {
    let (_file, service) = start_with_people(&TestDatabase::embedded(), &[Role::Viewer]).await;
    let mut browser = Browser::new(&service);
    for (path, login) in
        [("/", "/login?to=%2f"), ("/audit?target=a%20b", "/login?to=%2faudit%3ftarget%3da%2520b")]
    {
        let answer = browser.get(path).await;
        assert_eq!((answer.status, answer.header("location")), (303, Some(login)));
    }
    let page = browser.page("/login?to=%2Faudit").await;
    assert!(page.contains("name=\"to\" value=\"/audit\""), "{page}");
    let token = token_of(Role::Viewer);
    let answer =
        browser.post_raw("/login", &[("token", &token), ("to", "/audit")], &browser.same_origin()).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/audit")));
    let cookie = answer.header("set-cookie").unwrap();
    let (pair, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(attributes, "path=/; secure; httponly; samesite=strict; max-age=43200");
    assert_eq!(pair.len(), "__host-tenant-auth=".len() + 64, "256 random bits");
    assert_eq!(browser.log_in(&token).await.status, 303);
    assert!(browser.page("/").await.contains("viewer"));
}

#[tokio::test]
async fn only_viewers_and_operators_log_in() {
    let (_file, service) = start_with_people(&TestDatabase::embedded(), &Role::ALL).await;
    for role in Role::ALL {
        let mut browser = Browser::new(&service);
        let answer = browser.log_in(&token_of(role)).await;
        let may = matches!(role, Role::Viewer | Role::Operator);
        assert_eq!((answer.status, browser.cookie.is_some()), (if may { 303 } else { 403 }, may), "{role:?}");
    }
    let mut browser = Browser::new(&service);
    for unknown in ["", "tac_unknown", "<script>"] {
        let answer = browser.log_in(unknown).await;
        assert_eq!(answer.status, 403);
        assert!(answer.body.contains("No caller has this token.") && !answer.body.contains("<script>"));
        assert!(browser.cookie.is_none());
    }
    let log = TestLog::shared().text();
    let lines: Vec<_> = log.lines().filter(|line| line.contains("console login")).collect();
    assert!(lines.iter().any(|line| line.contains("\"caller\":\"operator\"")), "{lines:?}");
    assert!(!log.contains(&token_of(Role::Operator)), "no line has a token");
}

#[tokio::test]
async fn login_ends_with_the_logout_and_its_cookie_is_worth_nothing_then() {
    let (_file, service) = start_with_people(&TestDatabase::embedded(), &[Role::Operator]).await;
    let browser = Browser::logged_in(&service, Role::Operator).await;
    let answer = browser.submit("/", "/logout", &[]).await;
    assert_eq!((answer.status, answer.header("location")), (303, Some("/login")));
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.starts_with("__host-tenant-auth=;") && cookie.ends_with("max-age=0"), "{cookie}");
    assert_eq!(browser.get("/").await.status, 303, "the same cookie again");
}

#[tokio::test]
async fn login_ends_when_its_caller_is_removed_or_loses_its_role() {
    let (file, service) = start_with_people(&TestDatabase::embedded(), &[Role::Viewer, Role::Operator]).await;
    let (viewer, operator) = (
        Browser::logged_in(&service, Role::Viewer).await,
        Browser::logged_in(&service, Role::Operator).await,
    );
    let (viewers, operators) = (token_of(Role::Viewer), token_of(Role::Operator));
    file.write(&[("viewer", Role::Meter, &[&viewers]), ("other", Role::Operator, &["tac_another"])]);
    service.running.reloader()();
    assert_eq!(viewer.get("/").await.status, 303);
    assert_eq!(operator.get("/").await.status, 303);
    // Their logins are still there, so they go on if that was a mistake.
    file.write(&[("viewer", Role::Viewer, &[&viewers]), ("operator", Role::Operator, &[&operators])]);
    service.running.reloader()();
    assert_eq!((viewer.get("/").await.status, operator.get("/").await.status), (200, 200));
}

#[tokio::test]
async fn idle_login_ends_after_half_an_hour() {
    let clock = ManualClock::at(NOW);
    let database = TestDatabase::embedded();
    database.follow_clock(&clock);
    let file = people(&[Role::Viewer]);
    let service_clock: SharedClock = Arc::clone(&clock) as SharedClock;
    let service = TestService::start_with(with_console(file.settings(&database)), service_clock).await;
    let browser = Browser::logged_in(&service, Role::Viewer).await;
    clock.advance(Duration::from_secs(29 * 60));
    assert_eq!(browser.get("/").await.status, 200);
    clock.advance(Duration::from_secs(30 * 60));
    assert_eq!(browser.get("/").await.status, 303);
}

#[tokio::test]
async fn nobody_logs_in_without_a_callers_file() {
    let service = start_with_console(&TestDatabase::embedded()).await;
    let browser = Browser::new(&service);
    assert!(browser.page("/").await.contains("anyone on this machine"));
    assert_eq!(browser.get("/login").await.header("location"), Some("/"));
}
