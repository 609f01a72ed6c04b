//! Three replicas, their database, their callers, and a simulated clock.
//!
//! Each group of [`KEY_GROUP_SIZE`] keys has one key of each kind that an outage could affect.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::future::join_all;
use tempfile::TempDir;
use tenant_auth_svc::{
    config::{ServiceConfig, Settings},
    domain::{
        admin::AdminError,
        audit::Actor,
        clock::{Clock as _, ManualClock, SharedClock, UnixMillis},
        id::{KeyId, TenantId},
        key::{KeyHash, KeyToImport, NewKey, PresentedKey},
        network::AllowedNetworks,
        scope::ScopeSet,
        text::{KeyName, Plan, PrefixHint, TenantName},
        validate::KeyQuery,
        verdict::{Source, Verdict},
    },
    server::{self, RunningService},
};
use tenant_auth_testkit::HranaServer;

use super::{report::AnswerCounts, traffic::BackgroundTraffic};

pub(crate) const REPLICAS: usize = 3;
pub(crate) const TENANT: &str = "acme";
/// The replica that reads from a read replica of the database, if there is one.
pub(crate) const READ_REPLICA_READER: usize = 2;
const CALLERS: usize = 5;
/// Number of keys that a caller validates on each replica in each step.
const KEYS_PER_STEP: usize = 20;
pub(crate) const KEYS: usize = 1_000;
/// Number of keys per group. The indexes below name the special keys of a group.
pub(crate) const KEY_GROUP_SIZE: usize = 50;
/// Revoked before the outage; the replicas know it.
const REVOKED_INDEX: usize = 0;
/// Expires [`EXPIRING_KEY_LIFETIME`] after the start.
pub(crate) const EXPIRING_INDEX: usize = 1;
pub(crate) const EXPIRING_KEY_LIFETIME: Duration = Duration::from_secs(60 * 60);
/// The simulated start time.
const START_TIME: UnixMillis = UnixMillis(1_790_000_000_000);
/// Maximum real time to wait for anything; no test measures it.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(120);

/// A key and its expected state.
pub(crate) struct TrackedKey {
    pub(crate) id: KeyId,
    query: KeyQuery,
    expires_at: Option<UnixMillis>,
    pub(crate) is_revoked: bool,
    /// Per replica: whether it cannot know of the revocation yet.
    pub(crate) missing_revocation: [bool; REPLICAS],
}

pub(crate) struct Cluster {
    pub(crate) database: HranaServer,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) replicas: Vec<RunningService>,
    pub(crate) keys: Vec<TrackedKey>,
    /// Index of the next key that the callers validate.
    next_key: usize,
    /// The replicas' database timeouts: per attempt, and in total.
    timeouts: (&'static str, &'static str),
    token: TempDir,
    /// The read replica that the last replica reads from.
    pub(crate) read_replica: Option<HranaServer>,
    /// Whether the read replica contains all changes.
    pub(crate) read_replica_is_current: bool,
    pub(crate) traffic: BackgroundTraffic,
}

/// Without hanging calls: long, so that a busy machine does not make a healthy database look slow.
pub(crate) const LONG_TIMEOUTS: (&str, &str) = ("10s", "10s");
/// For outages with hanging calls: short, because these timeouts elapse in real time.
pub(crate) const SHORT_TIMEOUTS: (&str, &str) = ("150ms", "400ms");

impl Cluster {
    /// Starts the cluster, stores the keys in the database and loads them into every cache.
    pub(crate) async fn start(timeouts: (&'static str, &'static str)) -> Self {
        Self::start_with(timeouts, false).await
    }

    /// Starts the cluster, optionally with a read replica of the database for the last replica.
    pub(crate) async fn start_with(timeouts: (&'static str, &'static str), with_read_replica: bool) -> Self {
        let database = HranaServer::builder().token("secret").start().await.unwrap();
        let token = tempfile::tempdir().unwrap();
        std::fs::write(token.path().join("token"), "secret").unwrap();
        let clock = ManualClock::at(START_TIME);
        database.set_clock({
            let clock = Arc::clone(&clock);
            move || clock.now().0
        });
        let mut cluster = Self {
            database,
            clock,
            replicas: Vec::new(),
            keys: Vec::new(),
            next_key: 0,
            timeouts,
            token,
            read_replica: None,
            read_replica_is_current: true,
            traffic: BackgroundTraffic::default(),
        };
        for replica in 0..REPLICAS {
            if with_read_replica && replica == READ_REPLICA_READER {
                cluster.make_read_replica().await;
            }
            let mut running = cluster.start_replica().await;
            running.wait_until_ready().await.unwrap();
            running.wait_until_preloaded().await;
            cluster.replicas.push(running);
        }
        cluster.warm_up().await;
        cluster
    }

    pub(crate) fn token_file(&self) -> String {
        self.token.path().join("token").display().to_string()
    }

