//! Files that may change while the service runs: certificates, callers and the deny list. (The database's token is tried by
//! the database client itself, which only tells here whether it is in force.)
//!
//! They are compared by content, every few seconds and when told: dates and sizes lie where files are links that a
//! deployment switches over. What cannot be used leaves what was before it in force, and says so until it is mended.

use std::{
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sha2::{Digest as _, Sha256};

use super::expiry::{ExpiryLog, ExpirySources, verify_replacement};
use crate::{
    change_feed::hub::Hub,
    config::{AccessConfig, DenyFile, TlsConfig, read_callers, read_deny_list},
    database::hrana::TokenFile,
    domain::{
        clock::SharedClock,
        deny::{ActiveDenyList, DenyCounts, DenyList},
    },
    middleware::identify::CallerDirectory,
    ops::{expiry::CredentialExpiry, status::FileStatus},
    transport::tls::{Certificates, FirstToExpire},
};

/// How often the files are looked at.
pub(super) const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// What is to be done with files that have changed.
type ReloadAction = Box<dyn Fn() -> Result<(), String> + Send>;

/// Some files that are good together or not at all.
struct ReloadSource {
    /// What they are, in words.
    name: &'static str,
    paths: Vec<PathBuf>,
    /// What was in them when they were last looked at. Nothing at first: they may have changed since the configuration
    /// was read.
    last_digest: Option<[u8; 32]>,
    reload: ReloadAction,
    /// What is in them is not in force.
    is_refused: Arc<AtomicBool>,
}

/// All of them.
#[derive(Clone)]
pub(super) struct FileReloader {
    sources: Arc<Mutex<Vec<ReloadSource>>>,
    // Beside the lock, which is held while a disk is read: whoever asks how the service fares must not wait for that.
    callers_refused: Arc<AtomicBool>,
    certificates_refused: Arc<AtomicBool>,
    deny_list_refused: Arc<AtomicBool>,
    expiry_sources: ExpirySources,
    expiry_log: ExpiryLog,
    clock: SharedClock,
}

impl std::fmt::Debug for FileReloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloading").finish_non_exhaustive()
    }
}

impl FileReloader {
    /// The files that a configuration names, and what is in force of them.
    /// The deny list is put in force in `denied`, and whoever keeps answers hears of a change through `hub`. Of the database come its
    /// token and its private CA: both are read elsewhere, and looked at here.
    pub(super) fn new(
        access: AccessConfig,
        tls: TlsConfig,
        denied: Arc<ActiveDenyList>,
        hub: Hub,
        database: (Option<Arc<TokenFile>>, Option<FirstToExpire>),
        clock: SharedClock,
    ) -> (Self, CallerDirectory, Option<Arc<Certificates>>) {
        let mut sources = Vec::new();
        let (callers_refused, certificates_refused) = (Arc::default(), Arc::default());
        let deny_list_refused = Arc::default();
        if let Some(DenyFile { path, list }) = access.deny_list {
            apply_deny_list(&denied, list, &hub);
            let paths = vec![path.clone()];
            let load = move || read_deny_list(&path).map(|list| apply_deny_list(&denied, list, &hub));
            sources.push(ReloadSource::new("deny list", paths, Box::new(load), &deny_list_refused));
        }
        let (path, known) = access.callers.map(|file| (file.path, file.callers)).unzip();
        let directory = CallerDirectory::new(known);
        if let Some(path) = path {
            let (directory, paths) = (directory.clone(), vec![path.clone()]);
            let load = move || read_callers(&path).map(|callers| directory.replace(callers));
            sources.push(ReloadSource::new("callers", paths, Box::new(load), &callers_refused));
        }
        let certificates = tls.certificates.map(|(files, loaded)| {
            let certificates = Arc::new(Certificates::new(loaded));
            let (to_replace, clock) = (Arc::clone(&certificates), Arc::clone(&clock));
            let paths = files.paths().map(ToOwned::to_owned).collect();
            let load = move || {
                let loaded = files.load().map_err(|error| error.to_string())?;
                verify_replacement(&to_replace.current(), &loaded, &clock)?;
                to_replace.replace(loaded);
                Ok(())
            };
            sources.push(ReloadSource::new("certificates", paths, Box::new(load), &certificates_refused));
            certificates
        });
        let (database_token, database_ca) = database;
        let files = Self {
            sources: Arc::new(Mutex::new(sources)),
            callers_refused,
            certificates_refused,
            deny_list_refused,
            expiry_sources: ExpirySources { certificates: certificates.clone(), database_ca, database_token },
            expiry_log: ExpiryLog::default(),
            clock,
        };
        (files, directory, certificates)
    }

