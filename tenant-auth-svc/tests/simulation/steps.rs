//! Draws what happens next, and makes it happen.

use std::time::Duration;

use tenant_auth_svc::domain::clock::UnixMillis;
use tenant_auth_testkit::Fault;

use super::{
    changes::{CHANGES, Change},
    random::Random,
    replica::{Credential, Flaw},
    world::{REPLICAS, World},
};

/// What happened before something went wrong: this many steps are shown.
const SHOWN: usize = 60;
/// After an outage its failures are counted for this long: one more could open a breaker while all is well.
const COUNTED: Duration = Duration::from_secs(5);

/// How many keys there are from the beginning.
const BEFORE: usize = 8;
/// How much time passes at once.
const PAUSES: [u64; 12] = [10, 10, 100, 100, 250, 250, 1_000, 3_000, 5_000, 7_000, 61_000, 600_000];
const LONG: Duration = Duration::from_secs(600);

/// A simulation under way.
struct Simulation {
    world: World,
    random: Random,
    repaired_at: Option<Duration>,
}

/// Simulates; gives how often each kind of answer was given. The message of a failure says what went wrong, and how
/// it came to that.
pub(crate) async fn simulate(seed: u64, steps: usize, flaw: Flaw) -> Result<Vec<(String, u64)>, String> {
    let mut simulation =
        Simulation { world: World::start(flaw).await, random: Random::new(seed), repaired_at: None };
    let mut trail = Vec::new();
    for _ in 0..BEFORE {
        let made = simulation.world.change(0, Change::Issue, &mut simulation.random).await;
        trail.push(format!("before:        {}", made?));
    }
    for step in 0..=steps {
        let happened = if step < steps { simulation.step().await } else { simulation.end().await };
        match happened {
            Ok(what) => trail.push(format!("{step:>4} {:>9.3?} {what}", simulation.world.now().monotonic)),
            Err(why) => {
                let from = trail.len().saturating_sub(SHOWN);
                let trail = trail[from..].join("\n");
                return Err(format!("seed {seed}, step {step}: {why}\nwhat happened before:\n{trail}"));
            }
        }
    }
    Ok(simulation.world.answers.into_iter().collect())
}

impl Simulation {
    async fn step(&mut self) -> Result<String, String> {
        let replica = self.random.below(REPLICAS);
        match self.random.below(100) {
            0..30 => self.ask_one(replica).await,
            30..42 => self.ask_several(replica).await,
            42..54 => Ok(self.poll(replica).await),
            54..57 => {
                let mut heard = Vec::new();
                for replica in 0..REPLICAS {
                    heard.push(self.poll(replica).await);
                }
                Ok(heard.join("; "))
            }
            57..69 => {
                // Outages last: some for longer than the grace.
                let long = self.world.oracle.is_outage() && self.random.percent(30);
                let time = if long { LONG } else { Duration::from_millis(*self.random.pick(&PAUSES)) };
                self.world.pass(time).await;
                Ok(format!("{time:?} pass"))
            }
            69..81 => {
                let change = *self.random.pick(&CHANGES);
                self.world.change(replica, change, &mut self.random).await
            }
            81..87 => Ok(self.world.change_by_another_hand(&mut self.random)),
            87..89 => self.lose_an_answer(replica).await,
            89..93 => self.begin_or_end_an_outage().await,
            93..94 => {
                self.world.restart(replica).await;
                Ok(format!("replica {replica} is restarted"))
            }
            94..95 => Ok(self.world.prune(&mut self.random)),
            95..96 => Ok(self.world.restore(&mut self.random)),
            96..98 => self.change_during_a_load(replica).await,
            98..99 => {
                let written = self.world.replicas[replica].write_uses().await.is_ok();
                Ok(format!("replica {replica} writes down which keys are in use: {written}"))
            }
            _ => {
                let minutes = i64::try_from(self.random.below(360)).unwrap() - 180;
                self.world.clock.jump_to(UnixMillis(self.world.now().wall + minutes * 60_000));
                Ok(format!("the wall clock jumps by {minutes} minutes"))
            }
        }
    }

    /// Whatever happened: once it is over, all is well.
    async fn end(&mut self) -> Result<String, String> {
        if self.world.oracle.is_outage() {
            return self.end_the_outage().await;
        }
        self.world.everything_is_right().await.map(|()| "all is well".to_owned())
    }

    async fn ask_one(&mut self, replica: usize) -> Result<String, String> {
        let (key, reads) = (self.any_key(), self.random.percent(50));
        self.world.ask(replica, std::slice::from_ref(&key), reads).await?;
        Ok(format!("replica {replica} is asked about {}", key.plaintext))
    }

