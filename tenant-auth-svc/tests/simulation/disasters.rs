//! Disasters: the database is replaced by another one, and later restored or accepted.

use std::time::Duration;

use tenant_auth_proto::v1::{self, admin_service_client::AdminServiceClient, retained_revocation::Subject};
use tenant_auth_svc::domain::{clock::Clock as _, store::FailureKind};
use tenant_auth_testkit::{Backup, Random};

use super::{
    cluster::{REPLICAS, SimulatedCluster},
    oracle::{KnownRevocations, ReadsState},
    replica::{SeededFlaw, migrate},
    troubles::{Disaster, Trouble},
};

/// Maximum number of backups to keep.
const MAX_BACKUPS: usize = 4;
/// How long a change log that ends too early may belong to a lagging read replica.
const DETECTION_DELAY: Duration = Duration::from_secs(3);

/// The state needed to recover.
pub(crate) struct BeforeDisaster {
    /// The database before the disaster.
    backup: Backup,
    /// The revocations that every replica knew since the time to which the database was rolled back.
    known: KnownRevocations,
}

impl SimulatedCluster {
    /// Takes a backup, to which the database may be rolled back later.
    pub(crate) fn take_backup(&mut self) -> String {
        let order = self.oracle.next_order();
        let backup = self.server.backup().unwrap();
        if self.backups.len() == MAX_BACKUPS {
            self.backups.remove(0);
        }
        self.backups.push((order, backup, self.change_log_end));
        format!("a backup is taken, with the log up to {}", self.change_log_end)
    }

    /// Causes a disaster and waits until every replica has noticed.
    pub(crate) async fn cause_disaster(&mut self, random: &mut Random) -> Result<String, String> {
        for replica in 0..REPLICAS {
            self.poll_feed_with_retries(replica).await?;
        }
        self.check_usage()?;
        // Rolls back to a time before a change that replicas know.
        let log_end = self.change_log_end;
        self.backups.retain(|(_, _, end)| *end < log_end);
        let mut disaster = *random.pick(&[
            Disaster::Emptied,
            Disaster::Replaced,
            Disaster::RolledBack,
            Disaster::RolledBack,
            Disaster::RolledBackAndContinued,
        ]);
        let back = (!self.backups.is_empty()).then(|| random.below(self.backups.len()));
        let rolled_back = matches!(disaster, Disaster::RolledBack | Disaster::RolledBackAndContinued);
        let since = match back {
            Some(back) if rolled_back => self.backups[back].0,
            _ => 0,
        };
        if rolled_back && back.is_none() {
            disaster = Disaster::Emptied;
        }
        let known = self.oracle.known_revocations(since);
        let backup = self.server.backup().unwrap();
        self.before_disaster = Some(BeforeDisaster { backup, known });
        match disaster {
            Disaster::Emptied => self.server.wipe().await.unwrap(),
            Disaster::Replaced => {
                self.server.wipe().await.unwrap();
                migrate(&self.server, self.folder.path(), &self.clock).await;
                self.add_tenants();
            }
            Disaster::RolledBack | Disaster::RolledBackAndContinued => {
                let (_, backup, _) = &self.backups[back.unwrap_or_default()];
                self.server.restore(backup).await.unwrap();
            }
        }
        let mut what = format!("{disaster:?}");
        if disaster == Disaster::RolledBackAndContinued {
            for _ in 0..1 + random.below(30) {
                let id = random.below(1_000_000);
                let tenant = format!(
                    "INSERT OR IGNORE INTO tenants (id, name, created_at, updated_at) VALUES ('later-{id}', 'x', 0, 0)"
                );
                self.server.execute(&tenant).unwrap();
            }
            what = format!("{what} to event {since}");
        }
        self.trouble = Some(Trouble::Disaster(disaster));
        self.oracle.begin_trouble(ReadsState::OtherDatabase);
        self.count(&format!("the database is {disaster:?}"));
        self.catch_up_read_replica().await;
        // Before any replica notices, while the database may still look like a lagging read replica.
        if disaster != Disaster::RolledBackAndContinued && random.is_chance(30) {
            let (replica, key) = (random.below(REPLICAS), random.pick(&self.credentials).clone());
            self.validate_keys(replica, &[key], false).await?;
        }
        self.poll_until_noticed(None).await?;
        self.advance_time(DETECTION_DELAY).await?;
        self.poll_until_noticed(Some(disaster)).await?;
        if self.flaw == SeededFlaw::TrustsAnyDatabase {
            drop(self.restart_silently(0).await);
            self.replicas[0].wait_until_ready().await.unwrap();
        }
        Ok(format!("the database was changed: {what}"))
    }

