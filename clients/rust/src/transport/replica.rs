//! One address, and the task that keeps a connection to it.

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

/// Before an address that could not be reached is tried again.
const PAUSE: Duration = Duration::from_secs(1);

/// A replica; nobody connects to it any more when this goes.
#[derive(Debug)]
pub(super) struct Replica {
    address: SocketAddr,
    phase: Arc<Mutex<Phase>>,
    keeper: AbortHandle,
}

#[derive(Clone, Debug)]
enum Phase {
    Connecting,
    Connected(Arc<Connection>),
    Away(Error),
}

/// What is to be done when something has changed; says whether it went away.
pub(super) type OnChange = Box<dyn Fn(bool) + Send + Sync>;

impl Replica {
    /// Begins to connect. Must be called within a Tokio runtime.
    pub(super) fn keep(
        place: u64,
        target: Arc<Target>,
        address: SocketAddr,
        token: Arc<Option<CurrentToken>>,
        on_change: OnChange,
    ) -> Self {
        let phase = Arc::new(Mutex::new(Phase::Connecting));
        let keeper = {
            let phase = Arc::clone(&phase);
            tokio::spawn(async move {
                let set = |next: Phase| {
                    let is_away = matches!(next, Phase::Away(_));
                    *lock(&phase) = next;
                    on_change(is_away);
                };
                loop {
                    let began = Instant::now();
                    let lost = match Connection::establish(place, &target, address, Arc::clone(&token)).await
                    {
                        Ok(connection) => {
                            let connection = Arc::new(connection);
                            set(Phase::Connected(Arc::clone(&connection)));
                            connection.ended().await;
                            Error::Unreachable { message: format!("the connection to {address} was lost") }
                        }
                        Err(error) => error,
                    };
                    tracing::debug!(%address, error = %lost, "a replica is away");
                    set(Phase::Away(lost));
                    // One that takes connections and drops them is no better than one that refuses them.
                    sleep((began + PAUSE).saturating_duration_since(Instant::now())).await;
                    set(Phase::Connecting);
                }
            })
        };
        Self { address, phase, keeper: keeper.abort_handle() }
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn connection(&self) -> Option<Arc<Connection>> {
        match &*lock(&self.phase) {
            Phase::Connected(connection) => Some(Arc::clone(connection)),
            Phase::Connecting | Phase::Away(_) => None,
        }
    }

    /// Whether it may be connected soon; else why it is not.
    pub(super) fn is_hopeful(&self) -> Result<(), Error> {
        match &*lock(&self.phase) {
            Phase::Connecting | Phase::Connected(_) => Ok(()),
            Phase::Away(error) => Err(error.clone()),
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

fn lock(phase: &Mutex<Phase>) -> MutexGuard<'_, Phase> {
    phase.lock().unwrap_or_else(PoisonError::into_inner)
}
