//! The replicas of the endpoints, with one connection each.

#[cfg(test)]
mod tests;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use tokio::{
    sync::{Notify, watch},
    task::AbortHandle,
};

use super::{
    Connection, Target,
    replica::Replica,
    resolver::{self, Resolver},
    token::CurrentToken,
};
use crate::Error;

/// All replicas of the endpoints. Dropping the pool closes their connections.
#[derive(Debug)]
pub(crate) struct Pool(Arc<PoolShared>);

struct PoolShared {
    targets: Vec<Arc<Target>>,
    token: Arc<Option<CurrentToken>>,
    resolver: Resolver,
    state: Mutex<PoolState>,
    /// The usable connections.
    connected: Mutex<Arc<[Arc<Connection>]>>,
    next_index: AtomicUsize,
    next_replica_id: AtomicU64,
    is_started: AtomicBool,
    /// Notifies the calls that wait for a connection.
    changes: watch::Sender<()>,
    /// Notifies the tasks that resolve names.
    replica_lost: Arc<Notify>,
}

#[derive(Default)]
struct PoolState {
    /// One entry per target.
    groups: Vec<EndpointReplicas>,
    lookups: Vec<AbortHandle>,
    is_closed: bool,
}

/// The replicas of one endpoint.
#[derive(Default)]
struct EndpointReplicas {
    /// `None` before the first lookup has finished.
    replicas: Option<Vec<Replica>>,
    failure: Option<String>,
}

impl std::fmt::Debug for PoolShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolShared").field("targets", &self.targets).finish_non_exhaustive()
    }
}

impl Pool {
    pub(crate) fn new(targets: Vec<Target>, token: Arc<Option<CurrentToken>>) -> Self {
        Self::with_resolver(targets, token, resolver::system_resolver())
    }

    fn with_resolver(targets: Vec<Target>, token: Arc<Option<CurrentToken>>, resolver: Resolver) -> Self {
        let groups = targets.iter().map(|_| EndpointReplicas::default()).collect();
        Self(Arc::new(PoolShared {
            targets: targets.into_iter().map(Arc::new).collect(),
            token,
            resolver,
            state: Mutex::new(PoolState { groups, ..PoolState::default() }),
            connected: Mutex::new(Arc::new([])),
            // A random start, so that clients that start together do not all begin with the same replica.
            next_index: AtomicUsize::new(fastrand::usize(..)),
            next_replica_id: AtomicU64::new(0),
            is_started: AtomicBool::new(false),
            changes: watch::Sender::new(()),
            replica_lost: Arc::new(Notify::new()),
        }))
    }

    /// Returns the next connection in turn, preferably to another replica than `avoided`; waits while one may
    /// become available.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if all replicas are disconnected.
    pub(crate) async fn next_connection(&self, avoided: Option<u64>) -> Result<Arc<Connection>, Error> {
        self.start();
        let mut changes = self.0.changes.subscribe();
        loop {
            let avoided = |connection: &Connection| Some(connection.replica_id()) == avoided;
            let chosen = self
                .pick(|connection| !connection.is_suspect() && !avoided(connection))
                .or_else(|| self.pick(|connection| !connection.is_suspect()))
                .or_else(|| self.pick(|_| true));
            if let Some(connection) = chosen {
                return Ok(connection);
            }
            self.0.check_reachable()?;
            // The sender lives in `self`, so this cannot fail.
            let _ = changes.changed().await;
        }
    }

    /// Returns a connection to another healthy replica, if there is one.
    pub(crate) fn alternative_to(&self, connection: &Connection) -> Option<Arc<Connection>> {
        self.pick(|other| other.replica_id() != connection.replica_id() && !other.is_suspect())
    }

    /// Returns whether any replica is connected.
    pub(crate) fn is_connected(&self) -> bool {
        !self.0.connected().is_empty()
    }

    fn pick(&self, is_eligible: impl Fn(&Connection) -> bool) -> Option<Arc<Connection>> {
        let connected = self.0.connected();
        let eligible = || connected.iter().filter(|connection| is_eligible(connection));
        match eligible().count() {
            0 => None,
            // A connection may stop being eligible between `count` and `nth`.
            count => eligible().nth(self.0.next_index.fetch_add(1, Ordering::Relaxed) % count).cloned(),
        }
    }

