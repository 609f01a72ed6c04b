//! Draws and executes the steps of a simulation.

use std::time::Duration;

use tenant_auth_svc::domain::{clock::UnixMillis, verdict::Verdict};
use tenant_auth_testkit::{Fault, Random};

use super::{
    changes::{CHANGE_WEIGHTS, ReplicaChange},
    cluster::{REPLICAS, SimulatedCluster},
    read_replicas::Region,
    replica::{Credential, SeededFlaw},
    troubles::Trouble,
};

/// Number of steps to show before a failure.
const SHOWN_STEPS: usize = 60;
/// Number of keys at the start.
const INITIAL_KEYS: usize = 8;
/// Possible advances of the clock per step, in milliseconds.
const PAUSES_MS: [u64; 12] = [10, 10, 100, 100, 250, 250, 1_000, 3_000, 5_000, 7_000, 61_000, 600_000];
const LONG_PAUSE: Duration = Duration::from_secs(600);

/// A running simulation.
struct Simulation {
    cluster: SimulatedCluster,
    random: Random,
}

/// Runs a simulation and returns the count of each kind of answer. The error describes the failure and the
/// steps that led to it.
pub(crate) async fn simulate(
    seed: u64,
    steps: usize,
    flaw: SeededFlaw,
) -> Result<Vec<(String, u64)>, String> {
    let cluster = SimulatedCluster::start(flaw, Region::of_seed(seed)).await;
    let mut simulation = Simulation { cluster, random: Random::new(seed) };
    let mut trail = Vec::new();
    for _ in 0..INITIAL_KEYS {
        let made = simulation.cluster.change(0, ReplicaChange::Issue, &mut simulation.random).await;
        trail.push(format!("before:        {}", made?));
    }
    trail.push(format!(
        "before:        {}",
        simulation.cluster.set_first_limits(&mut simulation.random).await?
    ));
    for step in 0..=steps {
        let happened = if step < steps { simulation.step().await } else { simulation.finish().await };
        match happened {
            Ok(what) => trail.push(format!("{step:>4} {:>9.3?} {what}", simulation.cluster.now().monotonic)),
            Err(why) => {
                let from = trail.len().saturating_sub(SHOWN_STEPS);
                let trail = trail[from..].join("\n");
                return Err(format!("seed {seed}, step {step}: {why}\nprevious steps:\n{trail}"));
            }
        }
    }
    Ok(simulation.cluster.answers.into_iter().collect())
}

impl Simulation {
    async fn step(&mut self) -> Result<String, String> {
        self.cluster.note_failed_exchanges();
        if self.cluster.trouble.is_none() {
            self.cluster.restart_if_wedged().await;
        }
        let replica = self.random.below(REPLICAS);
        match self.random.below(133) {
            0..26 => self.validate_one(replica).await,
            26..36 => self.validate_several(replica).await,
            36..46 => self.poll(replica).await,
            46..49 => {
                let mut polled = Vec::new();
                for replica in 0..REPLICAS {
                    polled.push(self.poll(replica).await?);
                }
                Ok(polled.join("; "))
            }
            49..60 => {
                // Faults last, some of them longer than the grace.
                let long = self.cluster.trouble.is_some() && self.random.is_chance(30);
                let time =
                    if long { LONG_PAUSE } else { Duration::from_millis(*self.random.pick(&PAUSES_MS)) };
                self.cluster.advance_time(time).await?;
                Ok(format!("{time:?} pass"))
            }
            60..70 => {
                let change = *self.random.pick(&CHANGE_WEIGHTS);
                self.cluster.change(replica, change, &mut self.random).await
            }
            70..75 => Ok(self.cluster.change_with_sql(&mut self.random)),
            75..80 => self.cluster.record_usage(replica, &mut self.random).await,
            80..82 => self.cluster.list_something(replica, &mut self.random).await,
            82..84 => self.lose_commit_response(replica).await,
            84..89 => self.begin_or_end_trouble().await,
            89..90 => {
                if self.cluster.trouble.is_some_and(Trouble::makes_restart_inconclusive) {
                    return Ok("nothing".to_owned());
                }
                self.cluster.restart(replica).await;
                Ok(format!("replica {replica} is restarted"))
            }
            90..91 => Ok(self.cluster.prune_log(&mut self.random).await),
            91..93 => self.change_during_load(replica).await,
            93..94 => {
                let written = self.cluster.replicas[replica].flush_pending_writes().await.is_ok();
                Ok(format!("replica {replica} writes last-used times: {written}"))
            }
            94..96 => Ok(self.cluster.toggle_read_replica_lag().await),
            96..98 => match self.cluster.trouble {
                Some(Trouble::Disaster(_)) => Ok("nothing".to_owned()),
                _ => Ok(self.cluster.take_backup()),
            },
            98 => self.revoke_with_sql_and_check().await,
            100..116 => self.take_from_limits(replica).await,
            116..123 => {
                let key = self.any_key();
                self.cluster.reserve_or_end(replica, &key, &mut self.random).await
            }
            123..128 => self.cluster.change_limits(replica, &mut self.random).await,
            128..129 => Ok(self.cluster.replace_gracefully(replica).await),
            129 => self.change_limit_and_check().await,
            130..133 => {
                let key = self.usable_key();
                self.cluster.exhaust_a_limit(&key, &mut self.random).await
            }
            _ => {
                let minutes = i64::try_from(self.random.below(360)).unwrap() - 180;
                self.cluster.note_wall_clock();
                self.cluster.clock.jump_to(UnixMillis(self.cluster.now().wall + minutes * 60_000));
                self.cluster.note_wall_clock();
                self.cluster.limits.ledger.break_flow();
                Ok(format!("the wall clock jumps by {minutes} minutes"))
            }
        }
    }

