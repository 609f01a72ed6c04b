//! Changes: through a replica's use cases, and with SQL.

use std::time::{Duration, Instant};

use tenant_auth_svc::domain::{
    admin::{AdminError, KeyToIssue},
    audit::Actor,
    clock::UnixMillis,
    id::{KeyId, TenantId},
    key::{KeyToImport, KeyUpdate, NewKey, SuccessorExpiry},
    network::{AddressCheck, AllowedNetworks, ClientAddress},
    scope::{Scope, ScopeSet},
    store::{FailureKind, UpdateConditions},
    tenant::TenantStatus,
    text::{KeyName, PrefixHint, Reason},
};
use tenant_auth_testkit::Random;

use super::{
    cluster::{SimulatedCluster, TENANTS},
    replica::{CALLERS_ADDRESS, Credential, SCOPE, STORED_NETWORKS, SeededFlaw},
    troubles::Trouble,
};

/// Maximum number of keys; every replica is periodically asked about all of them at once.
const MAX_KEYS: usize = 40;

/// A change through a replica.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ReplicaChange {
    Issue,
    Import,
    Revoke,
    Rotate,
    Update,
    SuspendOrResume,
}

/// The changes to draw from. More keys are created than ended, so that some are always valid.
pub(crate) const CHANGE_WEIGHTS: [ReplicaChange; 13] = [
    ReplicaChange::Issue,
    ReplicaChange::Issue,
    ReplicaChange::Issue,
    ReplicaChange::Import,
    ReplicaChange::Import,
    ReplicaChange::Revoke,
    ReplicaChange::Revoke,
    ReplicaChange::Rotate,
    ReplicaChange::Update,
    ReplicaChange::Update,
    ReplicaChange::Update,
    ReplicaChange::SuspendOrResume,
    ReplicaChange::SuspendOrResume,
];

fn actor() -> Actor {
    Actor { caller: "simulation".to_owned(), request_id: "simulation".to_owned() }
}

pub(crate) fn deadline() -> Instant {
    Instant::now() + Duration::from_secs(30)
}

fn scopes(random: &mut Random) -> ScopeSet {
    let scopes = if random.is_chance(70) { vec![Scope::parse(SCOPE).unwrap()] } else { Vec::new() };
    ScopeSet::new(scopes).unwrap()
}

fn networks(random: &mut Random) -> AllowedNetworks {
    let texts: Vec<String> = serde_json::from_str(random.pick::<&str>(&STORED_NETWORKS)).unwrap();
    AllowedNetworks::parse(&texts).unwrap()
}

fn admits_caller(networks: &AllowedNetworks) -> bool {
    networks.check(ClientAddress::parse(CALLERS_ADDRESS).ok()) == AddressCheck::Allowed
}

impl SimulatedCluster {
    /// Makes a change through a replica. An acknowledged change must be in the database.
    pub(crate) async fn change(
        &mut self,
        replica: usize,
        change: ReplicaChange,
        random: &mut Random,
    ) -> Result<String, String> {
        self.catch_up_read_replica_if_following(replica).await;
        let order = self.oracle.next_order();
        let (done, what, holds) = match change {
            ReplicaChange::Issue if self.credentials.len() < MAX_KEYS => {
                self.issue(replica, order, random).await
            }
            ReplicaChange::Issue | ReplicaChange::Import => self.import(replica, order, random).await,
            ReplicaChange::Revoke => self.revoke(replica, order, random).await,
            ReplicaChange::Rotate => self.rotate(replica, order, random).await,
            ReplicaChange::Update => self.update(replica, order, random).await,
            ReplicaChange::SuspendOrResume => self.suspend_or_resume(replica, order, random).await,
        };
        if let Some(Trouble::Disaster(_)) = self.trouble {
            return match done {
                Ok(()) => Err(format!(
                    "replica {replica} acknowledged {what} in a database other than the known one"
                )),
                Err(error) => Ok(format!("replica {replica}: {what}: {error}")),
            };
        }
        self.record_database(order);
        match done {
            Ok(()) if !holds(self) => {
                Err(format!("replica {replica} acknowledged {what}, which did not happen"))
            }
            Ok(()) => Ok(format!("replica {replica}: {what}")),
            Err(AdminError::Store(error)) if self.writes_work() && !error.kind.is_transient() => {
                Err(format!("replica {replica}: {what}: {error}"))
            }
            Err(error) => {
                if matches!(&error, AdminError::Store(error) if error.kind == FailureKind::TimedOut) {
                    self.record_unanswered_change();
                }
                Ok(format!("replica {replica}: {what}: {error}"))
            }
        }
    }

