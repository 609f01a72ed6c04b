//! The replicas behind the endpoints, one connection each.

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

/// All replicas that the endpoints stand for. Its connections are given up when it goes.
#[derive(Debug)]
pub(crate) struct Pool(Arc<PoolShared>);

struct PoolShared {
    targets: Vec<Arc<Target>>,
    token: Arc<Option<CurrentToken>>,
    resolver: Resolver,
    state: Mutex<PoolState>,
    /// Those that can be used.
    connected: Mutex<Arc<[Arc<Connection>]>>,
    next_index: AtomicUsize,
    next_replica_id: AtomicU64,
    is_started: AtomicBool,
    /// Told to who waits for a connection.
    changes: watch::Sender<()>,
    /// Told to who looks names up.
    replica_lost: Arc<Notify>,
}

#[derive(Default)]
struct PoolState {
    /// By target.
    groups: Vec<EndpointReplicas>,
    lookups: Vec<AbortHandle>,
    is_closed: bool,
}

/// What one endpoint stands for.
#[derive(Default)]
struct EndpointReplicas {
    /// `None` before the first lookup is done.
    replicas: Option<Vec<Replica>>,
    failure: Option<String>,
}

impl std::fmt::Debug for PoolShared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("targets", &self.targets).finish_non_exhaustive()
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
            // Clients that start together do not all begin with the same replica.
            next_index: AtomicUsize::new(fastrand::usize(..)),
            next_replica_id: AtomicU64::new(0),
            is_started: AtomicBool::new(false),
            changes: watch::Sender::new(()),
            replica_lost: Arc::new(Notify::new()),
        }))
    }

    /// The connection whose turn it is, preferably to another replica than `avoided`; waits for one while there is hope.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when all replicas are away.
    pub(crate) async fn next_connection(&self, avoided: Option<u64>) -> Result<Arc<Connection>, Error> {
        self.start();
        let mut changed = self.0.changes.subscribe();
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
            // The sender is in here.
            let _ = changed.changed().await;
        }
    }

    /// A connection to another replica that is well, if there is one.
    pub(crate) fn alternative_to(&self, connection: &Connection) -> Option<Arc<Connection>> {
        self.pick(|other| other.replica_id() != connection.replica_id() && !other.is_suspect())
    }

    /// Whether there is a replica that is connected.
    pub(crate) fn is_connected(&self) -> bool {
        !self.0.connected().is_empty()
    }

    fn pick(&self, is_fit: impl Fn(&Connection) -> bool) -> Option<Arc<Connection>> {
        let connected = self.0.connected();
        let fit = || connected.iter().filter(|connection| is_fit(connection));
        match fit().count() {
            0 => None,
            // What is fit may be so no more in between.
            count => fit().nth(self.0.next_index.fetch_add(1, Ordering::Relaxed) % count).cloned(),
        }
    }

    /// Begins to connect, when it is first used: that needs a runtime.
    fn start(&self) {
        if self.0.is_started.swap(true, Ordering::AcqRel) {
            return;
        }
        for (number, target) in self.0.targets.iter().enumerate() {
            if let Some(address) = target.literal_address() {
                self.0.apply_lookup(number, Ok(vec![address]));
                continue;
            }
            let found = {
                let shared = Arc::clone(&self.0);
                move |outcome| shared.apply_lookup(number, outcome)
            };
            let resolver = Arc::clone(&self.0.resolver);
            let following = resolver::watch_name(
                resolver,
                target.address().clone(),
                Arc::clone(&self.0.replica_lost),
                found,
            );
            self.0.state().lookups.push(tokio::spawn(following).abort_handle());
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
    /// Takes over what a lookup has found. A resolver that fails says nothing about the replicas.
    fn apply_lookup(self: &Arc<Self>, number: usize, outcome: io::Result<Vec<SocketAddr>>) {
        let mut state = self.state();
        if state.is_closed {
            return;
        }
        let Some(group) = state.groups.get_mut(number) else { return };
        let replicas = group.replicas.get_or_insert_default();
        match outcome {
            Ok(addresses) => {
                replicas.retain(|replica| addresses.contains(&replica.address()));
                for address in addresses {
                    if !replicas.iter().any(|replica| replica.address() == address) {
                        replicas.push(self.spawn_replica(number, address));
                    }
                }
                group.failure = None;
            }
            Err(error) => {
                let name = self.targets[number].address();
                tracing::debug!(%name, %error, "a name was not resolved");
                group.failure = Some(format!("{name} was not resolved: {error}"));
            }
        }
        drop(state);
        self.update_connected();
    }

    fn spawn_replica(self: &Arc<Self>, number: usize, address: SocketAddr) -> Replica {
        let place = self.next_replica_id.fetch_add(1, Ordering::Relaxed);
        // Its task must not keep this alive.
        let shared = Arc::downgrade(self);
        let on_change = move |is_away| {
            if let Some(shared) = shared.upgrade() {
                shared.update_connected();
                if is_away {
                    shared.replica_lost.notify_waiters();
                }
            }
        };
        let (target, token) = (Arc::clone(&self.targets[number]), Arc::clone(&self.token));
        Replica::spawn(place, target, address, token, Box::new(on_change))
    }

    fn update_connected(&self) {
        let state = self.state();
        let replicas = state.groups.iter().flat_map(|group| group.replicas.iter().flatten());
        *self.connected.lock().unwrap_or_else(PoisonError::into_inner) =
            replicas.filter_map(Replica::connection).collect();
        drop(state);
        self.changes.send_replace(());
    }

    /// Whether a replica may be connected soon.
    ///
    /// # Errors
    /// [`Error::Unreachable`] with what is wrong with one of them.
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
        let nowhere = || unresolved().unwrap_or_else(|| "no endpoint has an address".to_owned());
        Err(failure.unwrap_or_else(|| Error::Unreachable { message: nowhere() }))
    }

    fn connected(&self) -> Arc<[Arc<Connection>]> {
        Arc::clone(&self.connected.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn state(&self) -> MutexGuard<'_, PoolState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
