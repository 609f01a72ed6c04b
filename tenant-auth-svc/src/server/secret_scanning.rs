//! The secret scanning endpoint: where its keys come from, and what happens to the keys that were found.

use std::{
    fs,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use tokio::sync::Mutex;
use uuid::Uuid;

use crate::{
    config::SigningKeysLocation,
    domain::{
        admin::AdminError,
        audit::Actor,
        clock::SharedClock,
        key::KeyHash,
        leak::{LeakReport, Leaks},
        text::{LeakLocation, LeakSource, LeakType},
    },
    ops::secret_scanning::{FoundKey, NotHandled, SecretScanning, SigningKeys},
    service_types::{AllCaches, ServiceStore},
};

/// Timeout of reading the published keys.
const KEYS_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of the published keys, in bytes.
const MAX_KEYS_BYTES: usize = 1 << 20;
/// Minimum time between two attempts to read the keys: requests with made-up identifiers must not cause more.
const KEYS_INTERVAL: Duration = Duration::from_secs(60);
/// How long the reports of one request may take. The partner waits for 30 s.
const REPORT_TIMEOUT: Duration = Duration::from_secs(20);
/// The caller in the audit log, and the source of the reports.
const SOURCE: &str = "github";

/// The published keys, read when they are needed.
struct PublishedKeys {
    location: SigningKeysLocation,
    http: reqwest::Client,
    clock: SharedClock,
    current: ArcSwap<SigningKeys>,
    /// When reading them was last attempted.
    attempted_at: Mutex<Option<Duration>>,
}

impl PublishedKeys {
    /// Returns the keys. If they lack `identifier`, they are read again, at most once per interval.
    async fn for_identifier(&self, identifier: &str) -> Result<Arc<SigningKeys>, NotHandled> {
        let current = self.current.load_full();
        if current.contains(identifier) {
            return Ok(current);
        }
        let mut attempted_at = self.attempted_at.lock().await;
        let now = self.clock.monotonic();
        if attempted_at.is_some_and(|at| now < at + KEYS_INTERVAL) {
            return Ok(self.current.load_full());
        }
        *attempted_at = Some(now);
        let document = self.read().await.map_err(|error| {
            NotHandled(format!("the public keys cannot be read from {}: {error}", self.location))
        })?;
        let keys = SigningKeys::parse(&document)
            .map_err(|error| NotHandled(format!("{}: invalid public keys: {error}", self.location)))?;
        self.current.store(Arc::new(keys));
        Ok(self.current.load_full())
    }

    async fn read(&self) -> Result<Vec<u8>, String> {
        let url = match &self.location {
            SigningKeysLocation::File(path) => return fs::read(path).map_err(|error| error.to_string()),
            SigningKeysLocation::Url(url) => url.clone(),
        };
        let response = self.http.get(url).timeout(KEYS_TIMEOUT).send().await;
        let mut response =
            response.and_then(reqwest::Response::error_for_status).map_err(|error| error.to_string())?;
        let mut document = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| error.to_string())? {
            if document.len() + chunk.len() > MAX_KEYS_BYTES {
                return Err("the document is larger than 1 MiB".to_owned());
            }
            document.extend_from_slice(&chunk);
        }
        Ok(document)
    }
}

/// Creates the endpoint.
///
/// # Errors
/// When no HTTP client can be created.
pub(super) fn build(
    location: SigningKeysLocation,
    leaks: Arc<Leaks<ServiceStore, AllCaches>>,
    clock: SharedClock,
) -> Result<SecretScanning, String> {
    // Fails if another part of the process has installed it, which is fine.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let http = reqwest::Client::builder().no_proxy().build().map_err(|error| error.to_string())?;
    let keys = Arc::new(PublishedKeys {
        location,
        http,
        clock,
        current: ArcSwap::default(),
        attempted_at: Mutex::new(None),
    });
    Ok(SecretScanning {
        signing_keys: Arc::new(move |identifier| {
            let keys = Arc::clone(&keys);
            Box::pin(async move { keys.for_identifier(&identifier).await })
        }),
        report: Arc::new(move |found| {
            let leaks = Arc::clone(&leaks);
            Box::pin(async move { report(&leaks, found).await })
        }),
    })
}

/// Reports the keys that exist. A failure leaves the rest to the next request with the same keys.
async fn report(
    leaks: &Leaks<ServiceStore, AllCaches>,
    found: Vec<FoundKey>,
) -> Result<Vec<bool>, NotHandled> {
    let deadline = Instant::now() + REPORT_TIMEOUT;
    let failed = |error: AdminError| NotHandled(error.to_string());
    let hashes: Vec<_> = found.iter().map(|found| leaks.hash(&found.key)).collect();
    let candidates: Vec<KeyHash> = hashes.iter().copied().flatten().collect();
    let mut known = leaks.find_known(&candidates, deadline).await.map_err(failed)?.into_iter();
    let request_id = Uuid::now_v7().simple().to_string();
    let mut labels = Vec::with_capacity(found.len());
    for (found, hash) in found.iter().zip(hashes) {
        let known_hash = hash.filter(|_| known.next() == Some(true));
        labels.push(known_hash.is_some());
        let Some(hash) = known_hash else { continue };
        let actor = Actor { caller: SOURCE.to_owned(), request_id: request_id.clone() };
        leaks.report(&leak_report(hash, found), actor, deadline).await.map_err(failed)?;
    }
    Ok(labels)
}

/// The texts of a finding come from a public place: what cannot be recorded is left out.
fn leak_report(hash: KeyHash, found: &FoundKey) -> LeakReport {
    let has_key = found.url.contains(found.key.expose());
    let location = if has_key { "" } else { &*found.url };
    LeakReport {
        hash,
        source: LeakSource::stored(SOURCE),
        location: LeakLocation::parse(location).unwrap_or_else(|_| LeakLocation::stored("")),
        kind: LeakType::parse(&found.kind).unwrap_or_else(|_| LeakType::stored("")),
    }
}