    async fn issue(&mut self, replica: usize, order: u64, random: &mut Random) -> ChangeResult {
        let tenant = *random.pick(&TENANTS);
        // A third of the keys expire soon.
        let lifetime = Duration::from_millis(500 + 500 * random.below(60) as u64);
        let wanted = KeyToIssue {
            tenant_id: TenantId::parse(tenant).unwrap(),
            name: KeyName::parse("").unwrap(),
            scopes: scopes(random),
            allowed_networks: AllowedNetworks::EVERYWHERE,
            expires_at: random.is_chance(33).then(|| UnixMillis(self.now().wall).plus(lifetime)),
            reason: None,
        };
        match self.replicas[replica].admin().issue_key(wanted, actor(), deadline()).await {
            Ok(issued) => {
                let credential = Credential::new(issued.outcome.plaintext.expose());
                self.credentials.push(credential.clone());
                self.oracle.record_issue(replica, order, &credential.digest);
                done_change(format!("issue {} for {tenant}", credential.plaintext), move |cluster| {
                    cluster.oracle.key(&credential.digest).is_some()
                })
            }
            Err(error) => (Err(error), format!("issue a key for {tenant}"), Box::new(|_| true)),
        }
    }

    async fn import(&mut self, replica: usize, order: u64, random: &mut Random) -> ChangeResult {
        let credential = random.pick(&self.credentials).clone();
        let tenant = *random.pick(&TENANTS);
        let key = NewKey {
            id: KeyId::generate(),
            tenant_id: TenantId::parse(tenant).unwrap(),
            hash: credential.hash(),
            name: KeyName::parse("").unwrap(),
            prefix_hint: PrefixHint::parse("").unwrap(),
            scopes: scopes(random),
            allowed_networks: AllowedNetworks::EVERYWHERE,
            expires_at: None,
        };
        let import = KeyToImport { key, created_at: None };
        let outcome = self.replicas[replica].admin().import_keys(vec![import], actor(), deadline()).await;
        self.oracle.record_import(replica, order, &credential.digest, outcome.is_ok());
        let what = format!("import {} for {tenant}", credential.plaintext);
        let holds = move |cluster: &SimulatedCluster| cluster.oracle.key(&credential.digest).is_some();
        (outcome.map(drop), what, Box::new(holds))
    }

    /// Returns a random key that is, or recently was, in the database.
    fn random_existing_key(&self, random: &mut Random) -> (Credential, KeyId) {
        let there = |credential: &&Credential| self.oracle.key(&credential.digest).is_some();
        let existing: Vec<_> = self.credentials.iter().filter(there).collect();
        if existing.is_empty() {
            return (self.credentials[0].clone(), KeyId::generate());
        }
        let credential = (*random.pick(&existing)).clone();
        let id = KeyId::parse(&self.oracle.key(&credential.digest).unwrap().id).unwrap();
        (credential, id)
    }

    async fn revoke(&mut self, replica: usize, order: u64, random: &mut Random) -> ChangeResult {
        let (credential, id) = self.random_existing_key(random);
        let id_text = id.as_str().to_owned();
        let reason = Reason::parse("simulation").unwrap();
        let outcome = self.replicas[replica].admin().revoke_key(id, reason, actor(), deadline()).await;
        self.oracle.record_change(replica, order, &credential.digest, is_outcome_known(&outcome));
        if self.flaw == SeededFlaw::UndoesRevocation && outcome.is_ok() {
            let undo = format!("UPDATE api_keys SET revoked_at = NULL WHERE id = '{id_text}'");
            self.server.execute(&undo).unwrap();
        }
        let what = format!("revoke {}", credential.plaintext);
        let holds = move |cluster: &SimulatedCluster| {
            cluster.oracle.key(&credential.digest).is_some_and(|key| key.revoked)
        };
        (outcome.map(drop), what, Box::new(holds))
    }

