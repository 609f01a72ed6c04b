//! The replicas, their database, their clock and their requests.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value as Json;
use tempfile::TempDir;
use tenant_auth_svc::{
    domain::{
        clock::{Clock as _, ManualClock, UnixMillis},
        store::{FailureKind, StoreError},
        verdict::{Decision, Verdict},
    },
    server::RunningService,
};
use tenant_auth_testkit::{Backup, HranaServer};
use tonic::transport::Channel;

use super::{
    disasters::BeforeDisaster,
    history::{EventOrder, KeyRow},
    limits::LimitTraffic,
    metering::UsageLedger,
    oracle::{ObservedAnswer, Oracle, SimulatedTime},
    read_replicas::{ReadReplica, Region},
    replica::{CALLERS_NETWORK, Credential, SCOPE, SeededFlaw, start_replica},
    troubles::Trouble,
};

pub(crate) const REPLICAS: usize = 3;
pub(crate) const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
/// Maximum real time to wait for anything; no test measures it.
pub(crate) const WAIT_TIMEOUT: Duration = Duration::from_secs(30);

pub(crate) struct SimulatedCluster {
    pub(crate) server: HranaServer,
    /// The read replica that the last replica reads from, in half of the simulations.
    pub(crate) read_replica: Option<ReadReplica>,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) replicas: Vec<RunningService>,
    pub(crate) channels: Vec<Channel>,
    pub(crate) credentials: Vec<Credential>,
    pub(crate) oracle: Oracle,
    pub(crate) ledger: UsageLedger,
    pub(crate) limits: LimitTraffic,
    /// The newest entry of the change log.
    pub(crate) change_log_end: i64,
    /// The current fault.
    pub(crate) trouble: Option<Trouble>,
    /// After a fault, calls behind a breaker may fail until these times: reads and writes.
    pub(crate) recovering_until: (Duration, Duration),
    pub(crate) is_refusing: bool,
    /// Recent backups, each with its position in the order of events and the end of its change log.
    pub(crate) backups: Vec<(EventOrder, Backup, i64)>,
    /// The state before the current disaster.
    pub(crate) before_disaster: Option<BeforeDisaster>,
    /// Counts of each verdict by source, and of other events.
    pub(crate) answers: HashMap<String, u64>,
    pub(crate) flaw: SeededFlaw,
    pub(crate) folder: TempDir,
}

