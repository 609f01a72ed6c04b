//! Faults of the database that last for a while, one at a time.

use std::time::Duration;

use tenant_auth_testkit::{Fault, HranaServer, Random};

use super::{cluster::SimulatedCluster, oracle::ReadsState};

/// After a fault of reads, calls behind a breaker are tried again within this time.
const MAX_READ_RECOVERY: Duration = Duration::from_secs(1);
/// The same for writes; an unanswered one takes longer to time out.
const MAX_CHANGE_RECOVERY: Duration = Duration::from_secs(10);

/// A fault of the database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// All calls fail.
    Outage,
    /// Writes are rejected or unanswered; reads work.
    Writes,
    /// Reads are rejected; writes work.
    Reads,
    /// One lane fails or is slow.
    Lane,
    /// Another client holds the write lock.
    WriteLock,
    /// The read replica is stalled.
    ReadReplicaStalled,
    /// The database is not the one from before.
    Disaster(Disaster),
}

impl Trouble {
    /// Returns whether a replica that starts now would trust a database that the others distrust.
    pub(crate) fn makes_restart_inconclusive(self) -> bool {
        match self {
            Self::Disaster(_) | Self::ReadReplicaStalled => true,
            Self::Outage | Self::Writes | Self::Reads | Self::Lane | Self::WriteLock => false,
        }
    }
}

/// The kind of disaster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disaster {
    /// The database is empty.
    Emptied,
    /// The database is a new one with a schema.
    Replaced,
    /// The database is in an earlier state.
    RolledBack,
    /// The database is in an earlier state and has changed since.
    RolledBackAndContinued,
}

