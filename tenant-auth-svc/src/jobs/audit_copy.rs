//! Copying the audit log out of the database: what is left of it when the database is lost or restored.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use thiserror::Error;
use tokio::sync::{Mutex, watch};

use super::audit_file::AuditFile;
use crate::{
    domain::{
        audit::{AuditMark, AuditStore as _},
        clock::{SharedClock, UnixMillis},
        known::KnownDatabase,
        page::PageSize,
        store::{Call, Lane, StoreError},
    },
    server::{
        Database,
        readiness::{Readiness, State},
    },
};

/// Between two looks for what is new. Each costs one row of what was written last, and those that are new.
const EVERY: Duration = Duration::from_secs(5);
/// How long one page may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Entries in one page.
const PAGE: PageSize = PageSize::of(500);

/// What is told of it.
#[derive(Debug, Default)]
pub(crate) struct AuditCopyCounts {
    entries: AtomicU64,
    failures: AtomicU64,
    complete_at: AtomicI64,
}

impl AuditCopyCounts {
    /// Entries written by this process.
    pub(crate) fn entries(&self) -> u64 {
        self.entries.load(Ordering::Relaxed)
    }

    /// Looks that did not come to their end.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// When the file last had every entry, or when this process began to write it; 0 where it does not.
    pub(crate) fn complete_at(&self) -> UnixMillis {
        UnixMillis(self.complete_at.load(Ordering::Relaxed))
    }
}

/// Copies the log to a file. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct AuditCopy {
    pub(crate) database: Database,
    pub(crate) known: Arc<KnownDatabase>,
    pub(crate) clock: SharedClock,
    pub(crate) counts: Arc<AuditCopyCounts>,
    path: PathBuf,
    writing: Arc<Mutex<Writing>>,
}

/// What this process has of the file.
#[derive(Debug, Default)]
enum Writing {
    /// Nothing yet.
    #[default]
    NotOpen,
    /// Another process writes it.
    Elsewhere,
    /// It is written here, up to that entry.
    Here(AuditFile, Option<AuditMark>),
}

/// Why the file does not have every entry.
#[derive(Debug, Error)]
pub enum AuditCopyError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Where it is.
        path: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The log cannot be read.
    #[error("the audit log cannot be read: {0}")]
    Database(#[from] StoreError),
    /// The service is ending.
    #[error("the service is ending")]
    Ending,
}

impl AuditCopy {
    /// Opens the file, so that one that cannot be written is noticed at the start.
    pub(crate) fn begin(
        database: Database,
        known: Arc<KnownDatabase>,
        clock: SharedClock,
        path: PathBuf,
    ) -> Result<Self, AuditCopyError> {
        let counts = Arc::default();
        let copy = Self { database, known, clock, counts, path, writing: Arc::default() };
        let opened = copy.open()?;
        Ok(Self { writing: Arc::new(Mutex::new(opened)), ..copy })
    }

    /// Looks for new entries again and again, from the moment the schema is in place.
    pub(crate) async fn keep_copying(self, mut readiness: watch::Receiver<Readiness>) {
        if readiness.wait_for(|now| matches!(now.state, State::Ready)).await.is_err() {
            return;
        }
        let mut failing = false;
        loop {
            match self.copy().await {
                Ok(()) if failing => {
                    failing = false;
                    tracing::warn!(path = %self.path.display(), "the copy of the audit log is complete again");
                }
                Ok(()) => {}
                Err(error) if failing => tracing::debug!(%error, "the audit log could not be copied"),
                Err(error) => {
                    failing = true;
                    tracing::error!(
                        %error,
                        "the audit log could not be copied; what is missing is written when that is possible"
                    );
                }
            }
            tokio::time::sleep(EVERY).await;
        }
    }

    /// Writes what is new, if this is the process that writes the file.
    pub(crate) async fn copy(&self) -> Result<(), AuditCopyError> {
        let mut writing = self.writing.lock().await;
        let outcome = self.copy_to(&mut writing).await;
        if outcome.is_err() {
            self.counts.failures.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    /// Writes what is new, and leaves the file to others.
    pub(crate) async fn finish(&self) {
        if let Err(error) = self.copy().await {
            tracing::warn!(%error, "the audit log could not be copied to its end: what is missing is written after the next start");
        }
        *self.writing.lock().await = Writing::NotOpen;
    }

    async fn copy_to(&self, writing: &mut Writing) -> Result<(), AuditCopyError> {
        let (copy, before) = (self.clone(), std::mem::take(writing));
        *writing = off_the_workers(move || match before {
            Writing::Here(file, after) if file.is_at_its_path() => Ok(Writing::Here(file, after)),
            before => {
                // Closed before it is opened: the lock on it goes with it.
                drop(before);
                copy.open()
            }
        })
        .await?;
        loop {
            // What a database says that is not believed is not what was done in the one that is known.
            if self.known.is_doubted() {
                return Err(crate::domain::known::untrusted().into());
            }
            let Writing::Here(_, after) = &*writing else { return Ok(()) };
            let call = Call::within(Lane::Maintenance, PATIENCE);
            let reading = self.database.read_audit(call, after.as_ref(), PAGE).await?;
            if reading.from_beginning {
                tracing::warn!(
                    path = %self.path.display(),
                    "the audit log does not hold what was copied last, as after a restore: it is copied again from its beginning"
                );
            }
            // Not there after a failure: then it is opened again, as it is on the disk.
            let Writing::Here(mut file, after) = std::mem::take(writing) else { return Ok(()) };
            let events = reading.events;
            let after = events.last().map(AuditMark::of).or(after.filter(|_| !reading.from_beginning));
            let written = events.len() as u64;
            let copy = self.clone();
            *writing = off_the_workers(move || match file.append(&events) {
                Ok(()) => Ok(Writing::Here(file, after)),
                Err(error) => Err(copy.file(error)),
            })
            .await?;
            self.counts.entries.fetch_add(written, Ordering::Relaxed);
            if !reading.has_more {
                self.counts.complete_at.store(self.clock.now().0, Ordering::Relaxed);
                return Ok(());
            }
        }
    }

    fn open(&self) -> Result<Writing, AuditCopyError> {
        let opened = AuditFile::open(&self.path).map_err(|error| self.file(error))?;
        let Some(file) = opened else {
            self.counts.complete_at.store(0, Ordering::Relaxed);
            tracing::debug!(path = %self.path.display(), "another process copies the audit log");
            return Ok(Writing::Elsewhere);
        };
        let position = file.position().map_err(|error| self.file(error))?;
        // Nothing is known to be missing yet.
        let _ = self.counts.complete_at.compare_exchange(
            0,
            self.clock.now().0,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        tracing::info!(path = %self.path.display(), "the audit log is copied to this file");
        Ok(Writing::Here(file, position))
    }

    fn file(&self, source: std::io::Error) -> AuditCopyError {
        AuditCopyError::File { path: self.path.display().to_string(), source }
    }
}

/// A disk that hangs, as one behind a network does, holds up no thread that answers callers.
async fn off_the_workers(
    work: impl FnOnce() -> Result<Writing, AuditCopyError> + Send + 'static,
) -> Result<Writing, AuditCopyError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| AuditCopyError::Ending)?
}
