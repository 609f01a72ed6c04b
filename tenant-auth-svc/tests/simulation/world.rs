//! The replicas, their database, their clock, and the things that can happen to them.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde_json::Value as Json;
use tempfile::TempDir;
use tenant_auth_svc::{
    app::Running,
    domain::{
        clock::{Clock as _, ManualClock, UnixMillis},
        store::{FailureKind, StoreError},
        verdict::{Decision, Verdict},
    },
};
use tenant_auth_testkit::{Fault, HranaServer};

use super::{
    history::{Key, Order},
    oracle::{Now, Oracle, Told},
    replica::{Credential, Flaw, SCOPE, run},
};

pub(crate) const REPLICAS: usize = 3;
pub(crate) const TENANTS: [&str; 3] = ["acme", "globex", "initech"];
/// How long anything real may take: no wait for it is part of a test.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct World {
    pub(crate) server: HranaServer,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) replicas: Vec<Running>,
    pub(crate) credentials: Vec<Credential>,
    pub(crate) oracle: Oracle,
    /// The newest entry of the change log.
    pub(crate) log_end: i64,
    /// The newest entry that each replica has heard of; none before its first reading.
    pub(crate) positions: [Option<i64>; REPLICAS],
    /// How often each verdict was given from each source.
    pub(crate) answers: HashMap<String, u64>,
    flaw: Flaw,
    is_refusing: bool,
    folder: TempDir,
}

