//! The overview: the verdict, the plots and the facts, on the page and as a stream.

use std::{sync::Arc, time::Duration};

use tenant_auth_svc::domain::{
    access::Role,
    clock::{ManualClock, SharedClock, SystemClock},
};

use crate::harness::{
    NOW, TestDatabase, TestService,
    console::{Browser, start_with_console, start_with_people, with_console},
    events::{EventStream, page_until},
};

/// Starts a replica that follows the change log, as replicas do: so it reads the database while nobody asks it anything.
async fn start_following(database: &TestDatabase) -> TestService {
    let settings = with_console(database.settings());
    let settings = settings.with_flag("TENANT_AUTH_FEED_INTERVAL", Some("100ms".to_owned()));
    TestService::start_with(settings, SystemClock::shared()).await
}

const WORKS: &str = "Everything works.";
const OUTAGE: &str = "Database unreachable for ";

#[tokio::test]
async fn healthy_replica_says_so_and_shows_all_its_parts() {
    let service = start_with_console(&TestDatabase::embedded()).await;
    let page = Browser::new(&service).page("/").await;
    assert!(page.contains(&format!("<h1>{WORKS}</h1>")), "{page}");
    assert_eq!(page.matches("<figure class=\"plot\">").count(), 8, "{page}");
    for part in ["process", "reads", "writes", "breaker", "feed", "grace", "peppers"] {
        assert!(page.contains(&format!("<dt>{part}</dt>")), "{part}: {page}");
    }
    assert!(page.contains("Only this replica is known here"), "{page}");
    assert!(page.contains(env!("CARGO_PKG_VERSION")), "{page}");
}

#[tokio::test]
async fn outage_appears_on_a_readable_page_and_goes() {
    let mut database = TestDatabase::test_server().await;
    let service = start_following(&database).await;
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    service.validate(&key).await.unwrap();
    let browser = Browser::new(&service);
    assert!(browser.page("/").await.contains(WORKS));

    database.server_mut().stop().await;
    let page = page_until(&browser, "/", |page| page.contains(OUTAGE)).await;
    for felt in
        ["of requests are answered", "Keys not seen before are refused with UNAVAILABLE.", "Copies expire"]
    {
        assert!(page.contains(felt), "{felt}: {page}");
    }
    assert_eq!(page.matches("<figure class=\"plot\">").count(), 8, "the rest stays readable");
    assert!(page.contains("<dt>reads</dt><dd>failing"), "{page}");

    database.server_mut().start_again().unwrap();
    page_until(&browser, "/", |page| page.contains(WORKS)).await;
}

#[tokio::test]
async fn stream_sends_the_verdict_when_it_changes() {
    let mut database = TestDatabase::test_server().await;
    let service = start_following(&database).await;
    let mut events = EventStream::open(&Browser::new(&service), "/events").await;
    events.until("part-verdict", |verdict| verdict.contains(WORKS)).await;
    database.server_mut().stop().await;
    events.until("part-verdict", |verdict| verdict.contains(OUTAGE)).await;
    events.until("part-facts", |facts| facts.contains("failing")).await;
    database.server_mut().start_again().unwrap();
    events.until("part-summary", |summary| summary == WORKS).await;
}

#[tokio::test]
async fn plots_move_with_each_sample() {
    let clock = ManualClock::at(NOW);
    let settings = with_console(TestDatabase::embedded().settings());
    let service = TestService::start_with(settings, Arc::clone(&clock) as SharedClock).await;
    let (key, _) = service.issue_key(&service.create_tenant("Acme").await, &[]).await;
    let mut events = EventStream::open(&Browser::new(&service), "/events").await;
    events.until("part-plots", |plots| plots.contains("Not enough samples yet")).await;
    for requests in [5, 7] {
        for _ in 0..requests {
            service.validate(&key).await.unwrap();
        }
        clock.advance(Duration::from_secs(10));
        events.until("part-plots", |_| true).await;
    }
    let table = events.until("part-latest", |_| true).await;
    assert!(table.contains("Requests by result: admitted</th><td class=\"number\">0.7/s</td>"), "{table}");
    let page = Browser::new(&service).page("/").await;
    assert!(!page.contains("Not enough samples yet"), "{page}");
    assert!(page.contains("0.7 requests a second, 99 % of them within "), "{page}");
}

#[tokio::test]
async fn stream_ends_with_the_login() {
    let database = TestDatabase::embedded();
    let (callers, service) = start_with_people(&database, &[Role::Viewer, Role::Operator]).await;
    let stranger = Browser::new(&service);
    assert_eq!(stranger.get("/events").await.status, 303);

    let leaving = Browser::logged_in(&service, Role::Viewer).await;
    let removed = Browser::logged_in(&service, Role::Operator).await;
    let mut streams =
        [EventStream::open(&leaving, "/events").await, EventStream::open(&removed, "/events").await];
    for stream in &mut streams {
        stream.until("part-verdict", |verdict| verdict.contains(WORKS)).await;
    }
    let [of_leaving, of_removed] = &mut streams;
    assert_eq!(leaving.submit("/", "/logout", &[]).await.status, 303);
    of_leaving.until_end().await;
    callers.write(&[("someone", Role::Viewer, &["other"])]);
    service.running.reloader()();
    of_removed.until_end().await;
}

#[tokio::test]
async fn stream_ends_with_the_service() {
    let service = start_with_console(&TestDatabase::embedded()).await;
    let mut events = EventStream::open(&Browser::new(&service), "/events").await;
    events.until("part-verdict", |_| true).await;
    tokio::join!(service.running.stop(), events.until_end());
}