    /// Ends the current fault and checks that everything works again.
    async fn finish(&mut self) -> Result<String, String> {
        if self.cluster.trouble.is_some() {
            self.end_trouble().await?;
        }
        self.cluster.catch_up_read_replica().await;
        self.cluster.check_all_answers().await?;
        // Every write that may still be waiting has ended by then.
        self.cluster.advance_time(Duration::from_secs(11)).await?;
        self.cluster.finish_usage().await?;
        let key = self.any_key();
        self.cluster.check_limits_decide(&key).await?;
        self.cluster.check_all_counted().await?;
        Ok("there is no fault, and all usage is counted".to_owned())
    }

    /// Takes from limits, mostly with a key that may.
    async fn take_from_limits(&mut self, replica: usize) -> Result<String, String> {
        let key = self.usable_key();
        self.cluster.take_from_limits(replica, &key, &mut self.random).await
    }

    /// Changes a limit. One second later, every replica whose reads work decides by it.
    async fn change_limit_and_check(&mut self) -> Result<String, String> {
        if !self.cluster.limits_work() {
            return Ok("nothing".to_owned());
        }
        let replica = self.random.below(REPLICAS);
        let mut happened = vec![self.cluster.change_limits(replica, &mut self.random).await?];
        for _ in 0..4 {
            self.cluster.advance_time(Duration::from_millis(250)).await?;
            for replica in 0..REPLICAS {
                self.poll(replica).await?;
            }
        }
        for replica in 0..REPLICAS {
            happened.push(self.take_from_limits(replica).await?);
        }
        Ok(happened.join("; "))
    }

    async fn validate_one(&mut self, replica: usize) -> Result<String, String> {
        let (key, reads) = (self.any_key(), self.random.is_chance(50));
        self.cluster.validate_keys(replica, std::slice::from_ref(&key), reads).await?;
        Ok(format!("replica {replica} validates {}", key.plaintext))
    }

    async fn validate_several(&mut self, replica: usize) -> Result<String, String> {
        let several = 2 + self.random.below(14);
        let (keys, reads): (Vec<_>, _) =
            ((0..several).map(|_| self.any_key()).collect(), self.random.is_chance(50));
        self.cluster.validate_keys(replica, &keys, reads).await?;
        Ok(format!("replica {replica} validates {} keys", keys.len()))
    }

    /// Returns any key that a caller may present: issued, imported or made up.
    fn any_key(&mut self) -> Credential {
        if self.random.is_chance(5) {
            return Credential::new(&format!("a-made-up-key-{}", self.random.below(1_000)));
        }
        self.random.pick(&self.cluster.credentials).clone()
    }

    /// Returns a key that is valid now, if a few attempts find one.
    fn usable_key(&mut self) -> Credential {
        let drawn: [Credential; 8] = std::array::from_fn(|_| self.any_key());
        self.cluster.first_usable(&drawn)
    }

    async fn poll(&mut self, replica: usize) -> Result<String, String> {
        Ok(match self.cluster.poll_feed(replica).await? {
            Ok(()) => format!("replica {replica} polls its feed"),
            Err(error) => format!("replica {replica} cannot poll its feed: {}", error.kind.as_str()),
        })
    }

    /// Commits a write and loses its response: once, so that the retry finds it done, or twice.
    async fn lose_commit_response(&mut self, replica: usize) -> Result<String, String> {
        // Failures are counted for a while: one more could open a breaker after the fault has ended.
        if self.cluster.trouble.is_some() || !self.cluster.writes_work() {
            return Ok("nothing".to_owned());
        }
        // A breaker that is still open from before would reject the retry.
        self.cluster.record_usage(replica, &mut self.random).await?;
        self.cluster.until_loads_finish().await;
        let answers = 1 + self.random.below(2);
        self.cluster.catch_up_read_replica_if_following(replica).await;
        let faults = self.cluster.server_of(replica).faults().clone();
        faults.set_for(answers as u64, Fault::ResetAfterCommit);
        let change = *self.random.pick(&CHANGE_WEIGHTS);
        let changed = self.cluster.change(replica, change, &mut self.random).await;
        faults.clear();
        changed.map(|what| format!("{what}; {answers} responses lost"))
    }