    /// Starts a new replica, which may not be ready yet.
    pub(crate) async fn start_replica(&self) -> RunningService {
        let (file, server) = (self.token_file(), self.read_replica.as_ref().unwrap_or(&self.database));
        let settings = Settings::default()
            .with_flag("TENANT_AUTH_LISTEN", Some("127.0.0.1:0".to_owned()))
            .with_flag("TENANT_AUTH_OPS_LISTEN", Some("off".to_owned()))
            .with_flag("TENANT_AUTH_DATABASE_URL", Some(server.url()))
            .with_flag("TENANT_AUTH_DATABASE_TOKEN_FILE", Some(file))
            .with_flag("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", Some(self.timeouts.0.to_owned()))
            .with_flag("TENANT_AUTH_DATABASE_TIMEOUT", Some(self.timeouts.1.to_owned()))
            .with_flag("TENANT_AUTH_CREATE_SCHEMA", Some("true".to_owned()))
            .with_flag("TENANT_AUTH_HEARTBEAT_INTERVAL", Some("1s".to_owned()))
            // Unanswered writes also time out in real time.
            .with_flag("TENANT_AUTH_DATABASE_WRITE_TIMEOUT", Some(self.timeouts.1.to_owned()))
            // The steps of the simulation poll the feed.
            .with_flag("TENANT_AUTH_FEED_INTERVAL", Some("off".to_owned()));
        let config = ServiceConfig::read(settings).unwrap().0;
        server::start(config, Arc::clone(&self.clock) as SharedClock).await.unwrap()
    }

    async fn warm_up(&mut self) {
        let tenant_id = TenantId::parse(TENANT).unwrap();
        let (name, plan) = (TenantName::parse("Acme").unwrap(), Plan::parse("pro").unwrap());
        self.change_with_retries(0, async |replica| {
            let (id, name, plan) = (Some(tenant_id.clone()), name.clone(), plan.clone());
            replica.admin().create_tenant(id, name, plan, actor(), deadline()).await.map(drop)
        })
        .await;
        for number in 0..KEYS {
            self.keys.push(TrackedKey {
                id: KeyId::generate(),
                query: key_query(number),
                expires_at: (number % KEY_GROUP_SIZE == EXPIRING_INDEX)
                    .then(|| START_TIME.plus(EXPIRING_KEY_LIFETIME)),
                is_revoked: false,
                missing_revocation: [false; REPLICAS],
            });
        }
        let imports: Vec<_> = self
            .keys
            .iter()
            .map(|key| {
                let hash = KeyHash::of(&key.query.key);
                let (id, tenant_id, expires_at) = (key.id.clone(), tenant_id.clone(), key.expires_at);
                let (name, prefix_hint) = (KeyName::parse("").unwrap(), PrefixHint::parse("").unwrap());
                let (scopes, allowed_networks) = (ScopeSet::EMPTY, AllowedNetworks::EVERYWHERE);
                let key =
                    NewKey { id, tenant_id, hash, name, prefix_hint, scopes, allowed_networks, expires_at };
                KeyToImport { key, created_at: None }
            })
            .collect();
        for page in imports.chunks(100) {
            self.change_with_retries(0, async |replica| {
                replica.admin().import_keys(page.to_vec(), actor(), deadline()).await.map(drop)
            })
            .await;
        }
        self.fill_caches_and_poll().await;
        for number in (REVOKED_INDEX..KEYS).step_by(KEY_GROUP_SIZE) {
            self.revoke_on_first(number).await;
        }
        self.fill_caches_and_poll().await;
        self.fill_caches_and_poll().await;
    }

    /// Makes a change through a replica. Retries it, because a busy machine may exceed the short timeouts.
    pub(crate) async fn change_with_retries(
        &self,
        replica: usize,
        change: impl AsyncFn(&RunningService) -> Result<(), AdminError>,
    ) {
        let deadline = deadline();
        while let Err(error) = change(&self.replicas[replica]).await {
            assert!(matches!(error, AdminError::Store(_)), "{error}");
            assert!(Instant::now() < deadline, "the database must answer before it breaks");
            self.clock.advance(Duration::from_millis(100));
        }
    }

    /// Makes every replica poll the feed and cache every key, with retries for a busy machine.
    async fn fill_caches_and_poll(&mut self) {
        self.catch_up_read_replica().await;
        for replica in 0..REPLICAS {
            let deadline = deadline();
            while !self.poll_feed(replica).await {
                assert!(Instant::now() < deadline, "the database must answer before it breaks");
                self.clock.advance(Duration::from_millis(100));
            }
            for some in self.keys.chunks(64) {
                let some: Vec<_> = some.iter().map(|key| clone_query(&key.query)).collect();
                let validator = self.replicas[replica].validator();
                while validator.decide_all(&some, deadline).await.iter().any(Result::is_err) {
                    assert!(Instant::now() < deadline, "the database must answer before it breaks");
                    // Too many timeouts in a row open the breaker, and only simulated time closes it.
                    self.clock.advance(Duration::from_millis(100));
                }
            }
        }
    }

