//! From started to ready: reach the database, bring its schema up to date, check that keys can be found in it.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::DatabaseClient;
use crate::{
    database::{
        migrate::{self, SchemaError},
        sql::identity,
    },
    domain::{
        clock::{Moment, SharedClock},
        key::Peppers,
        store::{Call, Lane, Operation},
        verdict::Revision,
    },
};

/// The health name of the process itself.
pub(crate) const PROCESS_HEALTH_NAME: &str = "";
/// The health name that says whether to send requests here.
pub(crate) const READINESS_HEALTH_NAME: &str = "tenantauth.v1.ValidationService";
/// The health name of the database, for monitoring: it follows what the last read met.
pub(crate) const DATABASE_READS_HEALTH_NAME: &str = "tenantauth.Database";
/// The same for changes: it follows what the last write met. UNKNOWN before the first one: to find out, the server would have to write.
pub(crate) const DATABASE_WRITES_HEALTH_NAME: &str = "tenantauth.DatabaseWrites";
/// Every health name.
const HEALTH_NAMES: [&str; 4] =
    [PROCESS_HEALTH_NAME, READINESS_HEALTH_NAME, DATABASE_READS_HEALTH_NAME, DATABASE_WRITES_HEALTH_NAME];

/// The first wait before another look at a database that does not answer; it doubles up to [`MAX_RETRY_DELAY`].
const INITIAL_RETRY_DELAY: Duration = Duration::from_millis(250);
const MAX_RETRY_DELAY: Duration = Duration::from_secs(5);

/// How long it may take to ask which database it is.
const IDENTITY_TIMEOUT: Duration = Duration::from_secs(5);

/// How far the preparation has come.
#[derive(Clone, Debug)]
pub(crate) enum ReadinessState {
    /// The database has not answered yet.
    Waiting,
    /// Everything is in place.
    Ready,
    /// Somebody has to do something.
    Unusable(Arc<SchemaError>),
}

/// How far the preparation has come, and since when it has been that far.
#[derive(Clone, Debug)]
pub(crate) struct Readiness {
    pub(crate) state: ReadinessState,
    pub(crate) since: Moment,
}

/// What it takes to get ready.
pub(crate) struct DatabaseStartup {
    pub(crate) database_client: DatabaseClient,
    pub(crate) peppers: Arc<Peppers>,
    pub(crate) migrate: bool,
    pub(crate) create_schema: bool,
    pub(crate) clock: SharedClock,
}

/// Sets every health name to what it says at the start.
pub(crate) async fn set_initial_health(health: &HealthReporter) {
    set_all_not_serving(health).await;
    health.set_service_status(DATABASE_WRITES_HEALTH_NAME, ServingStatus::Unknown).await;
}

/// Sets every health name to NOT_SERVING, before the end.
pub(crate) async fn set_all_not_serving(health: &HealthReporter) {
    for name in HEALTH_NAMES {
        health.set_service_status(name, ServingStatus::NotServing).await;
    }
}

/// Ends the streams of those who watch a health name. They have heard what it was set to last.
pub(crate) async fn end_health_watches(health: &mut HealthReporter) {
    for name in HEALTH_NAMES {
        health.clear_service_status(name).await;
    }
}

impl DatabaseStartup {
    /// Begins, in a task of its own, which goes on to keep the database's health name true.
    pub(crate) fn spawn(self, health: HealthReporter) -> (JoinHandle<()>, watch::Receiver<Readiness>) {
        let (tell, readiness) = watch::channel(self.readiness_now(ReadinessState::Waiting));
        let task = tokio::spawn(async move {
            let reads = async {
                self.prepare_database(&health, &tell).await;
                self.report_database_health(&health, DATABASE_READS_HEALTH_NAME, Operation::Read).await;
            };
            // Preparing writes where it migrates.
            let writes = self.report_database_health(&health, DATABASE_WRITES_HEALTH_NAME, Operation::Write);
            futures::join!(reads, writes);
        });
        (task, readiness)
    }

    async fn prepare_database(&self, health: &HealthReporter, tell: &watch::Sender<Readiness>) {
        match self.prepare_with_retries().await {
            Ok(()) => {
                tracing::info!("ready: the database can be read, and its schema is right");
                health.set_service_status(READINESS_HEALTH_NAME, ServingStatus::Serving).await;
                // Nobody has to listen.
                tell.send_replace(self.readiness_now(ReadinessState::Ready));
            }
            Err(error) => {
                tracing::error!(%error, "the database cannot be used");
                tell.send_replace(self.readiness_now(ReadinessState::Unusable(Arc::new(error))));
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
                    tracing::warn!(%error, ?wait, "not ready yet: the database is looked at again");
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
                tracing::info!(?applied, "the schema was brought up to date");
            }
        } else {
            migrate::verify(&self.database_client).await?;
        }
        // Without a feed nobody else would learn which database it is.
        let call = Call::within(Lane::Maintenance, IDENTITY_TIMEOUT);
        let identity = identity::read(&self.database_client, call).await?;
        self.database_client.known_database().confirm(&identity, Revision::default(), None);
        // Before they are compared: of two that start at once with different secrets, one is to notice.
        match migrate::record_peppers(&self.database_client, &self.peppers).await {
            // A token that may only read is enough to start, and to compare with what others have noted.
            Err(SchemaError::Store(error)) if !error.kind.is_transient() => {
                tracing::warn!(%error, "the peppers in use could not be noted");
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
        let mut said = None;
        loop {
            let works = conditions.borrow_and_update().map(|condition| condition.is_healthy());
            let status = match (works, trust.borrow_and_update().distrust) {
                (Some(true), None) => ServingStatus::Serving,
                (None, None) => ServingStatus::Unknown,
                (_, Some(_)) | (Some(false), None) => ServingStatus::NotServing,
            };
            // Those who watch the name would be told of every other kind of failure.
            if said.replace(status) != Some(status) {
                health.set_service_status(name, status).await;
            }
            tokio::select! {
                changed = conditions.changed() => if changed.is_err() { return },
                changed = trust.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// A replica that migrates finds nothing older than it knows.
fn is_migration_pending(error: &SchemaError) -> bool {
    matches!(error, SchemaError::Older { .. })
}
