//! The embedded engine: a local file that only this process uses.
//!
//! The local calls of the `libsql` crate are async in name and block the thread that polls them, so they run on their
//! own threads: a slow disk must not stall RPCs that are answered from the cache.

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
/// Maximum number of queued calls per kind; more are rejected, because they would not run before their deadline.
const MAX_QUEUED_JOBS: usize = 1_024;

/// Why the embedded database could not be opened.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process uses it, or the lock file cannot be created.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// The engine rejects the file.
    #[error("cannot open the embedded database {path}: {source}")]
    Engine {
        /// The file.
        path: String,
        /// The error of the engine.
        source: libsql::Error,
    },
    /// The operating system cannot start threads.
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

/// A job of a thread, and the receiver of its result.
struct Job {
    work: JobKind,
    reply: oneshot::Sender<TransactionResult>,
}

enum JobKind {
    Query(Statement),
    Transaction(Transaction),
}

impl EmbeddedEngine {
    /// Opens a database file; creates it and its folder if they do not exist.
    ///
    /// # Errors
    /// [`OpenError::Lock`] when another process uses it.
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
            // The thread that holds the mutex waits for the next job; the others wait for the mutex.
            spawn_thread("libsql-read", move || {
                while let Some(job) = jobs.lock().ok().and_then(|mut jobs| jobs.blocking_recv()) {
                    job.run(&reader);
                }
            })?;
        }
        Ok(Self { reads, writes, _lock: lock })
    }

    async fn run(&self, queue: &mpsc::Sender<Job>, call: Call, work: JobKind) -> TransactionResult {
        let (reply, receiver) = oneshot::channel();
        queue.try_send(Job { work, reply }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                StoreError::new(FailureKind::Overloaded, "too many queued calls to the embedded database")
            }
            mpsc::error::TrySendError::Closed(_) => thread_gone_error(),
        })?;
        match tokio::time::timeout_at(call.deadline.into(), receiver).await {
            Ok(result) => result.unwrap_or_else(|_| Err(thread_gone_error())),
            Err(_) => Err(StoreError::new(
                FailureKind::TimedOut,
                "the embedded database did not respond before the deadline",
            )),
        }
    }
}

impl Job {
    fn run(self, connection: &libsql::Connection) {
        // The caller has disconnected: a job that has not started is dropped.
        if self.reply.is_closed() {
            return;
        }
        let outcome = match &self.work {
            JobKind::Query(statement) => run::query(connection, statement).map(|rows| vec![rows]),
            JobKind::Transaction(statements) => run::transaction(connection, statements),
        };
        // The caller may have disconnected meanwhile.
        let _ = self.reply.send(outcome);
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
    StoreError::new(FailureKind::Internal, "the embedded database's thread has ended")
}