    /// Makes a replica poll its feed. Returns whether it succeeded.
    pub(crate) async fn poll_feed(&mut self, replica: usize) -> bool {
        let polled = self.replicas[replica].feed().poll().await.is_ok();
        if polled {
            self.mark_polled(replica);
        }
        polled
    }

    /// Records that a replica has polled everything in the database that it reads from.
    fn mark_polled(&mut self, replica: usize) {
        if replica != READ_REPLICA_READER || self.read_replica_is_current {
            self.keys.iter_mut().for_each(|key| key.missing_revocation[replica] = false);
        }
    }

    pub(crate) fn database_requests(&self) -> u64 {
        // Refused connections are not counted by the server; the replicas' own limit applies to them.
        self.database.counters().requests
    }

    /// Returns the number of requests that read the change log.
    pub(crate) fn feed_requests(&self) -> u64 {
        self.database.requests_with("FROM changes WHERE seq > ?1")
    }

    pub(crate) async fn repair(&mut self) {
        self.database.faults().clear();
        self.database.stop().await;
        self.database.start_again().unwrap();
    }

    /// Advances the clock, polls every feed, and lets every caller validate some keys on every replica.
    pub(crate) async fn step(&mut self, time: Duration, counts: &mut AnswerCounts) {
        self.clock.advance(time);
        self.traffic.send(self);
        for replica in &self.replicas {
            // If the heartbeat fails, a stalled read replica cannot be detected.
            let _ = replica.beat_if_due().await;
        }
        let readings = join_all(self.replicas.iter().map(|replica| replica.feed().poll())).await;
        for (replica, reading) in readings.into_iter().enumerate() {
            if reading.is_ok() {
                self.mark_polled(replica);
            }
        }
        let numbers: Vec<usize> = (0..CALLERS)
            .flat_map(|caller| (0..KEYS_PER_STEP).map(move |ask| caller * 211 + ask))
            .map(|offset| (self.next_key + offset) % KEYS)
            .collect();
        self.next_key += KEYS_PER_STEP;
        self.validate_keys(&numbers, counts).await;
    }

    /// Validates some keys on every replica.
    pub(crate) async fn validate_keys(&self, numbers: &[usize], counts: &mut AnswerCounts) {
        let deadline = Instant::now() + Duration::from_secs(5);
        let calls = self.replicas.iter().enumerate().flat_map(|(replica, running)| {
            numbers.iter().map(move |number| async move {
                let key = &self.keys[*number];
                (replica, key, running.validator().decide(&key.query, deadline).await)
            })
        });
        for (replica, key, decision) in join_all(calls).await {
            let right = match key.expires_at {
                _ if key.is_revoked => Verdict::Revoked,
                Some(end) if end <= self.clock.now() => Verdict::Expired,
                _ => Verdict::Valid,
            };
            match decision.map(|decision| decision.verdict) {
                Err(_) => counts.unanswered += 1,
                Ok(verdict) if verdict == right => counts.correct += 1,
                Ok(Verdict::Valid) if key.missing_revocation[replica] => counts.late_allows += 1,
                Ok(Verdict::Valid) => counts.wrong_allows += 1,
                Ok(_) => counts.wrong_denials += 1,
            }
        }
    }

    /// Returns the age of each replica's answer about each key. All are answered from the cache.
    pub(crate) async fn answer_ages(&self) -> Vec<Duration> {
        let mut ages = Vec::new();
        for replica in &self.replicas {
            for key in &self.keys {
                let decision = replica.validator().decide(&key.query, deadline()).await.unwrap();
                assert_eq!(decision.provenance.source, Source::Stale);
                ages.push(decision.provenance.age);
            }
        }
        ages
    }

    /// Returns whether every replica's feed is live and every replica answers from a healthy database.
    pub(crate) async fn is_normal(&mut self) -> bool {
        for replica in 0..REPLICAS {
            let polled = self.poll_feed(replica).await;
            let query = &self.keys[2].query;
            let answer = self.replicas[replica].validator().decide(query, deadline()).await;
            let source = answer.map(|decision| decision.provenance.source);
            if !polled || !matches!(source, Ok(Source::Database | Source::Fresh | Source::Refreshing)) {
                return false;
            }
        }
        true
    }
}

pub(crate) fn actor() -> Actor {
    Actor { caller: "incident".to_owned(), request_id: "incident".to_owned() }
}

pub(crate) fn deadline() -> Instant {
    Instant::now() + WAIT_TIMEOUT
}

fn key_query(number: usize) -> KeyQuery {
    KeyQuery::new(PresentedKey::new(format!("incident-key-number-{number:06}")))
}

fn clone_query(query: &KeyQuery) -> KeyQuery {
    KeyQuery::new(PresentedKey::new(query.key.expose().to_owned()))
}
