//! Streams that a pipeline left open: each is a database connection that is parked until its baton is
//! presented.

use std::{
    collections::HashMap,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rusqlite::Connection;

use crate::counters::SharedCounters;

/// A stream expires after this time without a request.
const STREAM_IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Maximum number of open streams.
const MAX_STREAMS: usize = 128;

/// Why a request gets no stream.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum StreamError {
    /// The stream was idle for too long.
    Expired,
    /// The stream never existed, is in use, or was closed.
    BadBaton,
    /// Too many streams are open.
    Full,
    /// The engine could not open a connection.
    Engine(String),
}

#[derive(Debug)]
pub(crate) struct Streams {
    /// Its file.
    database: Mutex<Arc<Path>>,
    state: Mutex<StreamsState>,
    counters: SharedCounters,
}

#[derive(Debug, Default)]
struct StreamsState {
    now: Duration,
    next_baton: u64,
    parked: HashMap<String, (Duration, Connection)>,
    expired: Vec<String>,
}

impl Streams {
    pub(crate) fn new(database: Arc<Path>, tally: SharedCounters) -> Self {
        Self { database: Mutex::new(database), state: Mutex::default(), counters: tally }
    }

    /// Returns the file of the database that new streams are opened on.
    pub(crate) fn database(&self) -> Arc<Path> {
        Arc::clone(&self.database.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Opens new streams on another database.
    pub(crate) fn replace(&self, database: Arc<Path>) {
        *self.database.lock().unwrap_or_else(PoisonError::into_inner) = database;
    }

    fn state(&self) -> MutexGuard<'_, StreamsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the stream of a baton, or a new one.
    pub(crate) fn open(&self, baton: Option<&str>) -> Result<Connection, StreamError> {
        let mut state = self.state();
        let Some(baton) = baton else {
            if state.parked.len() >= MAX_STREAMS {
                return Err(StreamError::Full);
            }
            drop(state);
            return connect(&self.database()).map_err(|error| StreamError::Engine(error.to_string()));
        };
        if state.expired.iter().any(|expired| expired == baton) {
            return Err(StreamError::Expired);
        }
        let (_, connection) = state.parked.remove(baton).ok_or(StreamError::BadBaton)?;
        self.counters.update(|counters| counters.open_streams -= 1);
        Ok(connection)
    }

    /// Parks a stream for its next request, and returns the baton.
    pub(crate) fn park(&self, connection: Connection) -> String {
        let mut state = self.state();
        state.next_baton += 1;
        let baton = format!("baton-{}", state.next_baton);
        let until = state.now + STREAM_IDLE_TIMEOUT;
        state.parked.insert(baton.clone(), (until, connection));
        self.counters.update(|counters| counters.open_streams += 1);
        baton
    }

    /// Advances the clock. The engine rolls back an expired stream's transaction when its connection closes.
    pub(crate) fn advance(&self, by: Duration) {
        let mut state = self.state();
        state.now += by;
        let now = state.now;
        let over: Vec<String> = state
            .parked
            .iter()
            .filter(|(_, (until, _))| *until <= now)
            .map(|(baton, _)| baton.clone())
            .collect();
        for baton in over {
            state.parked.remove(&baton);
            state.expired.push(baton);
            self.counters.update(|counters| counters.open_streams -= 1);
        }
    }

    /// Drops every stream, as a restart does.
    pub(crate) fn clear(&self) {
        let mut state = self.state();
        let open = state.parked.len() as u64;
        state.parked.clear();
        self.counters.update(|counters| counters.open_streams -= open);
    }
}

/// Opens a connection with the lock timeout of the real server.
pub(crate) fn connect(database: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open(database)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    Ok(connection)
}
