//! The state of the database startup, which most jobs wait for.

use std::sync::Arc;

use tokio::sync::watch;

use crate::{database::migrate::SchemaError, domain::clock::Moment};

/// State of the database startup.
#[derive(Clone, Debug)]
pub(crate) enum ReadinessState {
    /// The database has not responded yet.
    Waiting,
    /// The database is ready.
    Ready,
    /// The database is unusable: an operator has to act.
    Unusable(Arc<SchemaError>),
}

/// State of the database startup, and since when.
#[derive(Clone, Debug)]
pub(crate) struct Readiness {
    pub(crate) state: ReadinessState,
    pub(crate) since: Moment,
}

/// Waits until the database is ready. Returns false if the service ends before.
pub(super) async fn until_ready(readiness: &mut watch::Receiver<Readiness>) -> bool {
    readiness.wait_for(|readiness| matches!(readiness.state, ReadinessState::Ready)).await.is_ok()
}
