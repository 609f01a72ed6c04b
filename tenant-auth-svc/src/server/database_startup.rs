//! Startup of the database: reach it, migrate its schema, check that its keys can be looked up.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};
use tonic_health::{ServingStatus, server::HealthReporter};

use crate::{
    database::{
        client::DatabaseClient,
        migrate::{self, SchemaError},
        sql::identity,
    },
    domain::{
        clock::{Moment, SharedClock},
        key::Peppers,
        store::{Call, Lane, Operation},
        verdict::Revision,
    },
    jobs::readiness::{Readiness, ReadinessState},
};

/// The health name of the process itself.
pub(crate) const PROCESS_HEALTH_NAME: &str = "";
/// The health name for readiness: whether to send requests to this replica.
pub(crate) const READINESS_HEALTH_NAME: &str = "tenantauth.v1.ValidationService";
/// The health name of database reads, for monitoring: it follows the result of the last read.
pub(crate) const DATABASE_READS_HEALTH_NAME: &str = "tenantauth.Database";
/// The health name of database writes: it follows the result of the last write. UNKNOWN before the first one, because
/// only a write could tell.
pub(crate) const DATABASE_WRITES_HEALTH_NAME: &str = "tenantauth.DatabaseWrites";
/// Every health name.
const HEALTH_NAMES: [&str; 4] =
    [PROCESS_HEALTH_NAME, READINESS_HEALTH_NAME, DATABASE_READS_HEALTH_NAME, DATABASE_WRITES_HEALTH_NAME];

/// The first delay before the database is tried again; it doubles up to [`MAX_RETRY_DELAY`].
const INITIAL_RETRY_DELAY: Duration = Duration::from_millis(250);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);

/// Timeout of reading the database's identity.
const IDENTITY_TIMEOUT: Duration = Duration::from_secs(5);

/// What the database startup needs.
pub(crate) struct DatabaseStartup {
    pub(crate) database_client: DatabaseClient,
    pub(crate) peppers: Arc<Peppers>,
    pub(crate) migrate: bool,
    pub(crate) create_schema: bool,
    pub(crate) clock: SharedClock,
}

/// Sets every health name to its initial value.
pub(crate) async fn set_initial_health(health: &HealthReporter) {
    set_all_not_serving(health).await;
    health.set_service_status(DATABASE_WRITES_HEALTH_NAME, ServingStatus::Unknown).await;
}

/// Sets every health name to NOT_SERVING, before shutdown.
pub(crate) async fn set_all_not_serving(health: &HealthReporter) {
    for name in HEALTH_NAMES {
        health.set_service_status(name, ServingStatus::NotServing).await;
    }
}

/// Ends the streams that watch a health name. They have received the last value.
pub(crate) async fn end_health_watches(health: &mut HealthReporter) {
    for name in HEALTH_NAMES {
        health.clear_service_status(name).await;
    }
}

impl DatabaseStartup {
    /// Starts a task that prepares the database, and then keeps the database's health names up to date.
    pub(crate) fn spawn(self, health: HealthReporter) -> (JoinHandle<()>, watch::Receiver<Readiness>) {
        let (sender, readiness) = watch::channel(self.readiness_now(ReadinessState::Waiting));
        let task = tokio::spawn(async move {
            let reads = async {
                self.prepare_database(&health, &sender).await;
                self.report_database_health(&health, DATABASE_READS_HEALTH_NAME, Operation::Read).await;
            };
            // Concurrently: a migration writes.
            let writes = self.report_database_health(&health, DATABASE_WRITES_HEALTH_NAME, Operation::Write);
            futures::join!(reads, writes);
        });
        (task, readiness)
    }

    async fn prepare_database(&self, health: &HealthReporter, sender: &watch::Sender<Readiness>) {
        match self.prepare_with_retries().await {
            Ok(()) => {
                tracing::info!("ready: the database can be read, and its schema is valid");
                health.set_service_status(READINESS_HEALTH_NAME, ServingStatus::Serving).await;
                // There may be no receiver.
                sender.send_replace(self.readiness_now(ReadinessState::Ready));
            }
            Err(error) => {
                tracing::error!(%error, "the database is unusable");
                sender.send_replace(self.readiness_now(ReadinessState::Unusable(Arc::new(error))));
            }
        }
    }

    fn readiness_now(&self, state: ReadinessState) -> Readiness {
        Readiness { state, since: Moment::now(&self.clock) }
    }

    async fn prepare_with_retries(&self) -> Result<(), SchemaError> {
        let mut wait = INITIAL_RETRY_DELAY;
        loop {
            match self.prepare_once().await {
                Err(error) if error.is_transient() || is_migration_pending(&error) => {
                    tracing::warn!(%error, ?wait, "not ready yet: the database is tried again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(MAX_RETRY_DELAY);
                }
                outcome => return outcome,
            }
        }
    }

    async fn prepare_once(&self) -> Result<(), SchemaError> {
        if self.migrate {
            let applied = match self.create_schema {
                true => migrate::migrate(&self.database_client, &self.clock).await?,
                false => migrate::upgrade(&self.database_client, &self.clock).await?,
            };
            if !applied.is_empty() {
                tracing::info!(?applied, "the schema was migrated");
            }
        } else {
            migrate::verify(&self.database_client).await?;
        }
        // Without a feed no other code confirms the database's identity.
        let call = Call::within(Lane::Maintenance, IDENTITY_TIMEOUT);
        let identity = identity::read(&self.database_client, call).await?;
        self.database_client.known_database().confirm(&identity, Revision::default(), None);
        // Before the comparison: of two replicas that start at the same time with different secrets, one must notice.
        match migrate::record_peppers(&self.database_client, &self.peppers).await {
            // A read-only token is enough to start, and to compare with the peppers that other replicas have
            // recorded.
            Err(SchemaError::Store(error)) if !error.kind.is_transient() => {
                tracing::warn!(%error, "the peppers in use could not be recorded");
            }
            outcome => outcome?,
        }
        migrate::verify_peppers(&self.database_client, &self.peppers).await
    }

    async fn report_database_health(
        &self,
        health: &HealthReporter,
        name: &'static str,
        operation: Operation,
    ) {
        let mut conditions = self.database_client.observer().watch(operation);
        let mut trust = self.database_client.known_database().watch();
        let mut reported = None;
        loop {
            let healthy = conditions.borrow_and_update().map(|condition| condition.is_healthy());
            let status = match (healthy, trust.borrow_and_update().distrust) {
                (Some(true), None) => ServingStatus::Serving,
                (None, None) => ServingStatus::Unknown,
                (_, Some(_)) | (Some(false), None) => ServingStatus::NotServing,
            };
            // Only on a change: watchers of the name would be notified of every other kind of failure too.
            if reported.replace(status) != Some(status) {
                health.set_service_status(name, status).await;
            }
            tokio::select! {
                changed = conditions.changed() => if changed.is_err() { return },
                changed = trust.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// Whether the schema awaits a migration by another process. Never when this replica migrates.
fn is_migration_pending(error: &SchemaError) -> bool {
    matches!(error, SchemaError::Older { .. })
}
