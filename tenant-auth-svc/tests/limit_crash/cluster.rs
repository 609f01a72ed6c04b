//! Five replicas and their database as processes, which are killed, paused and restarted.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tenant_auth_testkit::Random;

use crate::{
    client_log::ClientLog,
    database::{CLOCK_VARIABLE, Database},
    process::{Process, WAIT_TIMEOUT, free_address, service_command},
    traffic::Traffic,
};

pub(crate) const REPLICAS: usize = 5;
/// A part that occurs in every exchange of leases.
const EXCHANGE: &str = "UPDATE limit_log SET seq";
/// A pause lasts at most this long: longer than a lease of a rate.
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// Longer than any lease of a rate or of a rolling window: after such an outage, replicas hold only quotas and credits.
const OUTAGE: Duration = Duration::from_secs(6);
/// By how much the clock of the database is ahead after its outage.
pub(crate) const JUMP: Duration = Duration::from_secs(3_600);
/// How many requests of each policy must stay undecided during the outage.
const UNDECIDED: usize = 40;

/// A replica that was killed; times are since the start of the test.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crash {
    pub(crate) replica: usize,
    pub(crate) started: Duration,
    pub(crate) killed: Duration,
}

struct Replica {
    process: Process,
    address: SocketAddr,
    started: Duration,
    /// Until then it is paused.
    paused_until: Option<Duration>,
}

pub(crate) struct Cluster {
    folder: TempDir,
    pub(crate) database: Database,
    replicas: Vec<Replica>,
    log: Arc<ClientLog>,
    pub(crate) crashes: Vec<Crash>,
    /// How often the database was killed.
    pub(crate) database_kills: usize,
    /// Kills that interrupted requests.
    pub(crate) mid_flight: usize,
    pub(crate) pauses: usize,
}

impl Cluster {
    pub(crate) fn start(log: &Arc<ClientLog>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::start(folder.path(), EXCHANGE);
        let mut cluster = Self {
            folder,
            database,
            replicas: Vec::new(),
            log: Arc::clone(log),
            crashes: Vec::new(),
            database_kills: 0,
            mid_flight: 0,
            pauses: 0,
        };
        for _ in 0..REPLICAS {
            cluster.add_replica();
        }
        cluster
    }

