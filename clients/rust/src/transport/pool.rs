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
    names::{self, Resolver},
    replica::Replica,
    token::CurrentToken,
};
use crate::Error;

/// All replicas that the endpoints stand for. Its connections are given up when it goes.
#[derive(Debug)]
pub(crate) struct Pool(Arc<Shared>);

struct Shared {
    targets: Vec<Arc<Target>>,
    token: Arc<Option<CurrentToken>>,
    resolver: Resolver,
    state: Mutex<State>,
    /// Those that can be used.
    connected: Mutex<Arc<[Arc<Connection>]>>,
    turn: AtomicUsize,
    places: AtomicU64,
    is_started: AtomicBool,
    /// Told to who waits for a connection.
    changed: watch::Sender<()>,
    /// Told to who looks names up.
    is_away: Arc<Notify>,
}

#[derive(Default)]
struct State {
    /// By target.
    groups: Vec<Group>,
    lookups: Vec<AbortHandle>,
    is_over: bool,
}

/// What one endpoint stands for.
#[derive(Default)]
struct Group {
    /// `None` before the first lookup is done.
    replicas: Option<Vec<Replica>>,
    failure: Option<String>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("targets", &self.targets).finish_non_exhaustive()
    }
}

impl Pool {
    pub(crate) fn new(targets: Vec<Target>, token: Arc<Option<CurrentToken>>) -> Self {
        Self::resolving(targets, token, names::system())
    }

    fn resolving(targets: Vec<Target>, token: Arc<Option<CurrentToken>>, resolver: Resolver) -> Self {
        let groups = targets.iter().map(|_| Group::default()).collect();
        Self(Arc::new(Shared {
            targets: targets.into_iter().map(Arc::new).collect(),
            token,
            resolver,
            state: Mutex::new(State { groups, ..State::default() }),
            connected: Mutex::new(Arc::new([])),
            // Clients that start together do not all begin with the same replica.
            turn: AtomicUsize::new(fastrand::usize(..)),
            places: AtomicU64::new(0),
            is_started: AtomicBool::new(false),
            changed: watch::Sender::new(()),
            is_away: Arc::new(Notify::new()),
        }))
    }

    /// The connection whose turn it is, preferably to another replica than `avoided`; waits for one while there is hope.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when all replicas are away.
    pub(crate) async fn next(&self, avoided: Option<u64>) -> Result<Arc<Connection>, Error> {
        self.start();
        let mut changed = self.0.changed.subscribe();
        loop {
            let avoided = |connection: &Connection| Some(connection.place()) == avoided;
            let chosen = self
                .pick(|connection| !connection.is_suspect() && !avoided(connection))
                .or_else(|| self.pick(|connection| !connection.is_suspect()))
                .or_else(|| self.pick(|_| true));
            if let Some(connection) = chosen {
                return Ok(connection);
            }
            self.0.is_hopeful()?;
            // The sender is in here.
            let _ = changed.changed().await;
        }
    }

    /// A connection to another replica that is well, if there is one.
    pub(crate) fn other_than(&self, connection: &Connection) -> Option<Arc<Connection>> {
        self.pick(|other| other.place() != connection.place() && !other.is_suspect())
    }

    /// Whether there is a replica that is connected.
    pub(crate) fn is_served(&self) -> bool {
        !self.0.connected().is_empty()
    }

    fn pick(&self, is_fit: impl Fn(&Connection) -> bool) -> Option<Arc<Connection>> {
        let connected = self.0.connected();
        let fit = || connected.iter().filter(|connection| is_fit(connection));
        match fit().count() {
            0 => None,
            // What is fit may be so no more in between.
            count => fit().nth(self.0.turn.fetch_add(1, Ordering::Relaxed) % count).cloned(),
        }
    }

    /// Begins to connect, when it is first used: that needs a runtime.
    fn start(&self) {
        if self.0.is_started.swap(true, Ordering::AcqRel) {
            return;
        }
        for (number, target) in self.0.targets.iter().enumerate() {
            if let Some(address) = target.literal() {
                self.0.found(number, Ok(vec![address]));
                continue;
            }
            let found = {
                let shared = Arc::clone(&self.0);
                move |outcome| shared.found(number, outcome)
            };
            let resolver = Arc::clone(&self.0.resolver);
            let following =
                names::follow(resolver, target.address().clone(), Arc::clone(&self.0.is_away), found);
            self.0.state().lookups.push(tokio::spawn(following).abort_handle());
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.is_over = true;
        for lookup in state.lookups.drain(..) {
            lookup.abort();
        }
        state.groups.clear();
    }
}

impl Shared {
    /// Takes over what a lookup has found. A resolver that fails says nothing about the replicas.
    fn found(self: &Arc<Self>, number: usize, outcome: io::Result<Vec<SocketAddr>>) {
        let mut state = self.state();
        if state.is_over {
            return;
        }
        let Some(group) = state.groups.get_mut(number) else { return };
        let replicas = group.replicas.get_or_insert_default();
        match outcome {
            Ok(addresses) => {
                replicas.retain(|replica| addresses.contains(&replica.address()));
                for address in addresses {
                    if !replicas.iter().any(|replica| replica.address() == address) {
                        replicas.push(self.replica(number, address));
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
        self.refresh();
    }

    fn replica(self: &Arc<Self>, number: usize, address: SocketAddr) -> Replica {
        let place = self.places.fetch_add(1, Ordering::Relaxed);
        // Its task must not keep this alive.
        let shared = Arc::downgrade(self);
        let on_change = move |is_away| {
            if let Some(shared) = shared.upgrade() {
                shared.refresh();
                if is_away {
                    shared.is_away.notify_waiters();
                }
            }
        };
        let (target, token) = (Arc::clone(&self.targets[number]), Arc::clone(&self.token));
        Replica::keep(place, target, address, token, Box::new(on_change))
    }

    fn refresh(&self) {
        let state = self.state();
        let replicas = state.groups.iter().flat_map(|group| group.replicas.iter().flatten());
        *self.connected.lock().unwrap_or_else(PoisonError::into_inner) =
            replicas.filter_map(Replica::connection).collect();
        drop(state);
        self.changed.send_replace(());
    }

    /// Whether a replica may be connected soon.
    ///
    /// # Errors
    /// [`Error::Unreachable`] with what is wrong with one of them.
    fn is_hopeful(&self) -> Result<(), Error> {
        let state = self.state();
        let mut failure = None;
        for group in &state.groups {
            let Some(replicas) = &group.replicas else { return Ok(()) };
            for replica in replicas {
                match replica.is_hopeful() {
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

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