    async fn ask_several(&mut self, replica: usize) -> Result<String, String> {
        let several = 2 + self.random.below(14);
        let (keys, reads): (Vec<_>, _) =
            ((0..several).map(|_| self.any_key()).collect(), self.random.percent(50));
        self.world.ask(replica, &keys, reads).await?;
        Ok(format!("replica {replica} is asked about {} keys", keys.len()))
    }

    /// Any key that somebody may present: issued, imported, or made up.
    fn any_key(&mut self) -> Credential {
        if self.random.percent(5) {
            return Credential::new(&format!("a-made-up-key-{}", self.random.below(1_000)));
        }
        self.random.pick(&self.world.credentials).clone()
    }

    async fn poll(&mut self, replica: usize) -> String {
        match self.world.poll(replica).await {
            Ok(()) => format!("replica {replica} reads its feed"),
            Err(error) => format!("replica {replica} cannot read its feed: {}", error.kind.as_str()),
        }
    }

    /// A change is committed, and its answer gets lost: once, so that the repetition finds it done, or twice.
    async fn lose_an_answer(&mut self, replica: usize) -> Result<String, String> {
        let now = self.world.now().monotonic;
        if self.world.oracle.is_outage() || self.repaired_at.is_some_and(|at| now <= at + COUNTED) {
            return Ok("nothing".to_owned());
        }
        self.world.settle().await;
        let answers = 1 + self.random.below(2);
        self.world.server.faults().set_for(answers as u64, Fault::ResetAfterCommit);
        let change = *self.random.pick(&CHANGES);
        let changed = self.world.change(replica, change, &mut self.random).await;
        self.world.server.faults().clear();
        changed.map(|what| format!("{what}; {answers} of its answers lost"))
    }

    async fn begin_or_end_an_outage(&mut self) -> Result<String, String> {
        if self.world.oracle.is_outage() {
            return self.end_the_outage().await;
        }
        let faults = [
            ("connections are refused", None),
            ("503", Some(Fault::service_unavailable())),
            ("429", Some(Fault::too_many_requests(1))),
            ("wrong token", Some(Fault::unauthorized())),
            ("blocked", Some(Fault::blocked())),
            ("locked", Some(Fault::locked())),
            ("connections are reset", Some(Fault::ResetBeforeExecute)),
            ("answers are cut off", Some(Fault::ResetMidBody)),
            ("answers are lost", Some(Fault::ResetAfterCommit)),
            ("answers are truncated", Some(Fault::TruncatedJson)),
            ("rows are missing", Some(Fault::MissingRows)),
            ("web page", Some(Fault::html_ok())),
        ];
        let (name, fault) = self.random.pick(&faults).clone();
        self.world.break_down(fault).await;
        Ok(format!("an outage begins: {name}"))
    }

    /// Within a second, in which the feeds are read as in life, all is well.
    async fn end_the_outage(&mut self) -> Result<String, String> {
        self.world.repair().await;
        self.repaired_at = Some(self.world.now().monotonic);
        for _ in 0..4 {
            self.world.pass(Duration::from_millis(250)).await;
            for replica in 0..REPLICAS {
                self.poll(replica).await;
                self.ask_one(replica).await?;
            }
        }
        self.world.everything_is_right().await?;
        Ok("the outage ends, and all is well again".to_owned())
    }

    /// A load has read, its answer is still under way, and meanwhile something changes and is heard of.
    async fn change_during_a_load(&mut self, replica: usize) -> Result<String, String> {
        if self.world.oracle.is_outage() {
            return Ok("nothing".to_owned());
        }
        // Whatever is in memory has to be loaded again.
        self.world.pass(Duration::from_secs(61)).await;
        let key = self.any_key();
        self.world.server.faults().set_where("AS digests", 1, Fault::HangAfterExecute);
        self.world.begin_to_ask(replica, &key).await;
        let other = self.random.below(REPLICAS);
        let changed = match self.random.below(3) {
            0 => Ok(self.world.change_by_another_hand(&mut self.random)),
            1 => self.world.change(other, Change::Revoke, &mut self.random).await,
            _ => self.world.change(other, Change::SuspendOrResume, &mut self.random).await,
        };
        let heard =
            if self.random.percent(70) { self.poll(replica).await } else { "nobody hears".to_owned() };
        let faults = self.world.server.faults().clone();
        let release = async {
            // More than once: a load may begin to hang only now.
            loop {
                faults.clear();
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            asked = self.world.ask(replica, std::slice::from_ref(&key), false) => {
                asked?;
            }
            () = release => {}
        }
        Ok(format!("while replica {replica} loads {}: {}; {heard}", key.plaintext, changed?))
    }
}
