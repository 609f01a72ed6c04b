//! Three replicas, their database, their callers, and a clock that moves when told to.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use tempfile::TempDir;
use tenant_auth_svc::{
    app::{self, Running},
    config::{ServiceConfig, Settings},
    domain::{
        audit::Actor,
        clock::{ManualClock, SharedClock, UnixMillis},
        id::{KeyId, TenantId},
        key::{KeyHash, KeyToImport, NewKey, PresentedKey},
        scope::ScopeSet,
        text::{KeyName, Plan, PrefixHint, Reason, TenantName},
        validate::Question,
        verdict::{Source, Verdict},
    },
};
use tenant_auth_testkit::{Fault, HranaServer};

use super::Breakage;

const REPLICAS: usize = 3;
const CALLERS: usize = 5;
/// How many keys a caller asks each replica about, in each step.
const ASKS: usize = 20;
const KEYS: usize = 1_000;
/// Every this many keys, one is revoked before the outage and must stay so.
const REVOKED_EVERY: usize = 50;

/// What callers were told.
#[derive(Debug, Default)]
pub(crate) struct Told {
    correct: u64,
    nothing: u64,
    pub(crate) wrong_allows: u64,
    pub(crate) wrong_denials: u64,
}

impl Told {
    pub(crate) fn answers(&self) -> u64 {
        self.correct + self.nothing + self.wrong_allows + self.wrong_denials
    }

    pub(crate) fn share(&self) -> f64 {
        self.correct as f64 / self.answers().max(1) as f64
    }
}

