//! The replicas behind the endpoints, one connection each.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;
use tonic::transport::Channel;

use super::Target;
use crate::Error;

/// How long names are good for: replicas come and go.
const RESOLVED_FOR: Duration = Duration::from_secs(30);
/// How long a replica that could not be reached is left out while there are others.
const LEFT_OUT_FOR: Duration = Duration::from_secs(1);

/// All replicas that the endpoints' names stand for.
#[derive(Clone, Debug)]
pub(crate) struct Pool(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    targets: Vec<Target>,
    state: Mutex<State>,
    turn: AtomicUsize,
    /// One lookup at a time; the others wait for it, if there is nothing to go on with.
    lookup: tokio::sync::Mutex<()>,
    looking_up: AtomicBool,
}

#[derive(Debug)]
struct State {
    replicas: Arc<[Arc<Replica>]>,
    resolved_at: Option<Instant>,
}

/// One address, and its connection.
#[derive(Debug)]
pub(crate) struct Replica {
    /// Of which target, and where.
    place: (usize, SocketAddr),
    channel: Channel,
    left_out_until: Mutex<Option<Instant>>,
}

impl Replica {
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn answered(&self, asked_at: Instant) {
        let mut left_out = self.left_out();
        // One that drains answers what it was asked before it failed others: that says nothing about now.
        if left_out.is_some_and(|until| until <= asked_at + LEFT_OUT_FOR) {
            *left_out = None;
        }
    }

    pub(crate) fn failed(&self) {
        *self.left_out() = Some(Instant::now() + LEFT_OUT_FOR);
    }

    fn is_left_out(&self, now: Instant) -> bool {
        self.left_out().is_some_and(|until| now < until)
    }

    fn left_out(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.left_out_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    pub(crate) fn new(targets: Vec<Target>) -> Self {
        Self(Arc::new(Shared {
            targets,
            state: Mutex::new(State { replicas: Arc::new([]), resolved_at: None }),
            // Clients that start together do not all begin with the same replica.
            turn: AtomicUsize::new(fastrand::usize(..)),
            lookup: tokio::sync::Mutex::new(()),
            looking_up: AtomicBool::new(false),
        }))
    }

    /// The replica whose turn it is, without those that just failed, as long as there are others.
    pub(crate) async fn next(&self) -> Result<Arc<Replica>, Error> {
        let (replicas, due) = self.known();
        let replicas = if replicas.is_empty() {
            self.resolve().await?
        } else {
            if due {
                self.resolve_behind();
            }
            replicas
        };
        let turn = self.0.turn.fetch_add(1, Ordering::Relaxed) % replicas.len();
        let now = Instant::now();
        let in_turn = || replicas[turn..].iter().chain(&replicas[..turn]);
        let chosen = in_turn().find(|replica| !replica.is_left_out(now)).or_else(|| {
            // Names may stand for other replicas by now.
            self.resolve_behind();
            in_turn().next()
        });
        chosen.cloned().ok_or_else(|| nowhere("no endpoint has an address"))
    }

    /// Whether there is a replica that did not just fail.
    pub(crate) fn is_served(&self) -> bool {
        let now = Instant::now();
        self.known().0.iter().any(|replica| !replica.is_left_out(now))
    }

    /// Connects to the first replica that can be reached.
    pub(crate) async fn connect(&self) -> Result<(), Error> {
        let replicas = self.resolve().await?;
        let mut failure = nowhere("no endpoint has an address");
        for replica in replicas.iter() {
            let (target, address) = replica.place;
            match self.0.targets[target].endpoint(address)?.connect().await {
                Ok(channel) => {
                    let connected =
                        Arc::new(Replica { place: replica.place, channel, left_out_until: Mutex::new(None) });
                    let swapped = |other: &Arc<Replica>| {
                        Arc::clone(if other.place == connected.place { &connected } else { other })
                    };
                    let mut state = self.state();
                    state.replicas = state.replicas.iter().map(swapped).collect();
                    return Ok(());
                }
                Err(error) => failure = Error::from_transport(&error),
            }
        }
        Err(failure)
    }

    fn known(&self) -> (Arc<[Arc<Replica>]>, bool) {
        let state = self.state();
        let due = state.resolved_at.is_none_or(|at| at.elapsed() > RESOLVED_FOR);
        (Arc::clone(&state.replicas), due)
    }

    fn resolve_behind(&self) {
        let has_names = self.0.targets.iter().any(|target| target.address().is_none());
        if has_names && !self.0.looking_up.swap(true, Ordering::AcqRel) {
            let pool = self.clone();
            tokio::spawn(async move {
                if let Err(error) = pool.look_up().await {
                    tracing::warn!(%error, "names were not resolved; the addresses known so far are used");
                }
                pool.0.looking_up.store(false, Ordering::Release);
            });
        }
    }

    async fn resolve(&self) -> Result<Arc<[Arc<Replica>]>, Error> {
        let _one_at_a_time = self.0.lookup.lock().await;
        let (replicas, _) = self.known();
        if replicas.is_empty() { self.look_up().await } else { Ok(replicas) }
    }

    async fn look_up(&self) -> Result<Arc<[Arc<Replica>]>, Error> {
        let (known, _) = self.known();
        let mut replicas: Vec<Arc<Replica>> = Vec::new();
        let mut failure = None;
        for (number, target) in self.0.targets.iter().enumerate() {
            let addresses = match target.addresses().await {
                Ok(addresses) => addresses,
                Err(error) => {
                    failure = Some(nowhere(&error.to_string()));
                    // A resolver that fails says nothing about the replicas.
                    known.iter().filter(|replica| replica.place.0 == number).map(|r| r.place.1).collect()
                }
            };
            for address in addresses {
                let place = (number, address);
                if replicas.iter().any(|replica| replica.place == place) {
                    continue;
                }
                let kept = known.iter().find(|replica| replica.place == place).cloned();
                replicas.push(match kept {
                    Some(replica) => replica,
                    None => Arc::new(Replica {
                        place,
                        channel: target.endpoint(address)?.connect_lazy(),
                        left_out_until: Mutex::new(None),
                    }),
                });
            }
        }
        if replicas.is_empty() {
            return Err(failure.unwrap_or_else(|| nowhere("no endpoint has an address")));
        }
        let replicas: Arc<[_]> = replicas.into();
        let mut state = self.state();
        state.replicas = Arc::clone(&replicas);
        state.resolved_at = Some(Instant::now());
        Ok(replicas)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nowhere(message: &str) -> Error {
    Error::Unreachable { message: message.to_owned() }
}