impl World {
    pub(crate) async fn start(flaw: Flaw) -> Self {
        let server = HranaServer::builder().token("secret").start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("token"), "secret").unwrap();
        let clock = ManualClock::at(UnixMillis(1_790_000_000_000));
        server.set_clock({
            let clock = Arc::clone(&clock);
            move || clock.now().0
        });
        let mut replicas = Vec::new();
        for _ in 0..REPLICAS {
            replicas.push(run(&server, folder.path(), &clock, flaw).await);
            replicas.last_mut().unwrap().ready().await.unwrap();
        }
        for tenant in TENANTS {
            let row = format!(
                "INSERT INTO tenants (id, name, created_at, updated_at) VALUES ('{tenant}', '{tenant}', 0, 0)"
            );
            server.execute(&row).unwrap();
        }
        let mut world = Self {
            server,
            clock,
            replicas,
            credentials: (0..6).map(|number| Credential::new(&format!("a-key-of-before-{number}"))).collect(),
            oracle: Oracle::new(REPLICAS),
            log_end: 0,
            positions: [None; REPLICAS],
            answers: HashMap::new(),
            flaw,
            is_refusing: false,
            folder,
        };
        let order = world.oracle.next();
        world.look(order);
        world
    }

    pub(crate) fn now(&self) -> Now {
        Now { monotonic: self.clock.monotonic(), wall: self.clock.now().0 }
    }

    /// Tells the oracle what is in the database.
    pub(crate) fn look(&mut self, order: Order) {
        let text = |value: &Json| value.get("value").and_then(Json::as_str).map(str::to_owned);
        let number = |value: &Json| text(value).map(|text| text.parse::<i64>().unwrap());
        let read = |sql: &str| self.server.query(sql).unwrap();
        let keys = read("SELECT hex(key_hash), id, tenant_id, scopes, expires_at, revoked_at FROM api_keys");
        let keys = keys.iter().map(|row| {
            let key = Key {
                id: text(&row[1]).unwrap(),
                tenant: text(&row[2]).unwrap(),
                may_read: text(&row[3]).unwrap().contains(SCOPE),
                expires_at: number(&row[4]),
                revoked: number(&row[5]).is_some(),
            };
            (text(&row[0]).unwrap(), key)
        });
        let tenants = read("SELECT id, status FROM tenants");
        let is_suspended = |row: &Json| (text(&row[0]).unwrap(), text(&row[1]).unwrap() == "suspended");
        let tenants = tenants.iter().map(is_suspended).collect();
        self.log_end = number(&read("SELECT coalesce(max(seq), 0) FROM changes")[0][0]).unwrap();
        self.oracle.look(order, self.now(), keys.collect(), &tenants);
    }

    /// Waits until no replica has a load under way: in simulated time it would last for minutes.
    pub(crate) async fn settle(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.replicas.iter().any(|replica| replica.memory().size().loads > 0) {
            assert!(Instant::now() < deadline, "every load ends");
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn pass(&self, time: Duration) {
        self.settle().await;
        self.clock.advance(time);
    }

    /// Lets a replica read its feed.
    pub(crate) async fn poll(&mut self, replica: usize) -> Result<(), StoreError> {
        let order = self.oracle.next();
        if self.flaw != Flaw::Deaf || replica != 0 {
            self.replicas[replica].feed().poll().await?;
        }
        self.positions[replica] = Some(self.log_end);
        self.oracle.heard(replica, order, self.now(), self.log_end == 0);
        Ok(())
    }

    /// Asks a replica about some keys; gives what it said to each. The message says what is wrong with an answer.
    pub(crate) async fn ask(
        &mut self,
        replica: usize,
        keys: &[Credential],
        reads: bool,
    ) -> Result<Vec<Option<Verdict>>, String> {
        let mut said = Vec::with_capacity(keys.len());
        let questions: Vec<_> = keys.iter().map(|key| key.question(reads)).collect();
        let (validator, deadline) = (self.replicas[replica].validator(), Instant::now() + PATIENCE);
        let decisions = match &questions[..] {
            [question] => vec![validator.decide(question, deadline).await],
            questions => validator.decide_all(questions, deadline).await,
        };
        for (key, decision) in keys.iter().zip(decisions) {
            let answer = told(decision);
            self.count(&answer);
            let judged = self.oracle.judge(replica, &key.digest, reads, self.now(), answer);
            judged.map_err(|why| {
                let truth = self.oracle.truth(&key.digest, reads, self.now());
                format!("replica {replica} about {} (now {truth:?}): {answer:?}: {why}", key.plaintext)
            })?;
            said.push(answer.ok().map(|told| told.verdict));
        }
        Ok(said)
    }

    /// Makes a replica load a key, and leaves it when the load has reached the database.
    pub(crate) async fn begin_to_ask(&mut self, replica: usize, key: &Credential) {
        let question = key.question(false);
        let soon = Instant::now() + Duration::from_millis(1);
        // What it is told meanwhile is that its time is over, or what is in memory.
        let _ = self.replicas[replica].validator().decide(&question, soon).await;
        let reached = self.server.wait_for(|counters| counters.open_requests > 0);
        // It is over already when the machine was busy elsewhere.
        let _ = tokio::time::timeout(Duration::from_millis(100), reached).await;
    }

    fn count(&mut self, answer: &Result<Told, FailureKind>) {
        let name = match answer {
            Ok(told) => format!("{} {}", told.verdict.as_str(), told.source.as_str()),
            Err(_) => "unavailable".to_owned(),
        };
        *self.answers.entry(name).or_default() += 1;
    }

    /// Once all is well and heard of, everything is answered as it is.
    pub(crate) async fn everything_is_right(&mut self) -> Result<(), String> {
        for replica in 0..REPLICAS {
            self.hear(replica).await?;
            for reads in [false, true] {
                let keys = self.credentials.clone();
                let said = self.ask(replica, &keys, reads).await?;
                for (key, said) in keys.iter().zip(said) {
                    let truth = self.oracle.truth(&key.digest, reads, self.now());
                    // Its absence may be a few seconds older than the key: either is a denial.
                    let came_and_went = (said, truth) == (Some(Verdict::Unknown), Verdict::Revoked);
                    if said != Some(truth) && !came_and_went {
                        return Err(format!(
                            "all is well, but replica {replica} says {said:?} about {}, which is {truth:?}",
                            key.plaintext
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Lets a replica read its feed, which may take longer than a reading may on a busy machine.
    async fn hear(&mut self, replica: usize) -> Result<(), String> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.poll(replica).await {
                Ok(()) => return Ok(()),
                Err(error) if error.kind == FailureKind::TimedOut && Instant::now() < deadline => {}
                Err(error) => {
                    return Err(format!("all is well, but replica {replica} hears nothing: {error}"));
                }
            }
        }
    }

    pub(crate) async fn restart(&mut self, replica: usize) {
        self.settle().await;
        self.replicas[replica] = run(&self.server, self.folder.path(), &self.clock, self.flaw).await;
        self.positions[replica] = None;
        self.oracle.restarted(replica);
        if !self.oracle.is_outage() {
            self.replicas[replica].ready().await.unwrap();
            self.replicas[replica].read_ahead().await;
        }
    }

    /// Begins an outage: with a fault, or by refusing connections.
    pub(crate) async fn break_down(&mut self, fault: Option<Fault>) {
        self.settle().await;
        match fault {
            Some(fault) => self.server.faults().set(fault),
            None => {
                self.server.stop().await;
                self.is_refusing = true;
            }
        }
        self.oracle.outage_begins();
    }

    pub(crate) async fn repair(&mut self) {
        self.settle().await;
        self.server.faults().clear();
        if std::mem::take(&mut self.is_refusing) {
            self.server.start_again().unwrap();
        }
        self.oracle.outage_ends();
    }
}

fn told(decision: Result<Decision, StoreError>) -> Result<Told, FailureKind> {
    let Decision { verdict, provenance, .. } = decision.map_err(|error| error.kind)?;
    Ok(Told { verdict, source: provenance.source, age: provenance.age })
}
