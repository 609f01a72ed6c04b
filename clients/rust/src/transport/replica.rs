//! One address and the task that keeps a connection to it.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    task::AbortHandle,
    time::{Instant, sleep},
};

use super::{Connection, Target, token::CurrentToken};
use crate::Error;

/// Delay before an unreachable address is tried again.
const RECONNECT_DELAY: Duration = Duration::from_secs(1);

/// A replica. Dropping it stops its connection task.
#[derive(Debug)]
pub(super) struct Replica {
    address: SocketAddr,
    phase: Arc<Mutex<ConnectionPhase>>,
    task: AbortHandle,
}

#[derive(Clone, Debug)]
enum ConnectionPhase {
    Connecting,
    Connected(Arc<Connection>),
    Disconnected(Error),
}

/// Callback for a change of the connection; the argument is whether the connection was lost.
pub(super) type OnChange = Box<dyn Fn(bool) + Send + Sync>;

impl Replica {
    /// Starts to connect. Must be called within a Tokio runtime.
    pub(super) fn spawn(
        replica_id: u64,
        target: Arc<Target>,
        address: SocketAddr,
        token: Arc<Option<CurrentToken>>,
        on_change: OnChange,
    ) -> Self {
        let phase = Arc::new(Mutex::new(ConnectionPhase::Connecting));
        let task = {
            let phase = Arc::clone(&phase);
            tokio::spawn(async move {
                let set = |next: ConnectionPhase| {
                    let is_lost = matches!(next, ConnectionPhase::Disconnected(_));
                    *lock(&phase) = next;
                    on_change(is_lost);
                };
                loop {
                    let started_at = Instant::now();
                    let lost = match Connection::connect(replica_id, &target, address, Arc::clone(&token))
                        .await
                    {
                        Ok(connection) => {
                            let connection = Arc::new(connection);
                            set(ConnectionPhase::Connected(Arc::clone(&connection)));
                            connection.closed().await;
                            Error::Unreachable { message: format!("the connection to {address} was lost") }
                        }
                        Err(error) => error,
                    };
                    tracing::debug!(%address, error = %lost, "replica disconnected");
                    set(ConnectionPhase::Disconnected(lost));
                    // The delay applies from the start: a replica that accepts connections and drops them is
                    // no better than one that refuses them.
                    sleep((started_at + RECONNECT_DELAY).saturating_duration_since(Instant::now())).await;
                    set(ConnectionPhase::Connecting);
                }
            })
        };
        Self { address, phase, task: task.abort_handle() }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn connection(&self) -> Option<Arc<Connection>> {
        match &*lock(&self.phase) {
            ConnectionPhase::Connected(connection) => Some(Arc::clone(connection)),
            ConnectionPhase::Connecting | ConnectionPhase::Disconnected(_) => None,
        }
    }

    /// Returns `Ok` if the replica may be connected soon, otherwise its last error.
    pub(super) fn check_reachable(&self) -> Result<(), Error> {
        match &*lock(&self.phase) {
            ConnectionPhase::Connecting | ConnectionPhase::Connected(_) => Ok(()),
            ConnectionPhase::Disconnected(error) => Err(error.clone()),
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(phase: &Mutex<ConnectionPhase>) -> MutexGuard<'_, ConnectionPhase> {
    phase.lock().unwrap_or_else(PoisonError::into_inner)
}