    async fn rotate(&mut self, replica: usize, order: u64, random: &mut Random) -> ChangeResult {
        let (credential, id) = self.random_existing_key(random);
        let overlap = Duration::from_millis(250 * random.below(60) as u64);
        let admin = self.replicas[replica].admin();
        let outcome =
            admin.rotate_key(id, Some(overlap), SuccessorExpiry::Kept, None, actor(), deadline()).await;
        self.oracle.record_change(replica, order, &credential.digest, is_outcome_known(&outcome));
        let what = format!("rotate {} with an overlap of {overlap:?}", credential.plaintext);
        let outcome = outcome.map(|rotated| {
            self.credentials.push(Credential::new(rotated.outcome.0.plaintext.expose()));
        });
        let ends = self.now().wall + i64::try_from(overlap.as_millis()).unwrap();
        let holds = move |cluster: &SimulatedCluster| {
            let old = cluster.oracle.key(&credential.digest);
            old.is_some_and(|key| key.expires_at.is_some_and(|end| end <= ends))
        };
        (outcome, what, Box::new(holds))
    }

    /// Changes the scopes, the networks or the expiry of a key, or disables or enables it.
    async fn update(&mut self, replica: usize, order: u64, random: &mut Random) -> ChangeResult {
        let (credential, id) = self.random_existing_key(random);
        let mut update = KeyUpdate::default();
        match random.below(8) {
            6..=7 => update.allowed_networks = Some(networks(random)),
            0 => update.scopes = Some(scopes(random)),
            1 => {
                let lifetime = Duration::from_millis(250 * random.below(100) as u64);
                let end = random.is_chance(60).then(|| UnixMillis(self.now().wall).plus(lifetime));
                update.expires_at = Some(end);
            }
            2..=3 => update.enabled = Some(false),
            _ => update.enabled = Some(true),
        }
        let what = format!("update {}: {update:?}", credential.plaintext);
        let admin = self.replicas[replica].admin();
        let conditions = UpdateConditions::default();
        let outcome = admin.update_key(id, update.clone(), conditions, actor(), deadline()).await;
        self.oracle.record_change(replica, order, &credential.digest, is_outcome_known(&outcome));
        let holds = move |cluster: &SimulatedCluster| {
            let key = cluster.oracle.key(&credential.digest);
            key.is_some_and(|key| {
                update.enabled.is_none_or(|enabled| enabled != key.disabled)
                    && update.expires_at.is_none_or(|end| end.map(|end| end.0) == key.expires_at)
                    && update
                        .allowed_networks
                        .as_ref()
                        .is_none_or(|new| admits_caller(new) == key.admits_caller)
                    && update.scopes.as_ref().is_none_or(|scopes| scopes.is_empty() != key.may_read)
            })
        };
        (outcome.map(drop), what, Box::new(holds))
    }

    async fn suspend_or_resume(&mut self, replica: usize, order: u64, random: &mut Random) -> ChangeResult {
        let tenant = *random.pick(&TENANTS);
        let suspend = !self.oracle.is_suspended(tenant) && random.is_chance(40);
        let status = if suspend { TenantStatus::Suspended } else { TenantStatus::Active };
        let (id, admin) = (TenantId::parse(tenant).unwrap(), self.replicas[replica].admin());
        let outcome = admin.set_tenant_status(id, status, None, actor(), deadline()).await;
        self.oracle.record_change(replica, order, tenant, is_outcome_known(&outcome));
        let what = format!("{} {tenant}", if suspend { "suspend" } else { "resume" });
        let holds = move |cluster: &SimulatedCluster| cluster.oracle.is_suspended(tenant) == suspend;
        (outcome.map(drop), what, Box::new(holds))
    }

