//! Reloads files that may change while the service runs: certificates, callers, the deny list, and the keys that sign
//! principal tokens. (The database
//! client reloads the database token itself, and reports here whether it was refused.)
//!
//! Files are compared by content, every few seconds and on SIGHUP: dates and sizes are unreliable where files are
//! links that a deployment switches. A file that is refused leaves the previous content in effect, and is reported
//! until it is repaired.

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
    config::{AccessConfig, DenyFile, TlsConfig, read_callers, read_deny_list, read_signing_keys},
    database::hrana::TokenFile,
    domain::{
        clock::SharedClock,
        deny::{ActiveDenyList, DenyCounts, DenyList},
    },
    forward::principal::PrincipalTokens,
    middleware::identify::CallerDirectory,
    ops::{expiry::CredentialExpiry, status::FileStatus},
    transport::tls::{Certificates, FirstToExpire},
};

/// How often the files are checked for changes.
pub(super) const RELOAD_INTERVAL: Duration = Duration::from_secs(5);

/// Reloads changed files and applies them.
type ReloadAction = Box<dyn Fn() -> Result<(), String> + Send>;

/// A group of files that are valid only together.
struct ReloadSource {
    /// Name of the group, for log messages.
    name: &'static str,
    paths: Vec<PathBuf>,
    /// Digest of the last check. `None` at first: the files may have changed since the configuration was read.
    last_digest: Option<[u8; 32]>,
    reload: ReloadAction,
    /// Whether the current content was refused, and so is not in effect.
    is_refused: Arc<AtomicBool>,
}

/// Reloads all groups of files.
#[derive(Clone)]
pub(super) struct FileReloader {
    sources: Arc<Mutex<Vec<ReloadSource>>>,
    // Outside the lock, which is held during file reads: a status check must not wait for a disk.
    callers_refused: Arc<AtomicBool>,
    certificates_refused: Arc<AtomicBool>,
    deny_list_refused: Arc<AtomicBool>,
    signing_keys_refused: Arc<AtomicBool>,
    expiry_sources: ExpirySources,
    expiry_log: ExpiryLog,
    clock: SharedClock,
}

impl std::fmt::Debug for FileReloader {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FileReloader").finish_non_exhaustive()
    }
}

impl FileReloader {
    /// Returns the reloader of the files that a configuration names, with the caller directory and the certificates
    /// in use.
    ///
    /// The deny list is applied to `denied`, and subscribers that cache answers are notified of a change through
    /// `hub`. The database token and private CA are read elsewhere; only their expiry is checked here.
    pub(super) fn new(
        access: AccessConfig,
        tls: TlsConfig,
        denied: Arc<ActiveDenyList>,
        hub: Hub,
        database: (Vec<Arc<TokenFile>>, Option<FirstToExpire>),
        signing_keys: Option<(PathBuf, Arc<PrincipalTokens>)>,
        clock: SharedClock,
    ) -> (Self, CallerDirectory, Option<Arc<Certificates>>) {
        let mut sources = Vec::new();
        let (callers_refused, certificates_refused) = (Arc::default(), Arc::default());
        let (deny_list_refused, signing_keys_refused) = (Arc::default(), Arc::default());
        if let Some((path, tokens)) = signing_keys {
            let paths = vec![path.clone()];
            let reload = move || read_signing_keys(&path).map(|keys| tokens.replace_keys(keys));
            sources.push(ReloadSource::new("principal keys", paths, Box::new(reload), &signing_keys_refused));
        }
        if let Some(DenyFile { path, list }) = access.deny_list {
            apply_deny_list(&denied, list, &hub);
            let paths = vec![path.clone()];
            let reload = move || read_deny_list(&path).map(|list| apply_deny_list(&denied, list, &hub));
            sources.push(ReloadSource::new("deny list", paths, Box::new(reload), &deny_list_refused));
        }
        let (path, callers) = access.callers.map(|file| (file.path, file.callers)).unzip();
        let directory = CallerDirectory::new(callers);
        if let Some(path) = path {
            let (directory, paths) = (directory.clone(), vec![path.clone()]);
            let reload = move || read_callers(&path).map(|callers| directory.replace(callers));
            sources.push(ReloadSource::new("callers", paths, Box::new(reload), &callers_refused));
        }
        let certificates = tls.certificates.map(|(files, loaded)| {
            let certificates = Arc::new(Certificates::new(loaded));
            let (to_replace, clock) = (Arc::clone(&certificates), Arc::clone(&clock));
            let paths = files.paths().map(ToOwned::to_owned).collect();
            let reload = move || {
                let loaded = files.load().map_err(|error| error.to_string())?;
                verify_replacement(&to_replace.current(), &loaded, &clock)?;
                to_replace.replace(loaded);
                Ok(())
            };
            sources.push(ReloadSource::new("certificates", paths, Box::new(reload), &certificates_refused));
            certificates
        });
        let (database_tokens, database_ca) = database;
        let files = Self {
            sources: Arc::new(Mutex::new(sources)),
            callers_refused,
            certificates_refused,
            deny_list_refused,
            signing_keys_refused,
            expiry_sources: ExpirySources {
                certificates: certificates.clone(),
                database_ca,
                database_tokens,
            },
            expiry_log: ExpiryLog::default(),
            clock,
        };
        (files, directory, certificates)
    }

