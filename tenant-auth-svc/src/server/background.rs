//! What runs in the background, from the start of the service to its end.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};
use tonic_health::server::HealthReporter;

use super::{
    database_startup::DatabaseStartup,
    foundation::{Caches, Foundation},
};
use crate::{
    config::{CacheSettings, DatabaseConfig},
    jobs::{
        audit_copy::AuditCopy,
        feed_poller,
        heartbeat::Heartbeat,
        maintenance::{MaintenanceJobs, PendingWrites},
        readiness::Readiness,
        usage::UsageJobs,
    },
    service_types::ChangeFeed,
};

/// The settings of the database that outlive the making of its client.
#[derive(Clone, Copy)]
pub(super) struct DatabaseSettings {
    migrate: bool,
    create_schema: bool,
    heartbeat_interval: Option<Duration>,
}

impl From<&DatabaseConfig> for DatabaseSettings {
    fn from(config: &DatabaseConfig) -> Self {
        Self {
            migrate: config.migrate,
            create_schema: config.create_schema,
            heartbeat_interval: config.heartbeat_interval,
        }
    }
}

/// The background tasks. They wait until the database is ready.
pub(super) struct BackgroundTasks {
    pub(super) readiness: watch::Receiver<Readiness>,
    pub(super) startup_task: JoinHandle<()>,
    pub(super) feed_task: JoinHandle<()>,
    pub(super) heartbeat: Option<Heartbeat>,
    pub(super) heartbeat_task: Option<JoinHandle<()>>,
    pub(super) audit_copy_task: Option<JoinHandle<()>>,
    pub(super) maintenance: MaintenanceJobs,
}

impl BackgroundTasks {
    /// Starts all of them; those of usage, which collects from the start on, get their maintenance.
    pub(super) fn spawn(
        base: &Foundation,
        caches: &Caches,
        settings: (DatabaseSettings, &CacheSettings),
        (feed, pending): (Arc<ChangeFeed>, PendingWrites),
        audit_copy: Option<&AuditCopy>,
        usage_jobs: &mut UsageJobs,
        health: HealthReporter,
    ) -> Self {
        let (database, cache) = settings;
        let startup = DatabaseStartup {
            database_client: base.client.clone(),
            peppers: Arc::clone(&base.peppers),
            migrate: database.migrate,
            create_schema: database.create_schema,
            clock: Arc::clone(&base.clock),
        };
        let (startup_task, readiness) = startup.spawn(health);
        let feed_task = match cache.feed_interval {
            Some(interval) => tokio::spawn(feed_poller::poll_feed(feed, interval, readiness.clone())),
            None => tokio::spawn(feed_poller::probe_database(base.client.clone())),
        };
        let heartbeat = database.heartbeat_interval.map(|interval| Heartbeat {
            database_client: base.client.clone(),
            store: base.store.clone(),
            clock: Arc::clone(&base.clock),
            interval,
        });
        usage_jobs.spawn_maintenance(readiness.clone());
        Self {
            heartbeat_task: heartbeat.clone().map(|heartbeat| tokio::spawn(heartbeat.run(readiness.clone()))),
            audit_copy_task: audit_copy.map(|copy| tokio::spawn(copy.clone().run(readiness.clone()))),
            maintenance: MaintenanceJobs::spawn(
                base.store.clone(),
                caches.all(),
                cache.records.max_records,
                pending,
                Arc::clone(&base.clock),
                readiness.clone(),
            ),
            readiness,
            startup_task,
            feed_task,
            heartbeat,
        }
    }
}
