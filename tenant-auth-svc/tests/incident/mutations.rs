//! Changes to the cluster: revokes keys in various ways, and lets a read replica of its database catch up.

use std::sync::Arc;

use tenant_auth_svc::domain::{clock::Clock as _, text::Reason};
use tenant_auth_testkit::HranaServer;

use super::cluster::{Cluster, REPLICAS, actor, deadline};

impl Cluster {
    pub(crate) async fn make_read_replica(&mut self) {
        let read_replica =
            HranaServer::builder().token("secret").replica_of(&self.database).start().await.unwrap();
        let clock = Arc::clone(&self.clock);
        read_replica.set_clock(move || clock.now().0);
        self.read_replica = Some(read_replica);
    }

    /// Brings the read replica, if there is one, up to date.
    pub(crate) async fn catch_up_read_replica(&mut self) {
        if let Some(read_replica) = &self.read_replica {
            read_replica.catch_up().await.unwrap();
        }
        self.read_replica_is_current = true;
    }

    /// Revokes a key through the first replica.
    pub(crate) async fn revoke_on_first(&mut self, number: usize) {
        self.revoke_on_replica(0, number).await;
    }

    /// Revokes a key through a replica. Only that replica knows it at once.
    pub(crate) async fn revoke_on_replica(&mut self, replica: usize, number: usize) {
        let (id, reason) = (self.keys[number].id.clone(), Reason::parse("test").unwrap());
        self.change_with_retries(replica, async |replica| {
            replica.admin().revoke_key(id.clone(), reason.clone(), actor(), deadline()).await.map(drop)
        })
        .await;
        self.keys[number].is_revoked = true;
        self.keys[number].missing_revocation = std::array::from_fn(|other| other != replica);
        self.read_replica_is_current = self.read_replica.is_none();
    }

    /// Revokes a key with SQL, through a connection without faults.
    pub(crate) fn revoke_with_sql(&mut self, number: usize) {
        let revoke = format!("UPDATE api_keys SET revoked_at = 1 WHERE id = '{}'", self.keys[number].id);
        assert_eq!(self.database.execute(&revoke), Ok(1));
        self.keys[number].is_revoked = true;
        self.keys[number].missing_revocation = [true; REPLICAS];
        self.read_replica_is_current = self.read_replica.is_none();
    }
}