impl SimulatedCluster {
    pub(crate) async fn start(flaw: SeededFlaw, region: Region) -> Self {
        let with_read_replica = region != Region::AtPrimary;
        let server = HranaServer::builder().token("secret").start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "secret").unwrap();
        let clock = ManualClock::at(UnixMillis(1_790_000_000_000));
        server.set_clock({
            let clock = Arc::clone(&clock);
            move || clock.now().0
        });
        let mut cluster = Self {
            oracle: Oracle::new(REPLICAS, with_read_replica.then_some(REPLICAS - 1)),
            server,
            read_replica: None,
            clock,
            replicas: Vec::new(),
            channels: Vec::new(),
            credentials: (0..6).map(|number| Credential::new(&format!("a-key-of-before-{number}"))).collect(),
            ledger: UsageLedger::default(),
            limits: LimitTraffic::default(),
            change_log_end: 0,
            trouble: None,
            recovering_until: Default::default(),
            is_refusing: false,
            backups: Vec::new(),
            before_disaster: None,
            answers: HashMap::new(),
            flaw,
            folder,
        };
        for replica in 0..REPLICAS {
            if with_read_replica && replica == REPLICAS - 1 {
                cluster.read_replica =
                    Some(ReadReplica::follow(&cluster.server, &cluster.clock, region).await);
                cluster.catch_up_read_replica().await;
            }
            let mut running = cluster.start_replica(replica).await;
            running.wait_until_ready().await.unwrap();
            cluster.channels.push(channel(&running));
            cluster.replicas.push(running);
        }
        cluster.add_tenants();
        if flaw == SeededFlaw::GrantsWithoutCounting {
            let forget = "CREATE TRIGGER forget AFTER UPDATE OF counted ON limit_counters BEGIN \
                          UPDATE limit_counters SET counted = 0 WHERE rowid = NEW.rowid; END";
            cluster.server.execute(forget).unwrap();
        }
        let order = cluster.oracle.next_order();
        cluster.record_database(order);
        cluster
    }

    async fn start_replica(&self, replica: usize) -> RunningService {
        let heartbeat = if self.read_replica.is_some() { "1s" } else { "off" };
        let read_from = self.server_of(replica);
        let (primary, read_url) = match self.has_read_url(replica) {
            true => (&self.server, Some(read_from.url())),
            false => (read_from, None),
        };
        start_replica((primary, read_url), self.folder.path(), &self.clock, heartbeat, self.flaw).await
    }

    pub(crate) fn add_tenants(&self) {
        for tenant in TENANTS {
            let row = format!(
                "INSERT INTO tenants (id, name, created_at, updated_at) VALUES ('{tenant}', '{tenant}', 0, 0)"
            );
            self.server.execute(&row).unwrap();
        }
    }

    pub(crate) fn now(&self) -> SimulatedTime {
        SimulatedTime { monotonic: self.clock.monotonic(), wall: self.clock.now().0 }
    }

    /// Passes the contents of the database to the oracle.
    pub(crate) fn record_database(&mut self, order: EventOrder) {
        let read = |sql: &str| self.server.query(sql).unwrap();
        let keys = read(
            "SELECT hex(key_hash), id, tenant_id, scopes, expires_at, revoked_at, disabled_at, allowed_networks FROM api_keys",
        );
        let keys = keys.iter().map(|row| {
            let key = KeyRow {
                id: text(&row[1]).unwrap(),
                tenant: text(&row[2]).unwrap(),
                may_read: text(&row[3]).unwrap().contains(SCOPE),
                expires_at: number(&row[4]),
                revoked: number(&row[5]).is_some(),
                disabled: number(&row[6]).is_some(),
                admits_caller: ["[]", CALLERS_NETWORK].contains(&&*text(&row[7]).unwrap()),
            };
            (text(&row[0]).unwrap(), key)
        });
        let tenants = read("SELECT id, status FROM tenants");
        let is_suspended = |row: &Json| (text(&row[0]).unwrap(), text(&row[1]).unwrap() == "suspended");
        let tenants = tenants.iter().map(is_suspended).collect();
        self.change_log_end = number(&read("SELECT coalesce(max(seq), 0) FROM changes")[0][0]).unwrap();
        self.oracle.record_database(order, self.now(), keys.collect(), &tenants);
        let limits = self.stored_limits();
        let at = self.now().monotonic;
        self.limits.ledger.record_limits(order, at, &limits);
        self.mark_read_replica_behind();
    }

    /// Waits until no replica has a load in flight: in simulated time it would last for minutes.
    pub(crate) async fn until_loads_finish(&self) {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        while self.replicas.iter().any(|replica| replica.key_cache().size().loads > 0) {
            assert!(Instant::now() < deadline, "every load must end");
            tokio::task::yield_now().await;
        }
    }

    /// Makes a replica poll its feed. The error describes a wrong result.
    pub(crate) async fn poll_feed(&mut self, replica: usize) -> Result<Result<(), StoreError>, String> {
        self.wait_for_primary_poll(replica);
        self.catch_up_read_replica_if_following(replica).await;
        let order = self.oracle.next_order();
        if self.flaw == SeededFlaw::IgnoresFeed && replica == 0 {
            self.oracle.record_feed_poll(replica, order, self.now(), self.change_log_end == 0);
            return Ok(Ok(()));
        }
        let polled = self.replicas[replica].feed().poll().await;
        if polled.is_ok() {
            self.record_primary_poll(replica);
            self.oracle.record_feed_poll(replica, order, self.now(), self.change_log_end == 0);
        }
        let judged = self.judge_reading(replica, polled.as_ref().err().map(|error| error.kind));
        judged.map_err(|why| format!("replica {replica} polls its feed ({polled:?}): {why}"))?;
        Ok(polled)
    }

    /// Validates keys on a replica and returns its answers. The error describes an answer that is not
    /// allowed.
    pub(crate) async fn validate_keys(
        &mut self,
        replica: usize,
        keys: &[Credential],
        reads: bool,
    ) -> Result<Vec<Option<Verdict>>, String> {
        self.catch_up_read_replica_if_behind(replica).await;
        let mut verdicts = Vec::with_capacity(keys.len());
        let queries: Vec<_> = keys.iter().map(|key| key.key_query(reads)).collect();
        let (validator, deadline) = (self.replicas[replica].validator(), Instant::now() + WAIT_TIMEOUT);
        let decisions = match &queries[..] {
            [key_query] => vec![validator.decide(key_query, deadline).await],
            queries => validator.decide_all(queries, deadline).await,
        };
        for (key, decision) in keys.iter().zip(decisions) {
            let answer = observed_answer(decision);
            self.count_answer(&answer);
            let judged = self.oracle.check_answer(replica, &key.digest, reads, self.now(), answer);
            judged.map_err(|why| {
                let truth = self.oracle.expected_verdicts(replica, &key.digest, reads, self.now());
                format!(
                    "replica {replica} validates {} (currently {truth:?}): {answer:?}: {why}",
                    key.plaintext
                )
            })?;
            verdicts.push(answer.ok().map(|observed| observed.verdict));
        }
        Ok(verdicts)
    }

    /// Makes a replica load a key, and cancels the request when the load has reached the database.
    pub(crate) async fn begin_load(&mut self, replica: usize, key: &Credential) {
        let key_query = key.key_query(false);
        let soon = Instant::now() + Duration::from_millis(1);
        // The answer is a timeout, or comes from the cache.
        let _ = self.replicas[replica].validator().decide(&key_query, soon).await;
        let reached = self.server_of(replica).wait_for(|counters| counters.open_requests > 0);
        // The load may be over already if the machine was busy.
        let _ = tokio::time::timeout(Duration::from_millis(100), reached).await;
    }

    fn count_answer(&mut self, answer: &Result<ObservedAnswer, FailureKind>) {
        match answer {
            Ok(observed) => {
                self.count(&format!("{} {}", observed.verdict.as_str(), observed.source.as_str()))
            }
            Err(_) => self.count("unavailable"),
        }
    }

    /// Counts an event: the simulation does not cover what never occurs.
    pub(crate) fn count(&mut self, what: &str) {
        *self.answers.entry(what.to_owned()).or_default() += 1;
    }

    /// Checks that every answer is correct once the database works and all changes were polled.
    pub(crate) async fn check_all_answers(&mut self) -> Result<(), String> {
        for replica in 0..REPLICAS {
            self.poll_feed_with_retries(replica).await?;
            self.look_up_a_key(replica).await?;
            for reads in [false, true] {
                let keys = self.credentials.clone();
                let verdicts = self.validate_keys(replica, &keys, reads).await?;
                for (key, verdicts) in keys.iter().zip(verdicts) {
                    let truths = self.oracle.expected_verdicts(replica, &key.digest, reads, self.now());
                    // A negative entry may be a few seconds older than the key. Both answers are denials.
                    let came_and_went =
                        verdicts == Some(Verdict::Unknown) && truths.contains(&Verdict::Revoked);
                    if !verdicts.is_some_and(|verdicts| truths.contains(&verdicts)) && !came_and_went {
                        return Err(format!(
                            "there is no fault, but replica {replica} answers {verdicts:?} for {}, expected {truths:?}",
                            key.plaintext
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Makes a replica poll its feed, and retries because a busy machine may exceed the timeout of a poll.
    pub(crate) async fn poll_feed_with_retries(&mut self, replica: usize) -> Result<(), String> {
        let deadline = Instant::now() + WAIT_TIMEOUT;
        loop {
            match self.poll_feed(replica).await? {
                Ok(()) => return Ok(()),
                Err(error) if error.kind == FailureKind::TimedOut && Instant::now() < deadline => {}
                Err(error) => {
                    return Err(format!(
                        "there is no fault, but replica {replica} cannot poll its feed: {error}"
                    ));
                }
            }
        }
    }

    /// A replica whose feed is live again looks a key up at once.
    pub(crate) async fn look_up_a_key(&mut self, replica: usize) -> Result<(), String> {
        self.until_loads_finish().await;
        let order = self.oracle.next_order();
        let key = Credential::new(&format!("a-key-of-nobody-{order}"));
        match self.validate_keys(replica, &[key], false).await?[..] {
            [Some(Verdict::Unknown)] => Ok(()),
            _ => Err(format!("replica {replica} has a live feed, but looks no key up")),
        }
    }

    pub(crate) async fn restart(&mut self, replica: usize) {
        self.until_loads_finish().await;
        drop(self.restart_silently(replica).await);
        self.note_restart(replica).await;
    }

    /// Records that a replica was restarted, and waits until it is ready.
    pub(crate) async fn note_restart(&mut self, replica: usize) {
        self.oracle.restart_replica(replica);
        self.limits.known_failures[replica] = 0;
        if self.oracle.reads_work() {
            self.replicas[replica].wait_until_ready().await.unwrap();
            self.replicas[replica].wait_until_preloaded().await;
        }
    }

    /// Starts another replica in place of one, and returns the former one.
    pub(crate) async fn restart_silently(&mut self, replica: usize) -> RunningService {
        self.catch_up_read_replica_if_following(replica).await;
        let running = self.start_replica(replica).await;
        self.channels[replica] = channel(&running);
        std::mem::replace(&mut self.replicas[replica], running)
    }
}

pub(crate) fn text(value: &Json) -> Option<String> {
    value.get("value").and_then(Json::as_str).map(str::to_owned)
}

pub(crate) fn number(value: &Json) -> Option<i64> {
    text(value).map(|text| text.parse().unwrap())
}

fn channel(running: &RunningService) -> Channel {
    Channel::from_shared(format!("http://{}", running.address())).unwrap().connect_lazy()
}

fn observed_answer(decision: Result<Decision, StoreError>) -> Result<ObservedAnswer, FailureKind> {
    let Decision { verdict, provenance, .. } = decision.map_err(|error| error.kind)?;
    Ok(ObservedAnswer { verdict, source: provenance.source, answer_age: provenance.age })
}