    /// Makes every replica poll the log until it has drawn its conclusion.
    async fn poll_until_noticed(&mut self, noticed: Option<Disaster>) -> Result<(), String> {
        for replica in 0..REPLICAS {
            let Err(error) = self.poll_feed(replica).await? else { continue };
            let detection_failures =
                [FailureKind::Untrusted, FailureKind::SchemaMissing, FailureKind::TimedOut];
            if noticed.is_some() && !detection_failures.contains(&error.kind) {
                return Err(format!(
                    "replica {replica} has not noticed that this is another database: {error}"
                ));
            }
        }
        Ok(())
    }

    /// Restores the known database, or accepts the current one.
    pub(crate) async fn recover_from_disaster(
        &mut self,
        disaster: Disaster,
        random: &mut Random,
    ) -> Result<String, String> {
        let Some(before) = self.before_disaster.take() else { return Ok("nothing".to_owned()) };
        if random.is_chance(40) {
            self.server.restore(&before.backup).await.unwrap();
            self.catch_up_read_replica().await;
            let order = self.oracle.next_order();
            self.limits.forget_all(order, self.clock.monotonic());
            self.count("the known database is restored");
            return Ok("the known database is restored".to_owned());
        }
        if disaster == Disaster::Emptied {
            migrate(&self.server, self.folder.path(), &self.clock).await;
            self.add_tenants();
        }
        let replica = random.below(REPLICAS);
        let order = self.oracle.next_order();
        let retained = self.accept_database(replica).await?;
        self.backups.clear();
        self.ledger.forget_rolled_back(&self.server);
        self.limits.forget_all(order, self.clock.monotonic());
        self.oracle.break_log();
        let seen = self.oracle.next_order();
        self.record_database(seen);
        self.oracle.retain_revocations(order, before.known);
        for id in self.oracle.certainly_retained_revocations(replica) {
            if !retained.iter().any(|retained| retained == id) {
                return Err(format!("replica {replica} knew the revocation of {id} and does not hold it"));
            }
        }
        self.count("a database is accepted");
        if !self.oracle.certainly_retained_revocations(replica).is_empty() {
            self.count("revocations are retained");
        }
        Ok(format!("the database is accepted through replica {replica}, which retains {retained:?}"))
    }

    /// Accepts the current database. Returns the ids of the revocations that the replica holds.
    async fn accept_database(&mut self, replica: usize) -> Result<Vec<String>, String> {
        let mut outcome = Err(String::new());
        // A replica that reads from a read replica sees the acceptance only once that has caught up.
        for _ in 0..3 {
            let request = v1::AcceptDatabaseRequest { reason: "simulation".to_owned() };
            let answer =
                AdminServiceClient::new(self.channels[replica].clone()).accept_database(request).await;
            self.catch_up_read_replica().await;
            match answer {
                Ok(accepted) => {
                    let subjects = accepted
                        .into_inner()
                        .retained_revocations
                        .into_iter()
                        .filter_map(|retained| retained.subject);
                    let ids = subjects.map(|subject| match subject {
                        Subject::KeyId(id)
                        | Subject::DisabledKeyId(id)
                        | Subject::SuspendedTenantId(id)
                        | Subject::SessionId(id) => id,
                    });
                    return Ok(ids.collect());
                }
                Err(status) => {
                    outcome = Err(format!("replica {replica} cannot accept: {status:?}"));
                }
            }
            self.clock.advance(Duration::from_secs(10));
        }
        outcome
    }
}
