//! Outages of a part: what is broken says nothing about what is not. Whatever it is, a revocation is known after the next reading
//! of the log wherever that works, and usage and operators come and go throughout.

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
    cluster::{BEHIND_A_COPY, Cluster, GROUP, KEYS},
    outages::{OUTAGE, START, STEP, last},
    report::{Report, Told},
};

/// As from a database without room.
pub(crate) const FULL: Fault = Fault::Sql { code: "SQLITE_FULL", message: "database or disk is full" };
/// The keys that are revoked while it lasts: every one at this place of its group, one after the other.
const REVOKED_MEANWHILE: usize = 10;
/// Those that were revoked after the backup that the database is rolled back to.
const REVOKED_AFTER_BACKUP: usize = 11;
/// How far a copy lags.
const LAG: Duration = Duration::from_secs(1);

/// What is broken.
#[derive(Clone, Debug)]
pub(crate) enum Partial {
    /// Changes meet this, and reads nothing.
    Writes(Fault),
    /// Reads meet this, and changes nothing.
    Reads(Fault),
    /// What operators list meets this.
    Listings(Fault),
    /// Changes begin and do not end.
    LockStuck,
    /// One replica reads from a copy that is a second behind.
    CopyLags,
    /// One replica reads from a copy that stands still.
    CopyStandsStill,
    /// The database was emptied by mistake; it is put back.
    Emptied,
    /// It is another one; it is put back.
    Replaced,
    /// It was restored from an older backup, and is accepted.
    RolledBack,
}

pub(crate) async fn replay(partial: &Partial, cluster: &mut Cluster, report: &mut Report) {
    let told = &mut report.told;
    match partial {
        Partial::Writes(fault) => {
            cluster.database.faults().set_writes(fault.clone());
            revoke_meanwhile(cluster, told).await;
        }
        Partial::Listings(fault) => {
            cluster.database.faults().set_where("FROM audit_log", u64::MAX, fault.clone());
            revoke_meanwhile(cluster, told).await;
        }
        Partial::LockStuck => {
            cluster.database.hold_writes(true);
            last(cluster, OUTAGE, told).await;
            cluster.database.hold_writes(false);
        }
        Partial::Reads(fault) => {
            cluster.database.faults().set_reads(fault.clone());
            last(cluster, OUTAGE, told).await;
        }
        Partial::CopyLags => lag(cluster, told).await,
        Partial::CopyStandsStill => stand_still(cluster, told).await,
        Partial::Emptied => {
            let all = cluster.database.backup().unwrap();
            cluster.database.wipe().await.unwrap();
            last(cluster, OUTAGE, told).await;
            cluster.database.restore(&all).await.unwrap();
        }
        Partial::Replaced => {
            let all = cluster.database.backup().unwrap();
            cluster.database.wipe().await.unwrap();
            make_anew(cluster).await;
            last(cluster, OUTAGE, told).await;
            cluster.database.restore(&all).await.unwrap();
        }
        Partial::RolledBack => {
            let old = cluster.database.backup().unwrap();
            roll_back(cluster, &old, told).await;
        }
    }
}

/// By another hand: the service can change nothing, or need not.
async fn revoke_meanwhile(cluster: &mut Cluster, told: &mut Told) {
    for number in (REVOKED_MEANWHILE..KEYS).step_by(GROUP) {
        cluster.revoke_by_another_hand(number);
        cluster.ask(&[number], told).await;
        // One reading of the log, a quarter of a second later: from here on anybody who honours it is wrong.
        cluster.step(STEP, told).await;
        cluster.ask(&[number], told).await;
    }
    last(cluster, OUTAGE, told).await;
}

async fn lag(cluster: &mut Cluster, told: &mut Told) {
    let steps = LAG.as_millis() / STEP.as_millis();
    for number in (REVOKED_MEANWHILE..KEYS).step_by(GROUP) {
        // By the replica that lags: it knows its own change at once.
        cluster.revoke_at(BEHIND_A_COPY, number).await;
        for _ in 0..steps {
            cluster.ask(&[number], told).await;
            cluster.step(STEP, told).await;
        }
        cluster.catch_up().await;
        cluster.step(STEP, told).await;
        cluster.ask(&[number], told).await;
    }
}

async fn stand_still(cluster: &mut Cluster, told: &mut Told) {
    for number in (REVOKED_MEANWHILE..KEYS).step_by(GROUP).take(4) {
        cluster.revoke(number).await;
        cluster.step(STEP, told).await;
    }
    last(cluster, START, told).await;
    assert!(!cluster.hear(BEHIND_A_COPY).await, "it has noticed that its copy stands still");
    last(cluster, OUTAGE, told).await;
    cluster.catch_up().await;
}

async fn make_anew(cluster: &Cluster) {
    let settings = Settings::default()
        .with_flag("TENANT_AUTH_LISTEN", Some("127.0.0.1:0".to_owned()))
        .with_flag("TENANT_AUTH_DATABASE_URL", Some(cluster.database.url()))
        .with_flag("TENANT_AUTH_DATABASE_TOKEN_FILE", Some(cluster.token_file()));
    let clock = Arc::clone(&cluster.clock) as SharedClock;
    let database = ServiceConfig::read(settings).unwrap().0.database;
    migrate::migrate(&server::hop(database, &clock).unwrap(), &clock).await.unwrap();
}

async fn roll_back(cluster: &mut Cluster, old: &Backup, told: &mut Told) {
    for number in (REVOKED_AFTER_BACKUP..KEYS).step_by(GROUP) {
        cluster.revoke(number).await;
    }
    cluster.step(STEP, told).await;
    cluster.database.restore(old).await.unwrap();
    last(cluster, OUTAGE, told).await;
    let address = cluster.replicas[1].address();
    let channel = Channel::from_shared(format!("http://{address}")).unwrap().connect_lazy();
    let mut admin = AdminServiceClient::new(channel);
    let request = AcceptDatabaseRequest { reason: "restored".to_owned() };
    let accepted = admin.accept_database(request).await.unwrap().into_inner();
    assert!(accepted.held.len() >= KEYS / GROUP, "what was revoked since is held, and to be made again");
}