/// Returns the faults with which an affected call may fail.
fn refusals() -> [(&'static str, Fault); 11] {
    [
        ("503", Fault::service_unavailable()),
        ("429", Fault::too_many_requests(1)),
        ("wrong token", Fault::unauthorized()),
        ("blocked", Fault::blocked()),
        ("locked", Fault::locked()),
        ("connections are reset", Fault::ResetBeforeExecute),
        ("responses are interrupted", Fault::ResetMidBody),
        ("responses are lost", Fault::ResetAfterCommit),
        ("responses are truncated", Fault::TruncatedJson),
        ("rows are missing", Fault::MissingRows),
        ("web page", Fault::html_ok()),
    ]
}

impl SimulatedCluster {
    /// Returns whether writes must succeed now.
    pub(crate) fn writes_work(&self) -> bool {
        let is_well = match self.trouble {
            None | Some(Trouble::Reads | Trouble::ReadReplicaStalled) => true,
            Some(
                Trouble::Outage | Trouble::Writes | Trouble::Lane | Trouble::WriteLock | Trouble::Disaster(_),
            ) => false,
        };
        // An exchange of leases that fails on a busy machine opens the breaker for other writes.
        is_well
            && self.now().monotonic > self.recovering_until.1
            && self.failed_exchanges() == self.limits.failed_exchanges
    }

    /// Returns whether listings must succeed now.
    pub(crate) fn listings_work(&self) -> bool {
        let is_well = match self.trouble {
            None | Some(Trouble::Writes | Trouble::WriteLock | Trouble::ReadReplicaStalled) => true,
            Some(Trouble::Outage | Trouble::Reads | Trouble::Lane | Trouble::Disaster(_)) => false,
        };
        is_well && self.now().monotonic > self.recovering_until.0
    }

    /// Records that a write was unanswered, most likely because the machine was busy; later writes wait for
    /// it.
    pub(crate) fn record_unanswered_change(&mut self) {
        self.recovering_until.1 = self.now().monotonic + MAX_CHANGE_RECOVERY;
    }

    /// Restarts the database if the write lock was granted to a client that had disconnected: only that helps. On a busy
    /// machine it happens without a fault.
    pub(crate) async fn restart_if_wedged(&mut self) -> bool {
        let is_wedged = self.server.is_wedged();
        if is_wedged {
            self.server.stop().await;
            self.server.start_again().unwrap();
            self.record_unanswered_change();
        }
        is_wedged
    }

    /// Starts a fault.
    pub(crate) async fn begin_trouble(&mut self, random: &mut Random) -> Result<String, String> {
        self.until_loads_finish().await;
        self.catch_up_read_replica().await;
        let what = match random.below(if self.read_replica.is_some() { 10 } else { 9 }) {
            0..2 => self.begin_outage(random).await,
            2..4 => self.refuse_changes(random),
            4 => self.refuse_reads(random),
            5 => self.disturb_lane(random),
            6 => self.hold_write_lock(),
            7..9 => return self.cause_disaster(random).await,
            _ => {
                self.trouble = Some(Trouble::ReadReplicaStalled);
                self.stall_read_replica().await;
                "the read replica is stalled".to_owned()
            }
        };
        Ok(format!("fault: {what}"))
    }

    async fn begin_outage(&mut self, random: &mut Random) -> String {
        let faults = refusals();
        // Either with a fault or by refusing connections.
        let name = match faults.get(random.below(faults.len() + 1)) {
            Some((name, fault)) => {
                self.servers_mut().for_each(|server| server.faults().set(fault.clone()));
                name
            }
            None => {
                for server in self.servers_mut() {
                    server.stop().await;
                }
                self.is_refusing = true;
                "connections are refused"
            }
        };
        self.trouble = Some(Trouble::Outage);
        self.oracle.begin_trouble(ReadsState::Failing);
        format!("an outage, {name}")
    }

    fn refuse_changes(&mut self, random: &mut Random) -> String {
        let mut faults = refusals().to_vec();
        faults.extend([
            ("forbidden", Fault::forbidden()),
            ("disk full", Fault::Sql { code: "SQLITE_FULL", message: "database or disk is full" }),
            ("no response", Fault::Hang),
            ("executed without a response", Fault::HangAfterExecute),
        ]);
        let (name, fault) = random.pick(&faults).clone();
        self.servers_mut().for_each(|server| server.faults().set_writes(fault.clone()));
        self.trouble = Some(Trouble::Writes);
        format!("writes fail, {name}")
    }

    fn refuse_reads(&mut self, random: &mut Random) -> String {
        let (name, fault) = random.pick(&refusals()).clone();
        self.servers_mut().for_each(|server| server.faults().set_reads(fault.clone()));
        self.trouble = Some(Trouble::Reads);
        self.oracle.begin_trouble(ReadsState::Failing);
        format!("reads fail, {name}")
    }

    fn disturb_lane(&mut self, random: &mut Random) -> String {
        let lanes = [
            "FROM audit_log",
            "FROM usage_totals",
            "INSERT INTO usage_requests",
            "FROM api_keys WHERE tenant_id = ?1",
        ];
        let mut faults = refusals().to_vec();
        faults.extend([("slow", Fault::Latency(Duration::from_millis(30)))]);
        let (lane, (name, fault)) = (*random.pick(&lanes), random.pick(&faults).clone());
        self.servers_mut().for_each(|server| server.faults().set_where(lane, u64::MAX, fault.clone()));
        self.trouble = Some(Trouble::Lane);
        format!("one lane fails ({lane}), {name}")
    }

    fn hold_write_lock(&mut self) -> String {
        self.server.hold_writes(true);
        self.trouble = Some(Trouble::WriteLock);
        "the write lock is held".to_owned()
    }

    /// Ends the fault.
    pub(crate) async fn repair(&mut self, random: &mut Random) -> Result<String, String> {
        self.until_loads_finish().await;
        let Some(trouble) = self.trouble else { return Ok("nothing".to_owned()) };
        let what = match trouble {
            Trouble::Disaster(disaster) => self.recover_from_disaster(disaster, random).await?,
            Trouble::ReadReplicaStalled => {
                self.trouble = None;
                "the read replica continues".to_owned()
            }
            Trouble::Outage | Trouble::Writes | Trouble::Reads | Trouble::Lane => {
                self.servers_mut().for_each(|server| server.faults().clear());
                "the fault ends".to_owned()
            }
            Trouble::WriteLock => {
                self.server.hold_writes(false);
                while self.server.counters().waiting_writers > 0 && !self.server.is_wedged() {
                    tokio::task::yield_now().await;
                }
                match self.restart_if_wedged().await {
                    true => {
                        "the lock was granted to a disconnected client, the database is restarted".to_owned()
                    }
                    false => "the lock is released".to_owned(),
                }
            }
        };
        if std::mem::take(&mut self.is_refusing) {
            self.servers_mut().try_for_each(HranaServer::start_again).unwrap();
        }
        self.trouble = None;
        let now = self.now().monotonic;
        self.recovering_until = (now + MAX_READ_RECOVERY, now + MAX_CHANGE_RECOVERY);
        self.oracle.end_trouble();
        for replica in &mut self.replicas {
            // A replica that started meanwhile does not poll the feed before it has reached the database.
            replica.wait_until_ready().await.unwrap();
        }
        // An unanswered write may have been made.
        let order = self.oracle.next_order();
        self.record_database(order);
        self.catch_up_read_replica().await;
        Ok(what)
    }
}
