//! The read replica of the database: it follows, lags or stalls.

use std::{sync::Arc, time::Duration};

use tenant_auth_svc::domain::{
    clock::{Clock as _, ManualClock},
    store::FailureKind,
};
use tenant_auth_testkit::HranaServer;

use super::{
    cluster::{REPLICAS, SimulatedCluster},
    troubles::Trouble,
};

/// Maximum lag of a read replica; with a longer lag it counts as stalled.
const MAX_READ_REPLICA_LAG: Duration = Duration::from_millis(2_500);
/// A read replica that has been stalled for less than this cannot be distinguished from a lagging one.
const MIN_STALL_DETECTION: Duration = Duration::from_secs(3);
/// A stall is detected within this time: a heartbeat is due after a second, the timeout is three seconds, and
/// time advances by the second.
const MAX_STALL_DETECTION: Duration = Duration::from_secs(6);

/// At least this long after the last one, a poll of the feed reads the primary's log although there is a read URL.
const PRIMARY_POLL_INTERVAL: Duration = Duration::from_millis(700);

/// How the last replica reads from a read replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Region {
    /// It does not.
    AtPrimary,
    /// Its only URL is that of the read replica, which forwards writes.
    OneUrl,
    /// It has a read URL beside the URL of the primary.
    TwoUrls,
}

impl Region {
    /// Returns the region of a seed.
    pub(crate) fn of_seed(seed: u64) -> Self {
        match seed % 4 {
            0 | 2 => Self::OneUrl,
            1 => Self::TwoUrls,
            _ => Self::AtPrimary,
        }
    }
}

/// The read replica and its state.
pub(crate) struct ReadReplica {
    pub(crate) server: HranaServer,
    pub(crate) has_own_url: bool,
    pace: CopyPace,
    /// Whether the database has changed since the read replica caught up.
    is_behind: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum CopyPace {
    /// It shows the current state of the database on every read.
    Following,
    /// It has not caught up since this time, and will soon.
    Lagging(Duration),
    /// It has not caught up since this time.
    Stalled(Duration),
}

impl ReadReplica {
    pub(crate) async fn follow(primary: &HranaServer, clock: &Arc<ManualClock>, region: Region) -> Self {
        let server = HranaServer::builder().token("secret").replica_of(primary).start().await.unwrap();
        let clock = Arc::clone(clock);
        server.set_clock(move || clock.now().0);
        let has_own_url = region == Region::TwoUrls;
        Self { server, has_own_url, pace: CopyPace::Following, is_behind: true }
    }
}

impl SimulatedCluster {
    /// Returns the server that a replica reads from.
    pub(crate) fn server_of(&self, replica: usize) -> &HranaServer {
        match &self.read_replica {
            Some(read_replica) if replica == REPLICAS - 1 => &read_replica.server,
            _ => &self.server,
        }
    }

    /// Whether a replica has a read URL.
    pub(crate) fn has_read_url(&self, replica: usize) -> bool {
        replica == REPLICAS - 1
            && self.read_replica.as_ref().is_some_and(|read_replica| read_replica.has_own_url)
    }

    /// Lets time pass until the next poll of a replica with a read URL reads the primary's log, as it does at least once a
    /// second.
    pub(crate) fn wait_for_primary_poll(&self, replica: usize) {
        if self.has_read_url(replica) {
            self.clock.advance(PRIMARY_POLL_INTERVAL);
        }
    }

    /// Records a successful poll. With a read URL it has read the primary's log: from then on, no older answer of the read
    /// replica is used.
    pub(crate) fn record_primary_poll(&mut self, replica: usize) {
        if self.has_read_url(replica) {
            self.oracle.read_replica_caught_up(self.now());
        }
    }

    /// Returns all servers that replicas connect to.
    pub(crate) fn servers_mut(&mut self) -> impl Iterator<Item = &mut HranaServer> {
        std::iter::once(&mut self.server)
            .chain(self.read_replica.as_mut().map(|read_replica| &mut read_replica.server))
    }

    /// Records a change of the database.
    pub(crate) fn mark_read_replica_behind(&mut self) {
        if let Some(read_replica) = &mut self.read_replica {
            read_replica.is_behind = true;
        }
    }

    /// Brings the read replica up to date; from here on it follows.
    pub(crate) async fn catch_up_read_replica(&mut self) {
        let now = self.now();
        if let Some(read_replica) = &mut self.read_replica {
            read_replica.server.catch_up().await.unwrap();
            (read_replica.pace, read_replica.is_behind) = (CopyPace::Following, false);
            self.oracle.read_replica_caught_up(now);
        }
    }

    /// Called before a replica reads something that it may have to know: brings the read replica up to date,
    /// unless it lags or is stalled.
    pub(crate) async fn catch_up_read_replica_if_following(&mut self, replica: usize) {
        let follows =
            self.read_replica.as_ref().is_some_and(|read_replica| read_replica.pace == CopyPace::Following);
        if follows && replica == REPLICAS - 1 {
            self.catch_up_read_replica().await;
        }
    }