    /// Looks at every file now, and puts what has changed in force.
    pub(super) fn reload_changed(&self) {
        for source in self.sources.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            source.reload_if_changed();
        }
        if let Some(token) = &self.expiry_sources.database_token {
            token.reload();
        }
        self.expiry_log.log_changes(&self.expiry_sources, &self.clock);
    }

    /// When what is in force expires.
    pub(super) fn expiries(&self) -> Vec<CredentialExpiry> {
        self.expiry_sources.expiries()
    }

    /// What could not be put in force.
    pub(super) fn file_status(&self) -> FileStatus {
        FileStatus {
            callers_refused: self.callers_refused.load(Ordering::Relaxed),
            certificates_refused: self.certificates_refused.load(Ordering::Relaxed),
            deny_list_refused: self.deny_list_refused.load(Ordering::Relaxed),
            database_token_refused: self
                .expiry_sources
                .database_token
                .as_ref()
                .is_some_and(|token| token.is_refused()),
        }
    }

    /// Looks again and again.
    pub(super) async fn run(self) {
        loop {
            let files = self.clone();
            // A file may be on a disk that hangs. That the thread ended early is said by its panic.
            let _ = tokio::task::spawn_blocking(move || files.reload_changed()).await;
            tokio::time::sleep(RELOAD_INTERVAL).await;
        }
    }
}

fn apply_deny_list(denied: &ActiveDenyList, list: DenyList, hub: &Hub) {
    let (added, removed) = denied.replace(list);
    if (added, removed) == (0, 0) {
        return;
    }
    let DenyCounts { keys, tenants, hashes } = denied.counts();
    tracing::warn!(added, removed, keys, tenants, hashes, "the deny list has changed, and is in force");
    // After it is in force: whoever asks anew must not get the old answer.
    hub.restart_subscribers("the deny list of this replica has changed");
}

impl ReloadSource {
    fn new(what: &'static str, paths: Vec<PathBuf>, load: ReloadAction, refused: &Arc<AtomicBool>) -> Self {
        Self { name: what, paths, last_digest: None, reload: load, is_refused: Arc::clone(refused) }
    }

    fn reload_if_changed(&mut self) {
        let now = digest_files(&self.paths);
        let changed = self.last_digest.replace(now) != Some(now);
        // What was refused is tried again as it is: not all that can be wrong is in the files.
        if !changed && !self.is_refused.load(Ordering::Relaxed) {
            return;
        }
        match (self.reload)() {
            Ok(()) => {
                self.is_refused.store(false, Ordering::Relaxed);
                tracing::info!(what = self.name, "read, and in force");
            }
            Err(error) => {
                self.is_refused.store(true, Ordering::Relaxed);
                if changed {
                    tracing::error!(what = self.name, %error, "cannot be used; what was before it stays in force");
                }
            }
        }
    }
}

/// What is in some files: a digest, because a private key is among them. A file that cannot be read differs from all
/// that can.
fn digest_files(paths: &[PathBuf]) -> [u8; 32] {
    let mut digest = Sha256::new();
    for path in paths {
        match std::fs::read(path).map(zeroize::Zeroizing::new) {
            Ok(bytes) => {
                digest.update([1]);
                digest.update((bytes.len() as u64).to_le_bytes());
                digest.update(&*bytes);
            }
            Err(_) => digest.update([0]),
        }
    }
    digest.finalize().into()
}