    /// Makes a change with SQL. Outages do not prevent it: they affect the connections between the replicas
    /// and the database.
    pub(crate) fn change_with_sql(&mut self, random: &mut Random) -> String {
        if let Some(Trouble::Disaster(_)) = self.trouble {
            return "nothing".to_owned();
        }
        let order = self.oracle.next_order();
        let (credential, id) = self.random_existing_key(random);
        let tenant = *random.pick(&TENANTS);
        let wall = self.now().wall;
        let is = format!("WHERE id = '{id}'");
        let (subject, sql) = match random.below(13) {
            12 => {
                let networks = random.pick(&STORED_NETWORKS);
                (&*credential.digest, format!("UPDATE api_keys SET allowed_networks = '{networks}' {is}"))
            }
            0 => (&*credential.digest, format!("UPDATE api_keys SET revoked_at = {wall} {is}")),
            1..=3 => (
                &*credential.digest,
                format!(
                    "UPDATE api_keys SET revoked_at = NULL, disabled_at = NULL, expires_at = NULL, \
                     allowed_networks = '[]' {is}"
                ),
            ),
            4 => {
                let end = wall + 250 * i64::try_from(random.below(100)).unwrap() - 5_000;
                (&*credential.digest, format!("UPDATE api_keys SET expires_at = {end} {is}"))
            }
            5 => {
                let scopes = if random.is_chance(50) { "[]".to_owned() } else { format!("[\"{SCOPE}\"]") };
                (&*credential.digest, format!("UPDATE api_keys SET scopes = '{scopes}' {is}"))
            }
            6 => (&*credential.digest, format!("DELETE FROM api_keys {is}")),
            7 => (&*credential.digest, format!("UPDATE api_keys SET disabled_at = {wall} {is}")),
            8 => (&*credential.digest, format!("UPDATE api_keys SET disabled_at = NULL {is}")),
            9 => (&*credential.digest, format!("UPDATE api_keys SET tenant_id = '{tenant}' {is}")),
            _ => {
                let suspend = !self.oracle.is_suspended(tenant) && random.is_chance(40);
                let status = if suspend { "suspended" } else { "active" };
                (tenant, format!("UPDATE tenants SET status = '{status}' WHERE id = '{tenant}'"))
            }
        };
        self.server.execute(&sql).unwrap();
        self.oracle.record_touch(order, subject);
        self.record_database(order);
        format!("with SQL: {sql} ({})", credential.plaintext)
    }

    /// Revokes a key with SQL, if it exists.
    pub(crate) fn revoke_with_sql(&mut self, credential: &Credential) -> Option<String> {
        let id = self.oracle.key(&credential.digest)?.id.clone();
        let order = self.oracle.next_order();
        let sql = format!("UPDATE api_keys SET revoked_at = {} WHERE id = '{id}'", self.now().wall);
        self.server.execute(&sql).unwrap();
        self.oracle.record_touch(order, &credential.digest);
        self.record_database(order);
        Some(format!("{} was revoked", credential.plaintext))
    }

    /// Prunes the change log at its beginning.
    pub(crate) async fn prune_log(&mut self, random: &mut Random) -> String {
        if self.trouble.is_some() {
            return "nothing".to_owned();
        }
        let order = self.oracle.next_order();
        let kept = 1 + random.below(5);
        let sql = format!("DELETE FROM changes WHERE seq <= (SELECT max(seq) FROM changes) - {kept}");
        self.server.execute(&sql).unwrap();
        self.oracle.break_log();
        self.record_database(order);
        self.catch_up_read_replica().await;
        format!("the log is pruned to {kept} entries")
    }
}

/// Returns whether the database reported the outcome of a change.
fn is_outcome_known<T>(outcome: &Result<T, AdminError>) -> bool {
    !matches!(outcome, Err(AdminError::Store(_)))
}

/// The outcome, a description, and what the database must satisfy if the change was acknowledged.
type ChangeResult = (Result<(), AdminError>, String, Box<dyn Fn(&SimulatedCluster) -> bool>);

fn done_change(what: String, holds: impl Fn(&SimulatedCluster) -> bool + 'static) -> ChangeResult {
    (Ok(()), what, Box::new(holds))
}
