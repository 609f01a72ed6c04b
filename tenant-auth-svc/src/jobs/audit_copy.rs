//! Copies the audit log to a file outside the database, for when the database is lost or restored.

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

use super::{
    audit_file::AuditFile,
    readiness::{Readiness, until_ready},
};
use crate::{
    domain::{
        audit::{AuditCheckpoint, AuditStore as _},
        clock::{SharedClock, UnixMillis},
        known_database::KnownDatabase,
        page::PageSize,
        store::{Call, Lane, StoreError},
    },
    service_types::ServiceStore,
};

/// Interval between two polls for new entries. Each poll reads one row of the last copied entry, and the new rows.
const COPY_INTERVAL: Duration = Duration::from_secs(5);
/// Timeout of one page.
const PAGE_TIMEOUT: Duration = Duration::from_secs(10);
/// Entries per page.
const ENTRIES_PER_PAGE: PageSize = PageSize::new(500);

/// Counters of the copy.
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

    /// Failed polls.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }

    /// When the file last had every entry, or when this process began to write it; 0 if this process does not write
    /// it.
    pub(crate) fn complete_at(&self) -> UnixMillis {
        UnixMillis(self.complete_at.load(Ordering::Relaxed))
    }
}

/// Copies the audit log to a file. Clones share the state.
#[derive(Clone, Debug)]
pub(crate) struct AuditCopy {
    pub(crate) store: ServiceStore,
    pub(crate) known_database: Arc<KnownDatabase>,
    pub(crate) clock: SharedClock,
    pub(crate) counts: Arc<AuditCopyCounts>,
    path: PathBuf,
    file_state: Arc<Mutex<AuditFileState>>,
}

/// The state of the file in this process.
#[derive(Debug, Default)]
enum AuditFileState {
    /// Not opened yet, or closed after a failure.
    #[default]
    NotOpen,
    /// Another process has locked it.
    LockedByOther,
    /// This process writes it; the checkpoint is the last entry written.
    Open(AuditFile, Option<AuditCheckpoint>),
}

/// Why the file does not have every entry.
#[derive(Debug, Error)]
pub enum AuditCopyError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// Path of the file.
        path: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The audit log cannot be read.
    #[error("the audit log cannot be read: {0}")]
    Database(#[from] StoreError),
    /// The service is shutting down.
    #[error("the service is shutting down")]
    ShuttingDown,
}

impl AuditCopy {
    /// Opens the file, so that an unwritable file is noticed at startup.
    pub(crate) fn start(
        store: ServiceStore,
        known_database: Arc<KnownDatabase>,
        clock: SharedClock,
        path: PathBuf,
    ) -> Result<Self, AuditCopyError> {
        let counts = Arc::default();
        let copy = Self { store, known_database, clock, counts, path, file_state: Arc::default() };
        let opened = copy.open_file()?;
        Ok(Self { file_state: Arc::new(Mutex::new(opened)), ..copy })
    }

    /// Polls for new entries periodically, from the time the schema is ready.
    pub(crate) async fn run(self, mut readiness: watch::Receiver<Readiness>) {
        if !until_ready(&mut readiness).await {
            return;
        }
        let mut failing = false;
        loop {
            match self.copy_new_entries().await {
                Ok(()) if failing => {
                    failing = false;
                    tracing::warn!(path = %self.path.display(), "the audit log copy is complete again");
                }
                Ok(()) => {}
                Err(error) if failing => tracing::debug!(%error, "the audit log could not be copied"),
                Err(error) => {
                    failing = true;
                    tracing::error!(
                        %error,
                        "the audit log could not be copied; missing entries are written when copying works again"
                    );
                }
            }
            tokio::time::sleep(COPY_INTERVAL).await;
        }
    }

    /// Copies new entries, if this process writes the file.
    pub(crate) async fn copy_new_entries(&self) -> Result<(), AuditCopyError> {
        let mut state = self.file_state.lock().await;
        let outcome = self.copy_into(&mut state).await;
        if outcome.is_err() {
            self.counts.failures.fetch_add(1, Ordering::Relaxed);
        }
        outcome
    }

    /// Copies new entries, and releases the file for other processes.
    pub(crate) async fn finish(&self) {
        if let Err(error) = self.copy_new_entries().await {
            tracing::warn!(%error, "the audit log could not be copied completely before shutdown; missing entries are written after the next start");
        }
        *self.file_state.lock().await = AuditFileState::NotOpen;
    }

    async fn copy_into(&self, state: &mut AuditFileState) -> Result<(), AuditCopyError> {
        let (copy, previous) = (self.clone(), std::mem::take(state));
        *state = run_blocking(move || match previous {
            AuditFileState::Open(file, after) if file.is_at_its_path() => {
                Ok(AuditFileState::Open(file, after))
            }
            previous => {
                // Dropped before the file is opened again: dropping releases the lock.
                drop(previous);
                copy.open_file()
            }
        })
        .await?;
        loop {
            // An untrusted database does not have the audit log of the known one.
            if self.known_database.is_distrusted() {
                return Err(crate::domain::known_database::untrusted_error().into());
            }
            let AuditFileState::Open(_, after) = &*state else { return Ok(()) };
            let call = Call::within(Lane::Maintenance, PAGE_TIMEOUT);
            let batch = self.store.read_audit(call, after.as_ref(), ENTRIES_PER_PAGE).await?;
            if batch.from_beginning {
                tracing::warn!(
                    path = %self.path.display(),
                    "the audit log does not contain the last copied entry, as after a restore; it is copied again from its beginning"
                );
            }
            // After a failure the state is not `Open`: the next poll opens the file as it is on disk.
            let AuditFileState::Open(mut file, after) = std::mem::take(state) else { return Ok(()) };
            let events = batch.events;
            let after = events.last().map(AuditCheckpoint::of).or(after.filter(|_| !batch.from_beginning));
            let written = events.len() as u64;
            let copy = self.clone();
            *state = run_blocking(move || match file.append(&events) {
                Ok(()) => Ok(AuditFileState::Open(file, after)),
                Err(error) => Err(copy.file_error(error)),
            })
            .await?;
            self.counts.entries.fetch_add(written, Ordering::Relaxed);
            if !batch.has_more {
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
        // No entry is known to be missing yet.
        let _ = self.counts.complete_at.compare_exchange(
            0,
            self.clock.now().0,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        tracing::info!(path = %self.path.display(), "copying the audit log to a file");
        Ok(AuditFileState::Open(file, position))
    }

    fn file_error(&self, source: std::io::Error) -> AuditCopyError {
        AuditCopyError::File { path: self.path.display().to_string(), source }
    }
}

/// Runs file access on a blocking thread: a disk that hangs, such as a network disk, must not block a thread that
/// serves callers.
async fn run_blocking(
    work: impl FnOnce() -> Result<AuditFileState, AuditCopyError> + Send + 'static,
) -> Result<AuditFileState, AuditCopyError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| AuditCopyError::ShuttingDown)?
}
