//! From started to ready: reach the database, bring its schema up to date, check that keys can be found in it.

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinHandle};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::Hop;
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
pub(crate) const PROCESS: &str = "";
/// The health name that says whether to send requests here.
pub(crate) const READY: &str = "tenantauth.v1.ValidationService";
/// The health name of the database, for monitoring: it follows what the last read met.
pub(crate) const DATABASE: &str = "tenantauth.Database";
/// The same for changes: it follows what the last write met. UNKNOWN before the first one: to find out, the server would have to write.
pub(crate) const DATABASE_WRITES: &str = "tenantauth.DatabaseWrites";
/// Every health name.
const NAMES: [&str; 4] = [PROCESS, READY, DATABASE, DATABASE_WRITES];

/// The first wait before another look at a database that does not answer; it doubles up to [`LAST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LAST_WAIT: Duration = Duration::from_secs(5);

/// How long it may take to ask which database it is.
const IDENTITY: Duration = Duration::from_secs(5);

/// How far the preparation has come.
#[derive(Clone, Debug)]
pub(crate) enum State {
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
    pub(crate) state: State,
    pub(crate) since: Moment,
}

/// What it takes to get ready.
pub(crate) struct Preparation {
    pub(crate) hop: Hop,
    pub(crate) peppers: Arc<Peppers>,
    pub(crate) migrate: bool,
    pub(crate) create_schema: bool,
    pub(crate) clock: SharedClock,
}

/// Sets every health name to what it says at the start.
pub(crate) async fn announce_start(health: &HealthReporter) {
    announce_not_ready(health).await;
    health.set_service_status(DATABASE_WRITES, ServingStatus::Unknown).await;
}

/// Sets every health name to NOT_SERVING, before the end.
pub(crate) async fn announce_not_ready(health: &HealthReporter) {
    for name in NAMES {
        health.set_service_status(name, ServingStatus::NotServing).await;
    }
}

/// Ends the streams of those who watch a health name. They have heard what it was set to last.
pub(crate) async fn end_watches(health: &mut HealthReporter) {
    for name in NAMES {
        health.clear_service_status(name).await;
    }
}

impl Preparation {
    /// Begins, in a task of its own, which goes on to keep the database's health name true.
    pub(crate) fn begin(self, health: HealthReporter) -> (JoinHandle<()>, watch::Receiver<Readiness>) {
        let (tell, readiness) = watch::channel(self.now(State::Waiting));
        let task = tokio::spawn(async move {
            let reads = async {
                self.prepare(&health, &tell).await;
                self.follow_database(&health, DATABASE, Operation::Read).await;
            };
            // Preparing writes where it migrates.
            let writes = self.follow_database(&health, DATABASE_WRITES, Operation::Write);
            futures::join!(reads, writes);
        });
        (task, readiness)
    }

    async fn prepare(&self, health: &HealthReporter, tell: &watch::Sender<Readiness>) {
        match self.run().await {
            Ok(()) => {
                tracing::info!("ready: the database can be read, and its schema is right");
                health.set_service_status(READY, ServingStatus::Serving).await;
                // Nobody has to listen.
                tell.send_replace(self.now(State::Ready));
            }
            Err(error) => {
                tracing::error!(%error, "the database cannot be used");
                tell.send_replace(self.now(State::Unusable(Arc::new(error))));
            }
        }
    }

    fn now(&self, state: State) -> Readiness {
        Readiness { state, since: Moment::now(&self.clock) }
    }

    async fn run(&self) -> Result<(), SchemaError> {
        let mut wait = FIRST_WAIT;
        loop {
            match self.attempt().await {
                Err(error) if error.is_passing() || may_be_migrated_by_another(&error) => {
                    tracing::warn!(%error, ?wait, "not ready yet: the database is looked at again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(LAST_WAIT);
                }
                outcome => return outcome,
            }
        }
    }

    async fn attempt(&self) -> Result<(), SchemaError> {
        if self.migrate {
            let applied = match self.create_schema {
                true => migrate::migrate(&self.hop, &self.clock).await?,
                false => migrate::upgrade(&self.hop, &self.clock).await?,
            };
            if !applied.is_empty() {
                tracing::info!(?applied, "the schema was brought up to date");
            }
        } else {
            migrate::verify(&self.hop).await?;
        }
        // Without a feed nobody else would learn which database it is.
        let call = Call::within(Lane::Maintenance, IDENTITY);
        let identity = identity::read(&self.hop, call).await?;
        self.hop.known().believe(&identity, Revision::default(), None);
        // Before they are compared: of two that start at once with different secrets, one is to notice.
        match migrate::note_peppers(&self.hop, &self.peppers).await {
            // A token that may only read is enough to start, and to compare with what others have noted.
            Err(SchemaError::Store(error)) if !error.kind.is_transient() => {
                tracing::warn!(%error, "the peppers in use could not be noted");
            }
            outcome => outcome?,
        }
        migrate::verify_peppers(&self.hop, &self.peppers).await
    }

    async fn follow_database(&self, health: &HealthReporter, name: &'static str, operation: Operation) {
        let mut conditions = self.hop.observed().watch(operation);
        let mut trust = self.hop.known().watch();
        let mut said = None;
        loop {
            let works = conditions.borrow_and_update().map(|condition| condition.works());
            let status = match (works, trust.borrow_and_update().doubt) {
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
fn may_be_migrated_by_another(error: &SchemaError) -> bool {
    matches!(error, SchemaError::Older { .. })
}
