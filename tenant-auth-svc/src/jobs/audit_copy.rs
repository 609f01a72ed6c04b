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
        audit::{AuditCheckpoint, AuditStore as _},
        clock::{SharedClock, UnixMillis},
        known_database::KnownDatabase,
        page::PageSize,
        store::{Call, Lane, StoreError},
    },
    server::{
        ServiceStore,
        readiness::{Readiness, ReadinessState},
    },
};

/// Between two looks for what is new. Each costs one row of what was written last, and those that are new.
const COPY_INTERVAL: Duration = Duration::from_secs(5);
/// How long one page may take.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Entries in one page.
const ENTRIES_PER_PAGE: PageSize = PageSize::new(500);

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
    pub(crate) store: ServiceStore,
    pub(crate) known_database: Arc<KnownDatabase>,
    pub(crate) clock: SharedClock,
    pub(crate) counts: Arc<AuditCopyCounts>,
    path: PathBuf,
    file_state: Arc<Mutex<AuditFileState>>,
}

/// What this process has of the file.
#[derive(Debug, Default)]
enum AuditFileState {
    /// Nothing yet.
    #[default]
    NotOpen,
    /// Another process writes it.
    LockedByOther,
    /// It is written here, up to that entry.
    Open(AuditFile, Option<AuditCheckpoint>),
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
    ShuttingDown,
}

impl AuditCopy {
    /// Opens the file, so that one that cannot be written is noticed at the start.
    pub(crate) fn start(
        database: ServiceStore,
        known: Arc<KnownDatabase>,
        clock: SharedClock,
        path: PathBuf,
    ) -> Result<Self, AuditCopyError> {
        let counts = Arc::default();
        let copy =
            Self { store: database, known_database: known, clock, counts, path, file_state: Arc::default() };
        let opened = copy.open_file()?;
        Ok(Self { file_state: Arc::new(Mutex::new(opened)), ..copy })
    }

    /// Looks for new entries again and again, from the moment the schema is in place.
    pub(crate) async fn run(self, mut readiness: watch::Receiver<Readiness>) {
        if readiness.wait_for(|now| matches!(now.state, ReadinessState::Ready)).await.is_err() {
            return;
        }
        let mut failing = false;
        loop {
            match self.copy_new_entries().await {
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
            tokio::time::sleep(COPY_INTERVAL).await;
        }
    }

    /// Writes what is new, if this is the process that writes the file.
    pub(crate) async fn copy_new_entries(&self) -> Result<(), AuditCopyError> {
        let mut writing = self.file_state.lock().await;
        let outcome = self.copy_into(&mut writing).await;
        if outcome.is_err() {
            self.counts.failures.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    /// Writes what is new, and leaves the file to others.
    pub(crate) async fn finish(&self) {
        if let Err(error) = self.copy_new_entries().await {
            tracing::warn!(%error, "the audit log could not be copied to its end: what is missing is written after the next start");
        }
        *self.file_state.lock().await = AuditFileState::NotOpen;
    }

    async fn copy_into(&self, writing: &mut AuditFileState) -> Result<(), AuditCopyError> {
        let (copy, before) = (self.clone(), std::mem::take(writing));
        *writing = run_blocking(move || match before {
            AuditFileState::Open(file, after) if file.is_at_its_path() => {
                Ok(AuditFileState::Open(file, after))
            }
            before => {
                // Closed before it is opened: the lock on it goes with it.
                drop(before);
                copy.open_file()
            }
        })
        .await?;
        loop {
            // What a database says that is not believed is not what was done in the one that is known.
            if self.known_database.is_distrusted() {
                return Err(crate::domain::known_database::untrusted_error().into());
            }
            let AuditFileState::Open(_, after) = &*writing else { return Ok(()) };
            let call = Call::within(Lane::Maintenance, PAGE_TIMEOUT);
            let reading = self.store.read_audit(call, after.as_ref(), ENTRIES_PER_PAGE).await?;
            if reading.from_beginning {
                tracing::warn!(
                    path = %self.path.display(),
                    "the audit log does not hold what was copied last, as after a restore: it is copied again from its beginning"
                );
            }
            // Not there after a failure: then it is opened again, as it is on the disk.
            let AuditFileState::Open(mut file, after) = std::mem::take(writing) else { return Ok(()) };
            let events = reading.events;
            let after = events.last().map(AuditCheckpoint::of).or(after.filter(|_| !reading.from_beginning));
            let written = events.len() as u64;
            let copy = self.clone();
            *writing = run_blocking(move || match file.append(&events) {
                Ok(()) => Ok(AuditFileState::Open(file, after)),
                Err(error) => Err(copy.file_error(error)),
            })
            .await?;
            self.counts.entries.fetch_add(written, Ordering::Relaxed);
            if !reading.has_more {
                self.counts.complete_at.store(self.clock.now().0, Ordering::Relaxed);
                return Ok(());
            }
        }
    }

    fn open_file(&self) -> Result<AuditFileState, AuditCopyError> {
        let opened = AuditFile::open(&self.path).map_err(|error| self.file_error(error))?;
        let Some(file) = opened else {
            self.counts.complete_at.store(0, Ordering::Relaxed);
            tracing::debug!(path = %self.path.display(), "another process copies the audit log");
            return Ok(AuditFileState::LockedByOther);
        };
        let position = file.position().map_err(|error| self.file_error(error))?;
        // Nothing is known to be missing yet.
        let _ = self.counts.complete_at.compare_exchange(
            0,
            self.clock.now().0,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        tracing::info!(path = %self.path.display(), "the audit log is copied to this file");
        Ok(AuditFileState::Open(file, position))
    }

    fn file_error(&self, source: std::io::Error) -> AuditCopyError {
        AuditCopyError::File { path: self.path.display().to_string(), source }
    }
}

/// A disk that hangs, as one behind a network does, holds up no thread that answers callers.
async fn run_blocking(
    work: impl FnOnce() -> Result<AuditFileState, AuditCopyError> + Send + 'static,
) -> Result<AuditFileState, AuditCopyError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| AuditCopyError::ShuttingDown)?
}
