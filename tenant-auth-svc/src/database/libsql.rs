//! The embedded engine: a local file that belongs to this process alone.
//!
//! The `libsql` crate's local calls are async in name and block the thread that polls them, so they run on threads of
//! their own: a slow disk must not stall a single RPC that is answered from memory.

mod lock;
mod run;

use std::{path::Path, sync::Arc, thread};

use futures::executor::block_on;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

pub use self::lock::{DatabaseLock, LockError};
use super::engine::{Engine, Rows, Statement, Transaction, TransactionResult, require_rows};
use crate::domain::store::{Call, FailureKind, StoreError};

/// Readers see the last commit while one writer works: the write-ahead log allows any number of them.
const READER_THREADS: usize = 2;
/// Waiting calls per kind; more are refused, since they would wait in vain.
const MAX_QUEUED_JOBS: usize = 1_024;

/// Why the embedded database could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Somebody else has it, or the lock cannot be made.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The engine refuses the file.
    #[error("cannot open the embedded database {path}: {source}")]
    Engine {
        /// The file.
        path: String,
        /// What the engine says.
        source: libsql::Error,
    },
    /// The operating system refuses threads.
    #[error("cannot start the embedded database's threads: {0}")]
    Threads(std::io::Error),
}

/// The embedded engine.
#[derive(Debug)]
pub struct EmbeddedEngine {
    reads: mpsc::Sender<Job>,
    writes: mpsc::Sender<Job>,
    _lock: DatabaseLock,
}

/// What a thread does next, and whom it tells.
struct Job {
    work: JobKind,
    answer: oneshot::Sender<TransactionResult>,
}

enum JobKind {
    Query(Statement),
    Transaction(Transaction),
}

impl EmbeddedEngine {
    /// Opens a database file, creating it and its folder when they are not there.
    ///
    /// # Errors
    /// [`OpenError::Lock`] when another process has it.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let lock = DatabaseLock::acquire(path)?;
        let failed = |source| OpenError::Engine { path: path.display().to_string(), source };
        let database = block_on(libsql::Builder::new_local(path).build()).map_err(failed)?;

        let (reads, read_jobs) = mpsc::channel::<Job>(MAX_QUEUED_JOBS);
        let (writes, mut write_jobs) = mpsc::channel::<Job>(MAX_QUEUED_JOBS);
        let read_jobs = Arc::new(std::sync::Mutex::new(read_jobs));
        let writer = run::connect(&database).map_err(failed)?;
        spawn_thread("libsql-write", move || {
            while let Some(job) = write_jobs.blocking_recv() {
                job.run(&writer);
            }
        })?;
        for _ in 0..READER_THREADS {
            let reader = run::connect(&database).map_err(failed)?;
            let jobs = Arc::clone(&read_jobs);
            // Whoever holds the mutex waits for the next job; the others wait for the mutex.
            spawn_thread("libsql-read", move || {
                while let Some(job) = jobs.lock().ok().and_then(|mut jobs| jobs.blocking_recv()) {
                    job.run(&reader);
                }
            })?;
        }
        Ok(Self { reads, writes, _lock: lock })
    }

    async fn run(&self, queue: &mpsc::Sender<Job>, call: Call, work: JobKind) -> TransactionResult {
        let (answer, answered) = oneshot::channel();
        queue.try_send(Job { work, answer }).map_err(|refused| match refused {
            mpsc::error::TrySendError::Full(_) => {
                StoreError::new(FailureKind::Overloaded, "too many calls wait for the embedded database")
            }
            mpsc::error::TrySendError::Closed(_) => thread_gone_error(),
        })?;
        match tokio::time::timeout_at(call.deadline.into(), answered).await {
            Ok(answer) => answer.unwrap_or_else(|_| Err(thread_gone_error())),
            Err(_) => {
                Err(StoreError::new(FailureKind::TimedOut, "the embedded database did not answer in time"))
            }
        }
    }
}

impl Job {
    fn run(self, connection: &libsql::Connection) {
        // Nobody waits any longer: what has not begun need not be done.
        if self.answer.is_closed() {
            return;
        }
        let outcome = match &self.work {
            JobKind::Query(statement) => run::query(connection, statement).map(|rows| vec![rows]),
            JobKind::Transaction(statements) => run::transaction(connection, statements),
        };
        // The caller may have left meanwhile.
        let _ = self.answer.send(outcome);
    }
}

impl Engine for EmbeddedEngine {
    async fn query(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        let rows = self.run(&self.reads, call, JobKind::Query(statement)).await?;
        rows.into_iter().next().ok_or_else(thread_gone_error).and_then(require_rows)
    }

    async fn transactions(&self, call: Call, transactions: Vec<Transaction>) -> Vec<TransactionResult> {
        let mut outcomes = Vec::with_capacity(transactions.len());
        for statements in transactions {
            outcomes.push(self.run(&self.writes, call, JobKind::Transaction(statements)).await);
        }
        outcomes
    }
}

fn spawn_thread(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), OpenError> {
    thread::Builder::new().name(name.to_owned()).spawn(body).map(|_| ()).map_err(OpenError::Threads)
}

fn thread_gone_error() -> StoreError {
    StoreError::new(FailureKind::Internal, "the embedded database's thread is gone")
}
