//! The public keys of the partner: read when they are needed, and kept.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{
    io::AsyncReadExt as _,
    sync::Mutex,
    time::{error::Elapsed, timeout},
};

use crate::{
    config::SigningKeysLocation,
    domain::clock::SharedClock,
    ops::secret_scanning::{NotHandled, SigningKeys},
};

/// Timeout of reading the document.
const READ_TIMEOUT: Duration = Duration::from_secs(5);
/// Maximum size of the document, in bytes.
const MAX_BYTES: usize = 1 << 20;
/// Age from which the keys are read again: a key that the partner withdrew is used for no longer.
const FRESH_FOR: Duration = Duration::from_secs(3_600);
/// Age up to which keys are used although they cannot be read again.
const USABLE_FOR: Duration = Duration::from_secs(24 * 3_600);
/// Minimum time from one attempt to read to the next: requests with made-up identifiers must not cause more.
const INTERVAL: Duration = Duration::from_secs(60);
/// The same after a failed attempt.
const INTERVAL_AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Keys, and when reading them began.
#[derive(Default)]
struct Held {
    keys: Arc<SigningKeys>,
    read_at: Option<Duration>,
    /// Earliest time of the next attempt to read.
    next_attempt: Duration,
}

impl Held {
    /// Returns whether the keys contain this one, and were read within `age`.
    fn has(&self, identifier: &str, now: Duration, age: Duration) -> bool {
        self.keys.contains(identifier) && self.read_at.is_some_and(|at| now < at + age)
    }
}

pub(super) struct PublishedKeys {
    location: SigningKeysLocation,
    http: reqwest::Client,
    clock: SharedClock,
    held: Mutex<Held>,
}

impl PublishedKeys {
    /// # Errors
    /// When no HTTP client can be created.
    pub(super) fn new(location: SigningKeysLocation, clock: SharedClock) -> Result<Self, String> {
        // Fails if another part of the process has installed it, which is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .no_proxy()
            // A redirect could lead to an address without TLS.
            .redirect(reqwest::redirect::Policy::none())
            // GitHub refuses requests without one.
            .user_agent(concat!("tenant-auth/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| error.to_string())?;
        Ok(Self { location, http, clock, held: Mutex::default() })
    }

    /// Returns keys that can decide about a signature of `identifier`: they contain it, or were read after this call.
    /// The lock is held while they are read, so requests at the same time cause one read.
    pub(super) async fn for_identifier(&self, identifier: &str) -> Result<Arc<SigningKeys>, NotHandled> {
        let called_at = self.clock.monotonic();
        let mut held = self.held.lock().await;
        let now = self.clock.monotonic();
        let is_newer = held.read_at.is_some_and(|at| called_at < at);
        if is_newer || held.has(identifier, now, FRESH_FOR) {
            return Ok(Arc::clone(&held.keys));
        }
        if held.next_attempt <= now {
            match self.read().await {
                Ok(keys) => {
                    *held = Held { keys: Arc::new(keys), read_at: Some(now), next_attempt: now + INTERVAL };
                    return Ok(Arc::clone(&held.keys));
                }
                Err(reason) => {
                    held.next_attempt = self.clock.monotonic() + INTERVAL_AFTER_FAILURE;
                    let reason = format!("the public keys cannot be read from {}: {reason}", self.location);
                    if !held.has(identifier, now, USABLE_FOR) {
                        return Err(NotHandled(reason));
                    }
                    tracing::warn!(%reason, "the public keys of an earlier time are used");
                }
            }
        }
        if held.has(identifier, now, USABLE_FOR) {
            return Ok(Arc::clone(&held.keys));
        }
        // The partner may have published the key since they were read.
        Err(NotHandled(
            "the identifier of the key is unknown, and the public keys were read a moment ago".to_owned(),
        ))
    }

    async fn read(&self) -> Result<SigningKeys, String> {
        let document = match &self.location {
            SigningKeysLocation::File(path) => timeout(READ_TIMEOUT, read_file(path)).await,
            SigningKeysLocation::Url(url) => timeout(READ_TIMEOUT, self.read_url(url.clone())).await,
        };
        let document = document.map_err(|Elapsed { .. }| "timeout after 5 s".to_owned())??;
        if document.len() > MAX_BYTES {
            return Err("the document is larger than 1 MiB".to_owned());
        }
        SigningKeys::parse(&document).map_err(|error| error.to_string())
    }

    /// Stops after the maximum size.
    async fn read_url(&self, url: url::Url) -> Result<Vec<u8>, String> {
        let response = self.http.get(url).send().await.map_err(|error| error.to_string())?;
        let status = response.status();
        if !status.is_success() {
            return Err(format!("the server answered {status}"));
        }
        let mut response = response;
        let mut document = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| error.to_string())? {
            document.extend_from_slice(&chunk);
            if document.len() > MAX_BYTES {
                break;
            }
        }
        Ok(document)
    }
}

/// Stops after the maximum size.
async fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let file = tokio::fs::File::open(path).await.map_err(|error| error.to_string())?;
    let mut document = Vec::new();
    let limit = u64::try_from(MAX_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut document).await.map_err(|error| error.to_string())?;
    Ok(document)
}