pub(crate) struct Cluster {
    database: HranaServer,
    clock: Arc<ManualClock>,
    replicas: Vec<Running>,
    questions: Vec<Question>,
    /// Where the callers are in the list of keys.
    next: usize,
    _token: TempDir,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let database = HranaServer::builder().token("secret").start().await.unwrap();
        let token = tempfile::tempdir().unwrap();
        let file: PathBuf = token.path().join("token");
        std::fs::write(&file, "secret").unwrap();
        let clock = ManualClock::at(UnixMillis(1_790_000_000_000));
        let mut replicas = Vec::new();
        for _ in 0..REPLICAS {
            let settings = Settings::default()
                .with_flag("TENANT_AUTH_LISTEN", Some("127.0.0.1:0".to_owned()))
                .with_flag("TENANT_AUTH_OPS_LISTEN", Some("off".to_owned()))
                .with_flag("TENANT_AUTH_DATABASE_URL", Some(database.url()))
                .with_flag("TENANT_AUTH_DATABASE_TOKEN_FILE", Some(file.display().to_string()))
                // The one wait that is real: how long a call hangs before it is given up.
                .with_flag("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", Some("100ms".to_owned()))
                .with_flag("TENANT_AUTH_DATABASE_TIMEOUT", Some("300ms".to_owned()))
                // Read by the steps of the simulation.
                .with_flag("TENANT_AUTH_FEED_INTERVAL", Some("off".to_owned()));
            let config = ServiceConfig::read(settings).unwrap().0;
            let mut running = app::start(config, Arc::clone(&clock) as SharedClock).await.unwrap();
            running.ready().await.unwrap();
            running.read_ahead().await;
            replicas.push(running);
        }
        let questions = (0..KEYS).map(|number| question(&key(number))).collect();
        Self { database, clock, replicas, questions, next: 0, _token: token }
    }

    /// Brings the keys into the database and into every memory, and revokes some.
    pub(crate) async fn warm_up(&mut self) {
        let deadline = || Instant::now() + Duration::from_secs(30);
        let actor = || Actor { caller: "incident".to_owned(), request_id: "incident".to_owned() };
        let admin = self.replicas[0].admin();
        let tenant_id = TenantId::parse("acme").unwrap();
        let (name, plan) = (TenantName::parse("Acme").unwrap(), Plan::parse("pro").unwrap());
        admin.create_tenant(Some(tenant_id.clone()), name, plan, actor(), deadline()).await.unwrap();
        let mut ids = Vec::new();
        let imports: Vec<_> = (0..KEYS)
            .map(|number| {
                let id = KeyId::generate();
                ids.push(id.clone());
                let hash = KeyHash::of(&PresentedKey::new(key(number)));
                let (name, prefix_hint) = (KeyName::parse("").unwrap(), PrefixHint::parse("").unwrap());
                let (tenant_id, scopes) = (tenant_id.clone(), ScopeSet::EMPTY);
                let key = NewKey { id, tenant_id, hash, name, prefix_hint, scopes, expires_at: None };
                KeyToImport { key, created_at: None }
            })
            .collect();
        for page in imports.chunks(500) {
            admin.import_keys(page.to_vec(), actor(), deadline()).await.unwrap();
        }
        for replica in &self.replicas {
            self.fill(replica).await;
            self.hear(replica).await;
        }
        for id in ids.into_iter().step_by(REVOKED_EVERY) {
            let reason = Reason::parse("before the outage").unwrap();
            self.replicas[0].admin().revoke_key(id, reason, actor(), deadline()).await.unwrap();
        }
        for replica in &self.replicas {
            self.hear(replica).await;
            self.fill(replica).await;
        }
    }

    /// Makes a replica know every key, whatever a busy machine does to the short timeouts.
    async fn fill(&self, replica: &Running) {
        for some in self.questions.chunks(64) {
            let deadline = Instant::now() + Duration::from_secs(30);
            while replica.validator().decide_all(some, deadline).await.iter().any(Result::is_err) {
                assert!(Instant::now() < deadline, "the database must answer before it breaks");
                // Too many timeouts in a row open the breaker, which only simulated time closes.
                self.clock.advance(Duration::from_millis(100));
            }
        }
    }

    async fn hear(&self, replica: &Running) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while replica.feed().poll().await.is_err() {
            assert!(Instant::now() < deadline, "the database must answer before it breaks");
            self.clock.advance(Duration::from_millis(100));
        }
    }

    pub(crate) fn requests(&self) -> u64 {
        // Whoever refuses connections counts those that were attempted nowhere; then the replicas' own bound holds.
        self.database.counters().requests
    }

    pub(crate) async fn break_down(&mut self, breakage: &Breakage) {
        match breakage {
            Breakage::Constant(fault) => self.database.faults().set(fault.clone()),
            Breakage::Refusing => self.database.stop().await,
            Breakage::Flapping(_) => {}
        }
    }

    pub(crate) fn set_fault(&self, fault: Option<Fault>) {
        match fault {
            Some(fault) => self.database.faults().set(fault),
            None => self.database.faults().clear(),
        }
    }

    pub(crate) async fn repair(&mut self) {
        self.database.faults().clear();
        self.database.stop().await;
        self.database.start_again().unwrap();
    }

    /// Lets time pass: every replica reads its feed, every caller asks every replica about some keys.
    pub(crate) async fn step(&mut self, time: Duration, told: &mut Told) {
        self.clock.advance(time);
        // A failed read is what this is about.
        let _ = join_all(self.replicas.iter().map(|replica| replica.feed().poll())).await;
        let numbers: Vec<usize> = (0..CALLERS)
            .flat_map(|caller| (0..ASKS).map(move |ask| caller * 211 + ask))
            .map(|offset| (self.next + offset) % KEYS)
            .collect();
        self.next += ASKS;
        let deadline = Instant::now() + Duration::from_secs(5);
        let calls = self.replicas.iter().flat_map(|replica| {
            numbers.iter().map(|number| async {
                (*number, replica.validator().decide(&self.questions[*number], deadline).await)
            })
        });
        for (number, decision) in join_all(calls).await {
            let revoked = number.is_multiple_of(REVOKED_EVERY);
            match decision.map(|decision| decision.verdict) {
                Err(_) => told.nothing += 1,
                Ok(Verdict::Revoked) if revoked => told.correct += 1,
                Ok(Verdict::Valid) if !revoked => told.correct += 1,
                Ok(Verdict::Valid) => told.wrong_allows += 1,
                Ok(_) => told.wrong_denials += 1,
            }
        }
    }

    /// Whether every replica hears its feed and answers from a database that works.
    pub(crate) async fn is_normal(&self) -> bool {
        let deadline = Instant::now() + Duration::from_secs(5);
        for replica in &self.replicas {
            let heard = replica.feed().poll().await.is_ok();
            let answer = replica.validator().decide(&self.questions[1], deadline).await;
            let source = answer.map(|decision| decision.provenance.source);
            if !heard || !matches!(source, Ok(Source::Database | Source::Fresh | Source::Refreshing)) {
                return false;
            }
        }
        true
    }
}

fn key(number: usize) -> String {
    format!("incident-key-number-{number:06}")
}

fn question(key: &str) -> Question {
    Question { key: PresentedKey::new(key.to_owned()), required_scopes: ScopeSet::EMPTY }
}