    /// The same for reads that depend only on the simulation's changes and not on heartbeats.
    pub(crate) async fn catch_up_read_replica_if_behind(&mut self, replica: usize) {
        if self.read_replica.as_ref().is_some_and(|read_replica| read_replica.is_behind) {
            self.catch_up_read_replica_if_following(replica).await;
        }
    }

    /// Returns whether the read replica shows everything on every read.
    pub(crate) fn read_replica_follows(&self) -> bool {
        self.read_replica.as_ref().is_none_or(|read_replica| read_replica.pace == CopyPace::Following)
    }

    /// Makes the read replica lag, or lets it catch up.
    pub(crate) async fn toggle_read_replica_lag(&mut self) -> String {
        let lags = self
            .read_replica
            .as_ref()
            .is_some_and(|read_replica| matches!(read_replica.pace, CopyPace::Lagging(_)));
        let may_lag = match self.trouble {
            None | Some(Trouble::Writes | Trouble::Lane | Trouble::WriteLock) => self.read_replica.is_some(),
            Some(Trouble::Outage | Trouble::Reads | Trouble::ReadReplicaStalled | Trouble::Disaster(_)) => {
                false
            }
        };
        if lags {
            self.catch_up_read_replica().await;
            return "the read replica has caught up".to_owned();
        }
        if !may_lag {
            return "nothing".to_owned();
        }
        self.catch_up_read_replica().await;
        self.set_read_replica_pace(CopyPace::Lagging(self.now().monotonic));
        self.count("a read replica lags");
        "the read replica starts to lag".to_owned()
    }

    /// Stalls the read replica.
    pub(crate) async fn stall_read_replica(&mut self) {
        self.catch_up_read_replica().await;
        self.set_read_replica_pace(CopyPace::Stalled(self.now().monotonic));
    }

    fn set_read_replica_pace(&mut self, pace: CopyPace) {
        if let Some(read_replica) = &mut self.read_replica {
            read_replica.pace = pace;
        }
    }

    /// Advances the time. While a read replica may be stalled, it advances second by second with heartbeats,
    /// as in production.
    pub(crate) async fn advance_time(&mut self, time: Duration) -> Result<(), String> {
        self.until_loads_finish().await;
        match self.read_replica.as_ref().map(|read_replica| read_replica.pace) {
            None | Some(CopyPace::Following) => self.clock.advance(time),
            Some(CopyPace::Lagging(since)) => {
                let pause = time.min(since + MAX_READ_REPLICA_LAG - self.now().monotonic);
                self.clock.advance(pause);
                if pause < time {
                    self.catch_up_read_replica().await;
                    self.clock.advance(time - pause);
                }
            }
            Some(CopyPace::Stalled(_)) => {
                let mut left = time;
                for _ in 0..8 {
                    let pause = left.min(Duration::from_secs(1));
                    self.clock.advance(pause);
                    self.heartbeat_and_poll().await?;
                    left -= pause;
                }
                self.clock.advance(left);
                self.heartbeat_and_poll().await?;
            }
        }
        Ok(())
    }

    async fn heartbeat_and_poll(&mut self) -> Result<(), String> {
        self.until_loads_finish().await;
        for replica in 0..REPLICAS {
            // On a busy machine one may fail; the next follows a second later.
            let _ = self.replicas[replica].beat_if_due().await;
        }
        self.poll_feed(REPLICAS - 1).await.map(drop)
    }

    /// Returns what is wrong with the result of a poll of the feed.
    pub(crate) fn judge_reading(
        &mut self,
        replica: usize,
        failed: Option<FailureKind>,
    ) -> Result<(), String> {
        let now = self.now().monotonic;
        let stopped = match self.read_replica.as_ref().map(|read_replica| read_replica.pace) {
            // With a read URL, the primary takes over.
            Some(CopyPace::Stalled(since)) if replica == REPLICAS - 1 && !self.has_read_url(replica) => {
                Some(now - since)
            }
            _ => None,
        };
        match (self.trouble, failed) {
            (Some(Trouble::Outage | Trouble::Reads), _) | (_, Some(FailureKind::TimedOut)) => Ok(()),
            (Some(Trouble::Disaster(_)), None) => Err("the replica trusts another database".to_owned()),
            (Some(Trouble::Disaster(_)), Some(_)) => Ok(()),
            (Some(Trouble::ReadReplicaStalled), failed) if stopped.is_some() => {
                let stopped = stopped.unwrap_or_default();
                // Right after another fault no replica may write a heartbeat yet, and without one a read replica that
                // is stalled looks like one that follows.
                let beats_since = (now - stopped).max(self.recovering_until.1);
                match failed {
                    None if now <= beats_since + MAX_STALL_DETECTION => Ok(()),
                    None => Err(format!("the read replica has been stalled for {stopped:?}")),
                    Some(FailureKind::Lagging) if stopped >= MIN_STALL_DETECTION => {
                        self.oracle.record_stalled_read_replica(replica);
                        self.count("a stalled read replica is detected");
                        Ok(())
                    }
                    Some(_) => Err(format!("the read replica has been stalled for only {stopped:?}")),
                }
            }
            (_, None) => Ok(()),
            (_, Some(_)) if now <= self.recovering_until.0 => Ok(()),
            (_, Some(_)) => Err("the database is healthy".to_owned()),
        }
    }
}