    /// Checks every file now, and applies what has changed.
    pub(super) fn reload_changed(&self) {
        for source in self.sources.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            source.reload_if_changed();
        }
        for token in &self.expiry_sources.database_tokens {
            token.reload();
        }
        self.expiry_log.log_changes(&self.expiry_sources, &self.clock);
    }

    /// Returns when each credential in use expires.
    pub(super) fn expiries(&self) -> Vec<CredentialExpiry> {
        self.expiry_sources.expiries()
    }

    /// Returns which files were refused.
    pub(super) fn file_status(&self) -> FileStatus {
        FileStatus {
            callers_refused: self.callers_refused.load(Ordering::Relaxed),
            certificates_refused: self.certificates_refused.load(Ordering::Relaxed),
            deny_list_refused: self.deny_list_refused.load(Ordering::Relaxed),
            signing_keys_refused: self.signing_keys_refused.load(Ordering::Relaxed),
            database_token_refused: self
                .expiry_sources
                .database_tokens
                .iter()
                .any(|token| token.is_refused()),
        }
    }

    /// Checks the files every [`RELOAD_INTERVAL`].
    pub(super) async fn run(self) {
        loop {
            let files = self.clone();
            // On a blocking thread: the disk may hang. If the thread panics, the panic hook logs it.
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
    tracing::warn!(added, removed, keys, tenants, hashes, "the deny list has changed");
    // After the list is applied: a subscriber that asks again must not get the old answer.
    hub.restart_subscribers("the deny list of this replica has changed");
}

impl ReloadSource {
    fn new(name: &'static str, paths: Vec<PathBuf>, reload: ReloadAction, refused: &Arc<AtomicBool>) -> Self {
        Self { name, paths, last_digest: None, reload, is_refused: Arc::clone(refused) }
    }

    fn reload_if_changed(&mut self) {
        let digest = digest_files(&self.paths);
        let changed = self.last_digest.replace(digest) != Some(digest);
        // A refused file is tried again even if unchanged: the cause may be outside the file.
        if !changed && !self.is_refused.load(Ordering::Relaxed) {
            return;
        }
        match (self.reload)() {
            Ok(()) => {
                self.is_refused.store(false, Ordering::Relaxed);
                tracing::info!(what = self.name, "reloaded");
            }
            Err(error) => {
                self.is_refused.store(true, Ordering::Relaxed);
                if changed {
                    tracing::error!(what = self.name, %error, "reload refused; the previous content stays in effect");
                }
            }
        }
    }
}

/// Returns a digest of the content of some files: a digest, because a private key is among them. An unreadable file
/// differs from every readable one.
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