    /// Starts to connect on first use, because that needs a runtime.
    fn start(&self) {
        if self.0.is_started.swap(true, Ordering::AcqRel) {
            return;
        }
        for (target_index, target) in self.0.targets.iter().enumerate() {
            if let Some(address) = target.literal_address() {
                self.0.apply_lookup(target_index, Ok(vec![address]));
                continue;
            }
            let on_lookup = {
                let shared = Arc::clone(&self.0);
                move |outcome| shared.apply_lookup(target_index, outcome)
            };
            let resolver = Arc::clone(&self.0.resolver);
            let watching = resolver::watch_name(
                resolver,
                target.address().clone(),
                Arc::clone(&self.0.replica_lost),
                on_lookup,
            );
            self.0.state().lookups.push(tokio::spawn(watching).abort_handle());
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_closed = true;
        for lookup in state.lookups.drain(..) {
            lookup.abort();
        }
        state.groups.clear();
    }
}

impl PoolShared {
    /// Applies the outcome of a lookup. A failed lookup does not change the replicas.
    fn apply_lookup(self: &Arc<Self>, target_index: usize, outcome: io::Result<Vec<SocketAddr>>) {
        let mut state = self.state();
        if state.is_closed {
            return;
        }
        let Some(group) = state.groups.get_mut(target_index) else { return };
        let replicas = group.replicas.get_or_insert_default();
        match outcome {
            Ok(addresses) => {
                replicas.retain(|replica| addresses.contains(&replica.address()));
                for address in addresses {
                    if !replicas.iter().any(|replica| replica.address() == address) {
                        replicas.push(self.spawn_replica(target_index, address));
                    }
                }
                group.failure = None;
            }
            Err(error) => {
                let name = self.targets[target_index].address();
                tracing::debug!(%name, %error, "endpoint name could not be resolved");
                group.failure = Some(format!("cannot resolve {name}: {error}"));
            }
        }
        drop(state);
        self.update_connected();
    }

    fn spawn_replica(self: &Arc<Self>, target_index: usize, address: SocketAddr) -> Replica {
        let replica_id = self.next_replica_id.fetch_add(1, Ordering::Relaxed);
        // A weak reference: the task must not keep the pool alive.
        let shared = Arc::downgrade(self);
        let on_change = move |is_lost| {
            if let Some(shared) = shared.upgrade() {
                shared.update_connected();
                if is_lost {
                    shared.replica_lost.notify_waiters();
                }
            }
        };
        let (target, token) = (Arc::clone(&self.targets[target_index]), Arc::clone(&self.token));
        Replica::spawn(replica_id, target, address, token, Box::new(on_change))
    }

    fn update_connected(&self) {
        let state = self.state();
        let replicas = state.groups.iter().flat_map(|group| group.replicas.iter().flatten());
        *self.connected.lock().unwrap_or_else(PoisonError::into_inner) =
            replicas.filter_map(Replica::connection).collect();
        drop(state);
        self.changes.send_replace(());
    }

    /// Checks whether any replica may be connected soon.
    ///
    /// # Errors
    /// [`Error::Unreachable`] with the error of one of them.
    fn check_reachable(&self) -> Result<(), Error> {
        let state = self.state();
        let mut failure = None;
        for group in &state.groups {
            let Some(replicas) = &group.replicas else { return Ok(()) };
            for replica in replicas {
                match replica.check_reachable() {
                    Ok(()) => return Ok(()),
                    Err(error) => failure = Some(error),
                }
            }
        }
        let unresolved = || state.groups.iter().find_map(|group| group.failure.clone());
        let reason = || unresolved().unwrap_or_else(|| "no endpoint has an address".to_owned());
        Err(failure.unwrap_or_else(|| Error::Unreachable { message: reason() }))
    }

    fn connected(&self) -> Arc<[Arc<Connection>]> {
        Arc::clone(&self.connected.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