    async fn begin_or_end_trouble(&mut self) -> Result<String, String> {
        if self.cluster.trouble.is_some() {
            return self.end_trouble().await;
        }
        // What is leased now is spent during the fault.
        let key = self.usable_key();
        let leased = self.cluster.take_from_each_limit(&key).await?;
        let begun = self.cluster.begin_trouble(&mut self.random).await?;
        let during = self.exercise_replicas(&[0, 1, 2]).await?;
        let spent = self.cluster.take_from_each_limit(&key).await?;
        Ok(format!("{leased}; {begun}; {during}; {spent}"))
    }

    /// Within one second of regular feed polls, everything works.
    async fn end_trouble(&mut self) -> Result<String, String> {
        let replica = self.random.below(REPLICAS);
        let during = self.exercise_replicas(&[replica]).await?;
        for replica in 0..REPLICAS {
            // In production all replicas would have retried meanwhile: a replica whose feed is live again
            // looks a key up at once.
            self.poll(replica).await?;
        }
        let ended = self.cluster.repair(&mut self.random).await?;
        for _ in 0..4 {
            self.cluster.advance_time(Duration::from_millis(250)).await?;
            for replica in 0..REPLICAS {
                if self.cluster.poll_feed(replica).await?.is_ok() {
                    self.cluster.look_up_a_key(replica).await?;
                }
                self.validate_one(replica).await?;
            }
        }
        self.cluster.check_all_answers().await.map_err(|why| format!("{during}; {ended}; {why}"))?;
        Ok(format!("{during}; {ended}, and everything works again"))
    }

    /// Sends each kind of request through some replicas.
    async fn exercise_replicas(&mut self, replicas: &[usize]) -> Result<String, String> {
        let mut happened = Vec::new();
        for &replica in replicas {
            let change = *self.random.pick(&CHANGE_WEIGHTS);
            happened.push(self.cluster.change(replica, change, &mut self.random).await?);
            happened.push(self.cluster.record_usage(replica, &mut self.random).await?);
            happened.push(self.cluster.list_something(replica, &mut self.random).await?);
            happened.push(self.validate_several(replica).await?);
            happened.push(self.take_from_limits(replica).await?);
        }
        happened.push(self.revoke_with_sql_and_check().await?);
        Ok(happened.join("; "))
    }

    /// Revokes with SQL a key that every replica knows. Wherever reads work, no replica accepts it after one
    /// second.
    async fn revoke_with_sql_and_check(&mut self) -> Result<String, String> {
        if !self.cluster.oracle.reads_work() || self.cluster.trouble == Some(Trouble::ReadReplicaStalled) {
            return Ok("the feed reports nothing".to_owned());
        }
        let key = self.any_key();
        for replica in 0..REPLICAS {
            self.cluster.validate_keys(replica, std::slice::from_ref(&key), false).await?;
        }
        let what = self.cluster.revoke_with_sql(&key);
        self.cluster.catch_up_read_replica().await;
        for _ in 0..4 {
            self.cluster.advance_time(Duration::from_millis(250)).await?;
            for replica in 0..REPLICAS {
                self.poll(replica).await?;
            }
        }
        for replica in 0..REPLICAS {
            let verdicts = self.cluster.validate_keys(replica, std::slice::from_ref(&key), false).await?;
            // A key that was created and revoked between two polls may stay unknown for a few seconds. Both
            // answers are denials.
            let is_denied = matches!(verdicts[..], [Some(Verdict::Revoked | Verdict::Unknown)]);
            if !is_denied && what.is_some() {
                return Err(format!("replica {replica} answers {verdicts:?} one second after {what:?}"));
            }
        }
        Ok(format!("one second after {what:?}, no replica accepts the key"))
    }

    /// A load has read its row and its response is still in flight, while something changes and is polled.
    async fn change_during_load(&mut self, replica: usize) -> Result<String, String> {
        if self.cluster.trouble.is_some() {
            return Ok("nothing".to_owned());
        }
        // Every cached entry is due to be loaded again.
        self.cluster.advance_time(Duration::from_secs(61)).await?;
        let key = self.any_key();
        self.cluster.catch_up_read_replica_if_following(replica).await;
        self.cluster.server_of(replica).faults().set_where("AS digests", 1, Fault::HangAfterExecute);
        self.cluster.begin_load(replica, &key).await;
        let other = self.random.below(REPLICAS);
        let changed = match self.random.below(3) {
            0 => Ok(self.cluster.change_with_sql(&mut self.random)),
            1 => self.cluster.change(other, ReplicaChange::Revoke, &mut self.random).await,
            _ => self.cluster.change(other, ReplicaChange::SuspendOrResume, &mut self.random).await,
        };
        let polled =
            if self.random.is_chance(70) { self.poll(replica).await? } else { "no replica polls".to_owned() };
        let faults = self.cluster.server_of(replica).faults().clone();
        let release = async {
            // Repeats this, because another load may only now begin to hang.
            loop {
                faults.clear();
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            asked = self.cluster.validate_keys(replica, std::slice::from_ref(&key), false) => {
                asked?;
            }
            () = release => {}
        }
        Ok(format!("while replica {replica} loads {}: {}; {polled}", key.plaintext, changed?))
    }
}
