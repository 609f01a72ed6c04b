//! What happens near the end of the grace and beyond it, and what an operator can do about it.

use std::{sync::Arc, time::Duration};

use tenant_auth_svc::domain::clock::ManualClock;
use tenant_auth_testkit::Fault;

use crate::{
    harness::{Database, NOW, Service, http, outcome, strange_key},
    scrape::Scrape,
};

const HOUR: Duration = Duration::from_secs(3_600);

struct Outage {
    database: Database,
    clock: Arc<ManualClock>,
    service: Service,
    keys: Vec<String>,
}

impl Outage {
    /// Of three keys one was read half an hour before the database went away, and two when it did.
    async fn start() -> Self {
        let database = Database::test_server().await;
        let clock = ManualClock::at(NOW);
        let service = Service::start_at(&database, &clock).await;
        let tenant = service.tenant("Acme").await;
        let mut keys = Vec::new();
        for number in 0..3 {
            let (key, _) = service.key(&tenant, &[]).await;
            service.validate(&key).await.unwrap();
            keys.push(key);
            if number == 0 {
                clock.advance(HOUR / 2);
            }
        }
        let outage = Self { database, clock, service, keys };
        outage.goes_away().await;
        outage
    }

    async fn goes_away(&self) {
        self.database.server().faults().set(Fault::service_unavailable());
        assert_eq!(outcome(&self.service.validate(&strange_key()).await), "Unavailable");
    }

    async fn outcomes(&self) -> Vec<String> {
        let mut outcomes = Vec::new();
        for key in &self.keys {
            outcomes.push(outcome(&self.service.validate(key).await));
        }
        outcomes
    }

    async fn line(&self) -> String {
        let ops = self.service.running.ops_address().unwrap();
        let told = http(ops, "GET /readyz?verbose").await.unwrap().body;
        told.lines().find(|line| line.starts_with("grace ")).unwrap().to_owned()
    }

    async fn left(&self, of: &str) -> f64 {
        Scrape::of(&self.service)
            .await
            .number(&format!("tenant_auth_cache_grace_ends_seconds{{of=\"{of}\"}}"))
    }
}

const GOOD: &str = "VERDICT_VALID";

#[tokio::test]
async fn the_end_of_the_grace_is_told_before_and_after_it_comes() {
    let outage = Outage::start().await;
    assert_eq!(
        outage.line().await,
        "grace     14400 s; ends for the median key in use in 14400 s; ends for the oldest in 12600 s; keys beyond it: 0"
    );
    outage.clock.advance(HOUR * 7 / 2);
    assert_eq!(outage.outcomes().await, ["Unavailable", GOOD, GOOD]);
    assert_eq!((outage.left("oldest").await, outage.left("median").await), (0.0, 1_800.0));
    let told = outage.line().await;
    assert!(told.ends_with("in 1800 s; ended for the oldest 0 ms ago; keys beyond it: 1"), "{told}");

    // It goes on to be told for as long as the database is away.
    outage.clock.advance(HOUR);
    assert_eq!(outage.outcomes().await, ["Unavailable"; 3]);
    assert_eq!((outage.left("oldest").await, outage.left("median").await), (-3_600.0, -1_800.0));
    Scrape::of(&outage.service).await.is("tenant_auth_cache_beyond_grace_records", 3.0);
    let ops = outage.service.running.ops_address().unwrap();
    let told = http(ops, "GET /readyz?verbose&format=json").await.unwrap().body;
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!(told["grace"]["oldest_key_ends_ms"], -3_600_000);
    assert_eq!(told["grace"]["keys_beyond"], 3);

    outage.database.server().faults().clear();
    assert_eq!(outage.outcomes().await, [GOOD; 3]);
    assert_eq!(outage.line().await, "grace     14400 s");
    assert_eq!(outage.left("oldest").await, 14_400.0, "while the database answers, the whole of it is left");
    Scrape::of(&outage.service).await.is("tenant_auth_cache_beyond_grace_records", 0.0);
}