    /// Starts one more replica.
    pub(crate) fn add_replica(&mut self) {
        let address = free_address();
        let mut serve = service_command("serve", &self.database.url);
        serve
            .env("TENANT_AUTH_LISTEN", address.to_string())
            .env("TENANT_AUTH_DRAIN_DELAY", "0s")
            // Long, so that a busy machine does not make a healthy database look slow.
            .env("TENANT_AUTH_DATABASE_ATTEMPT_TIMEOUT", "3s")
            .env("TENANT_AUTH_DATABASE_TIMEOUT", "6s");
        let name = format!("replica-{}", address.port());
        let process = Process::start(serve, self.folder.path(), &name);
        self.replicas.push(Replica { process, address, started: self.log.now(), paused_until: None });
    }

    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.replicas.iter().map(|replica| format!("http://{}", replica.address)).collect()
    }

    /// Kills the database or a replica during traffic, and restarts it.
    pub(crate) async fn kill_one(&mut self, traffic: &mut Traffic, random: &mut Random) {
        if random.is_chance(25) {
            self.database.lose_commit_responses(1 + random.below(3)).await;
        }
        self.proceed(traffic, 1 + random.below(150)).await;
        let is_database = random.is_chance(15);
        if is_database && random.is_chance(50) {
            self.database.hold_next_commit().await;
            tokio::time::sleep(Duration::from_micros(random.below(30_000) as u64)).await;
        }
        self.mid_flight += usize::from(traffic.in_flight() > 0);
        if is_database {
            self.database.process.kill().await;
            self.database.process.restart();
            self.database_kills += 1;
            return;
        }
        let running: Vec<_> =
            (0..REPLICAS).filter(|&number| self.replicas[number].paused_until.is_none()).collect();
        if !running.is_empty() {
            self.kill_replica(*random.pick(&running)).await;
        }
        self.database.clear_faults().await;
    }

    async fn kill_replica(&mut self, number: usize) {
        let replica = &mut self.replicas[number];
        replica.process.kill().await;
        let (started, killed) = (replica.started, self.log.now());
        self.crashes.push(Crash { replica: number, started, killed });
        replica.process.restart();
        replica.started = killed;
    }

    /// Stops a replica for a while, without killing it.
    pub(crate) fn pause_one(&mut self, random: &mut Random) {
        let number = random.below(REPLICAS);
        let length = LONGEST_PAUSE.mul_f64(random.below(1_000) as f64 / 1_000.0);
        let replica = &mut self.replicas[number];
        if replica.paused_until.is_none() {
            signal(&replica.process, Signal::STOP);
        }
        replica.paused_until = Some(self.log.now() + length);
        self.pauses += 1;
    }

    /// Continues the replicas whose pause is over.
    fn resume(&mut self, now: Duration) {
        for replica in &mut self.replicas {
            if replica.paused_until.take_if(|until| *until <= now).is_some() {
                signal(&replica.process, Signal::CONT);
            }
        }
    }

    /// Ends all pauses.
    pub(crate) fn resume_all(&mut self) {
        self.resume(Duration::MAX);
    }

    /// Waits until this many more requests are decided.
    pub(crate) async fn proceed(&mut self, traffic: &mut Traffic, more: usize) {
        let wanted = traffic.decided() + more;
        self.until(traffic, |traffic| traffic.decided() >= wanted).await;
    }

    /// Waits until something is reached, and continues paused replicas meanwhile.
    async fn until(&mut self, traffic: &mut Traffic, is_reached: impl Fn(&Traffic) -> bool) {
        let end = self.log.now() + WAIT_TIMEOUT;
        while !is_reached(traffic) {
            let now = self.log.now();
            assert!(now < end, "no progress: {}", self.logs());
            self.resume(now);
            let next = self.replicas.iter().filter_map(|replica| replica.paused_until).min();
            let pause = next.map_or(WAIT_TIMEOUT, |next| next.saturating_sub(now));
            // Either the clients or the pauses go on.
            let _ =
                tokio::time::timeout(pause.min(Duration::from_secs(1)), traffic.until_more_decided()).await;
        }
    }

    /// The database is down while its clock advances by an hour. Replicas decide from what they hold, and then by policy.
    pub(crate) async fn take_database_down(&mut self, traffic: &mut Traffic) -> Duration {
        self.resume_all();
        self.database.process.kill().await;
        let (down, before) = (self.log.now(), self.log.undecided());
        let log = Arc::clone(&self.log);
        self.until(traffic, |_| {
            let undecided = log.undecided();
            let is_undecided = (0..2).all(|policy| undecided[policy] >= before[policy] + UNDECIDED);
            is_undecided && log.now() >= down + OUTAGE
        })
        .await;
        let jumped = self.log.now();
        self.start_database_ahead(JUMP);
        jumped
    }

    /// Restarts the killed database with its clock ahead of the machine's.
    fn start_database_ahead(&mut self, ahead: Duration) {
        self.database.process.command.env(CLOCK_VARIABLE, ahead.as_secs().to_string());
        self.database.process.restart();
    }

    /// Advances the clock of the database while nothing else runs.
    pub(crate) async fn advance_database(&mut self, ahead: Duration) {
        self.database.process.kill().await;
        self.start_database_ahead(ahead);
    }

    /// Stops all replicas in an orderly way, so that they give their leases back. One after another, as a rollout does: each
    /// has two seconds for it.
    pub(crate) async fn stop_replicas(&mut self) {
        self.resume_all();
        for mut replica in self.replicas.drain(..) {
            signal(&replica.process, Signal::TERM);
            let status = tokio::time::timeout(WAIT_TIMEOUT, replica.process.child.wait()).await;
            let status = status.expect("the replica must stop").unwrap();
            assert!(status.success(), "{status}: {}", replica.process.log_tail());
        }
    }

    fn logs(&self) -> String {
        let logs = self.replicas.iter().map(|replica| replica.process.log_tail());
        logs.chain([self.database.process.log_tail()]).collect::<Vec<_>>().join("\n---\n")
    }
}

/// Sends a signal to a process of this test.
fn signal(process: &Process, signal: Signal) {
    let id = process.child.id().and_then(|id| Pid::from_raw(i32::try_from(id).ok()?));
    kill_process(id.expect("the process runs"), signal).unwrap();
}
