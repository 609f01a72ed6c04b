//! Partial outages: a broken part does not affect the others. In each of them, a revocation is known after
//! the next poll of the change log wherever that works, and usage and operator calls go on throughout.

use std::{sync::Arc, time::Duration};

use tenant_auth_proto::v1::{AcceptDatabaseRequest, admin_service_client::AdminServiceClient};
use tenant_auth_svc::{
    config::{ServiceConfig, Settings},
    database::migrate,
    domain::clock::SharedClock,
    server,
};
use tenant_auth_testkit::{Backup, Fault};
use tonic::transport::Channel;

use super::{
    cluster::{Cluster, KEY_GROUP_SIZE, KEYS, READ_REPLICA_READER},
    outages::{INITIAL_PHASE, OUTAGE_DURATION, STEP, let_time_pass},
    report::{AnswerCounts, Report},
};

/// The error of a database without disk space.
pub(crate) const DISK_FULL: Fault = Fault::Sql { code: "SQLITE_FULL", message: "database or disk is full" };
/// Index of the keys that are revoked during the outage, one after the other.
const REVOKED_DURING_INDEX: usize = 10;
/// Index of the keys that were revoked after the backup that the database is rolled back to.
const REVOKED_AFTER_BACKUP_INDEX: usize = 11;
/// Lag of the read replica.
const READ_REPLICA_LAG: Duration = Duration::from_secs(1);

/// The part that is broken.
#[derive(Clone, Debug)]
pub(crate) enum PartialOutage {
    /// Writes fail with this fault; reads work.
    Writes(Fault),
    /// Reads fail with this fault; writes work.
    Reads(Fault),
    /// Operator listings fail with this fault.
    Listings(Fault),
    /// Writes start and do not finish.
    WriteLockStuck,
    /// One replica reads from a read replica that lags by one second.
    ReadReplicaLagging,
    /// One replica reads from a stalled read replica.
    ReadReplicaStalled,
    /// The database was emptied by mistake, and is restored later.
    Emptied,
    /// The database was replaced by another one, and is restored later.
    Replaced,
    /// The database was restored from an older backup, and is accepted.
    RolledBack,
}

pub(crate) async fn replay(partial: &PartialOutage, cluster: &mut Cluster, report: &mut Report) {
    let counts = &mut report.answers;
    match partial {
        PartialOutage::Writes(fault) => {
            cluster.database.faults().set_writes(fault.clone());
            revoke_with_sql_during_outage(cluster, counts).await;
        }
        PartialOutage::Listings(fault) => {
            cluster.database.faults().set_where("FROM audit_log", u64::MAX, fault.clone());
            revoke_with_sql_during_outage(cluster, counts).await;
        }
        PartialOutage::WriteLockStuck => {
            cluster.database.hold_writes(true);
            let_time_pass(cluster, OUTAGE_DURATION, counts).await;
            cluster.database.hold_writes(false);
        }
        PartialOutage::Reads(fault) => {
            cluster.database.faults().set_reads(fault.clone());
            let_time_pass(cluster, OUTAGE_DURATION, counts).await;
        }
        PartialOutage::ReadReplicaLagging => run_with_lagging_read_replica(cluster, counts).await,
        PartialOutage::ReadReplicaStalled => run_with_stalled_read_replica(cluster, counts).await,
        PartialOutage::Emptied => {
            let all = cluster.database.backup().unwrap();
            cluster.database.wipe().await.unwrap();
            let_time_pass(cluster, OUTAGE_DURATION, counts).await;
            cluster.database.restore(&all).await.unwrap();
        }
        PartialOutage::Replaced => {
            let all = cluster.database.backup().unwrap();
            cluster.database.wipe().await.unwrap();
            create_schema_again(cluster).await;
            let_time_pass(cluster, OUTAGE_DURATION, counts).await;
            cluster.database.restore(&all).await.unwrap();
        }
        PartialOutage::RolledBack => {
            let old = cluster.database.backup().unwrap();
            roll_back_database(cluster, &old, counts).await;
        }
    }
}

/// With SQL, because the service cannot write, or need not.
async fn revoke_with_sql_during_outage(cluster: &mut Cluster, counts: &mut AnswerCounts) {
    for number in (REVOKED_DURING_INDEX..KEYS).step_by(KEY_GROUP_SIZE) {
        cluster.revoke_with_sql(number);
        cluster.validate_keys(&[number], counts).await;
        // One poll of the log, a quarter of a second later: from here on, accepting the key is wrong.
        cluster.step(STEP, counts).await;
        cluster.validate_keys(&[number], counts).await;
    }
    let_time_pass(cluster, OUTAGE_DURATION, counts).await;
}

async fn run_with_lagging_read_replica(cluster: &mut Cluster, counts: &mut AnswerCounts) {
    let steps = READ_REPLICA_LAG.as_millis() / STEP.as_millis();
    for number in (REVOKED_DURING_INDEX..KEYS).step_by(KEY_GROUP_SIZE) {
        // Through the replica that lags: it knows its own change at once.
        cluster.revoke_on_replica(READ_REPLICA_READER, number).await;
        for _ in 0..steps {
            cluster.validate_keys(&[number], counts).await;
            cluster.step(STEP, counts).await;
        }
        cluster.catch_up_read_replica().await;
        cluster.step(STEP, counts).await;
        cluster.validate_keys(&[number], counts).await;
    }
}

async fn run_with_stalled_read_replica(cluster: &mut Cluster, counts: &mut AnswerCounts) {
    for number in (REVOKED_DURING_INDEX..KEYS).step_by(KEY_GROUP_SIZE).take(4) {
        cluster.revoke_on_first(number).await;
        cluster.step(STEP, counts).await;
    }
    let_time_pass(cluster, INITIAL_PHASE, counts).await;
    assert!(!cluster.poll_feed(READ_REPLICA_READER).await, "the replica has detected the stall");
    let_time_pass(cluster, OUTAGE_DURATION, counts).await;
    cluster.catch_up_read_replica().await;
}

async fn create_schema_again(cluster: &Cluster) {
    let settings = Settings::default()
        .with_flag("TENANT_AUTH_LISTEN", Some("127.0.0.1:0".to_owned()))
        .with_flag("TENANT_AUTH_DATABASE_URL", Some(cluster.database.url()))
        .with_flag("TENANT_AUTH_DATABASE_TOKEN_FILE", Some(cluster.token_file()));
    let clock = Arc::clone(&cluster.clock) as SharedClock;
    let database = ServiceConfig::read(settings).unwrap().0.database;
    migrate::migrate(&server::build_database_client(database, &clock).unwrap(), &clock).await.unwrap();
}

async fn roll_back_database(cluster: &mut Cluster, old: &Backup, counts: &mut AnswerCounts) {
    for number in (REVOKED_AFTER_BACKUP_INDEX..KEYS).step_by(KEY_GROUP_SIZE) {
        cluster.revoke_on_first(number).await;
    }
    cluster.step(STEP, counts).await;
    cluster.database.restore(old).await.unwrap();
    let_time_pass(cluster, OUTAGE_DURATION, counts).await;
    let address = cluster.replicas[1].address();
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    let mut admin = AdminServiceClient::new(channel);
    let request = AcceptDatabaseRequest { reason: "restored".to_owned() };
    let accepted = admin.accept_database(request).await.unwrap().into_inner();
    assert!(
        accepted.retained_revocations.len() >= KEYS / KEY_GROUP_SIZE,
        "later revocations are retained and must be repeated"
    );
}
