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

use super::expiry::{ExpiryLog, ExpirySources, may_replace};
use crate::{
    change_feed::hub::Hub,
    config::{AccessConfig, DenyFile, TlsConfig, callers, deny_list},
    database::hrana::TokenFile,
    domain::{
        clock::SharedClock,
        deny::{Denied, DenyCounts, DenyList},
    },
    middleware::identify::Directory,
    ops::{expiry::Expiry, facts::Files},
    transport::tls::{Certificates, FirstToExpire},
};

/// How often the files are looked at.
pub(super) const EVERY: Duration = Duration::from_secs(5);

/// What is to be done with files that have changed.
type Load = Box<dyn Fn() -> Result<(), String> + Send>;

/// Some files that are good together or not at all.
struct Source {
    /// What they are, in words.
    what: &'static str,
    paths: Vec<PathBuf>,
    /// What was in them when they were last looked at. Nothing at first: they may have changed since the configuration
    /// was read.
    seen: Option<[u8; 32]>,
    load: Load,
    /// What is in them is not in force.
    refused: Arc<AtomicBool>,
}

/// All of them.
#[derive(Clone)]
pub(super) struct Reloading {
    sources: Arc<Mutex<Vec<Source>>>,
    // Beside the lock, which is held while a disk is read: whoever asks how the service fares must not wait for that.
    callers_refused: Arc<AtomicBool>,
    certificates_refused: Arc<AtomicBool>,
    deny_list_refused: Arc<AtomicBool>,
    expiries: ExpirySources,
    expiry_log: ExpiryLog,
    clock: SharedClock,
}

impl std::fmt::Debug for Reloading {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloading").finish_non_exhaustive()
    }
}

impl Reloading {
    /// The files that a configuration names, and what is in force of them.
    /// The deny list is put in force in `denied`, and whoever keeps answers hears of a change through `hub`. Of the database come its
    /// token and its private CA: both are read elsewhere, and looked at here.
    pub(super) fn new(
        access: AccessConfig,
        tls: TlsConfig,
        denied: Arc<Denied>,
        hub: Hub,
        database: (Option<Arc<TokenFile>>, Option<FirstToExpire>),
        clock: SharedClock,
    ) -> (Self, Directory, Option<Arc<Certificates>>) {
        let mut sources = Vec::new();
        let (callers_refused, certificates_refused) = (Arc::default(), Arc::default());
        let deny_list_refused = Arc::default();
        if let Some(DenyFile { path, list }) = access.denied {
            put_in_force(&denied, list, &hub);
            let paths = vec![path.clone()];
            let load = move || deny_list(&path).map(|list| put_in_force(&denied, list, &hub));
            sources.push(Source::new("deny list", paths, Box::new(load), &deny_list_refused));
        }
        let (path, known) = access.callers.map(|file| (file.path, file.callers)).unzip();
        let directory = Directory::new(known);
        if let Some(path) = path {
            let (directory, paths) = (directory.clone(), vec![path.clone()]);
            let load = move || callers(&path).map(|callers| directory.replace(callers));
            sources.push(Source::new("callers", paths, Box::new(load), &callers_refused));
        }
        let certificates = tls.certificates.map(|(files, loaded)| {
            let certificates = Arc::new(Certificates::new(loaded));
            let (to_replace, clock) = (Arc::clone(&certificates), Arc::clone(&clock));
            let paths = files.paths().map(ToOwned::to_owned).collect();
            let load = move || {
                let loaded = files.load().map_err(|error| error.to_string())?;
                may_replace(&to_replace.in_force(), &loaded, &clock)?;
                to_replace.replace(loaded);
                Ok(())
            };
            sources.push(Source::new("certificates", paths, Box::new(load), &certificates_refused));
            certificates
        });
        let (database_token, database_ca) = database;
        let files = Self {
            sources: Arc::new(Mutex::new(sources)),
            callers_refused,
            certificates_refused,
            deny_list_refused,
            expiries: ExpirySources { certificates: certificates.clone(), database_ca, database_token },
            expiry_log: ExpiryLog::default(),
            clock,
        };
        (files, directory, certificates)
    }

    /// Looks at every file now, and puts what has changed in force.
    pub(super) fn look(&self) {
        for source in self.sources.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            source.look();
        }
        if let Some(token) = &self.expiries.database_token {
            token.reread();
        }
        self.expiry_log.look(&self.expiries, &self.clock);
    }

    /// When what is in force expires.
    pub(super) fn expiries(&self) -> Vec<Expiry> {
        self.expiries.facts()
    }

    /// What could not be put in force.
    pub(super) fn refused(&self) -> Files {
        Files {
            callers_refused: self.callers_refused.load(Ordering::Relaxed),
            certificates_refused: self.certificates_refused.load(Ordering::Relaxed),
            deny_list_refused: self.deny_list_refused.load(Ordering::Relaxed),
            database_token_refused: self
                .expiries
                .database_token
                .as_ref()
                .is_some_and(|token| token.is_refused()),
        }
    }

    /// Looks again and again.
    pub(super) async fn keep_looking(self) {
        loop {
            let files = self.clone();
            // A file may be on a disk that hangs. That the thread ended early is said by its panic.
            let _ = tokio::task::spawn_blocking(move || files.look()).await;
            tokio::time::sleep(EVERY).await;
        }
    }
}

fn put_in_force(denied: &Denied, list: DenyList, hub: &Hub) {
    let (added, removed) = denied.replace(list);
    if (added, removed) == (0, 0) {
        return;
    }
    let DenyCounts { keys, tenants, hashes } = denied.counts();
    tracing::warn!(added, removed, keys, tenants, hashes, "the deny list has changed, and is in force");
    // After it is in force: whoever asks anew must not get the old answer.
    hub.start_over("the deny list of this replica has changed");
}

impl Source {
    fn new(what: &'static str, paths: Vec<PathBuf>, load: Load, refused: &Arc<AtomicBool>) -> Self {
        Self { what, paths, seen: None, load, refused: Arc::clone(refused) }
    }

    fn look(&mut self) {
        let now = content(&self.paths);
        let changed = self.seen.replace(now) != Some(now);
        // What was refused is tried again as it is: not all that can be wrong is in the files.
        if !changed && !self.refused.load(Ordering::Relaxed) {
            return;
        }
        match (self.load)() {
            Ok(()) => {
                self.refused.store(false, Ordering::Relaxed);
                tracing::info!(what = self.what, "read, and in force");
            }
            Err(error) => {
                self.refused.store(true, Ordering::Relaxed);
                if changed {
                    tracing::error!(what = self.what, %error, "cannot be used; what was before it stays in force");
                }
            }
        }
    }
}

/// What is in some files: a digest, because a private key is among them. A file that cannot be read differs from all
/// that can.
fn content(paths: &[PathBuf]) -> [u8; 32] {
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
