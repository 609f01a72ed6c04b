//! The public keys of the service, as it last published them.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use jsonwebtoken::jwk::{Jwk, JwkSet};
use tenant_auth_proto::v1::GetPrincipalKeysResponse;

use super::{PrincipalRejected, token::algorithm_of};
use crate::{Clock, Error, clock::Moment};

/// Keys older than this are fetched again.
const MAX_AGE: Duration = Duration::from_secs(300);
/// Minimum time between two fetches, so that tokens with invented keys cause few.
const MIN_INTERVAL: Duration = Duration::from_secs(5);
/// The same while there are no keys at all.
const MIN_INTERVAL_WITHOUT_KEYS: Duration = Duration::from_secs(1);

/// The usable keys of one answer, with their issuer.
#[derive(Debug)]
struct KeySet {
    issuer: Arc<str>,
    keys: HashMap<String, Arc<Jwk>>,
}

/// Keeps the keys of the last usable answer.
#[derive(Debug)]
pub(super) struct KeyStore {
    clock: Arc<dyn Clock>,
    state: Mutex<KeyState>,
    /// Held during a fetch: all that wait for one share it.
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct KeyState {
    set: Option<Arc<KeySet>>,
    /// When `set` was fetched.
    fetched_at: Option<Moment>,
    /// When the last fetch started.
    attempted_at: Option<Moment>,
    /// Why the last fetch brought no usable keys.
    last_error: Option<Error>,
}

impl KeyState {
    fn find(&self, key_id: &str) -> Option<(Arc<str>, Arc<Jwk>)> {
        let set = self.set.as_ref()?;
        Some((Arc::clone(&set.issuer), Arc::clone(set.keys.get(key_id)?)))
    }
}

impl KeyStore {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default(), fetching: tokio::sync::Mutex::default() }
    }

    /// Returns a key and its issuer. Fetches the keys if there are none, if they are old, and for a key that is not among them.
    pub(super) async fn key<F>(
        &self,
        key_id: &str,
        fetch: impl Fn() -> F,
    ) -> Result<(Arc<str>, Arc<Jwk>), PrincipalRejected>
    where
        F: Future<Output = Result<GetPrincipalKeysResponse, Error>>,
    {
        let known = self.state().find(key_id);
        if !self.needs_fetch(known.is_some()) {
            return known.ok_or_else(|| self.rejection());
        }
        // Old keys are used while another task fetches new ones.
        let turn = match (&known, self.fetching.try_lock()) {
            (_, Ok(turn)) => turn,
            (Some(_), Err(_)) => return known.ok_or_else(|| self.rejection()),
            (None, Err(_)) => self.fetching.lock().await,
        };
        // Another task may have fetched them meanwhile.
        let is_known = self.state().find(key_id).is_some();
        if self.needs_fetch(is_known) {
            self.state().attempted_at = Some(self.now());
            let fetched = fetch().await.and_then(|response| usable_keys(&response));
            let mut state = self.state();
            match fetched {
                Ok(set) => {
                    state.set = Some(Arc::new(set));
                    state.fetched_at = Some(self.now());
                    state.last_error = None;
                }
                // The old keys stay: an outage, and an empty answer, prove nothing about them.
                Err(error) => state.last_error = Some(error),
            }
        }
        drop(turn);
        let found = self.state().find(key_id);
        found.ok_or_else(|| self.rejection())
    }

    fn needs_fetch(&self, is_known: bool) -> bool {
        let (state, now) = (self.state(), self.now());
        let is_old = |at: Option<Moment>, age| at.is_none_or(|at| now.since(at) >= age);
        let interval = if state.set.is_some() { MIN_INTERVAL } else { MIN_INTERVAL_WITHOUT_KEYS };
        (!is_known || is_old(state.fetched_at, MAX_AGE)) && is_old(state.attempted_at, interval)
    }

    /// Why an unknown key is refused: it may be a new one if the last fetch failed.
    fn rejection(&self) -> PrincipalRejected {
        match &self.state().last_error {
            Some(error) => PrincipalRejected::Undecided(error.clone()),
            None => PrincipalRejected::Invalid("its key is not published"),
        }
    }

    fn now(&self) -> Moment {
        self.clock.now().into()
    }

    fn state(&self) -> MutexGuard<'_, KeyState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// # Errors
/// [`Error::Unavailable`] if an answer has no usable key.
fn usable_keys(response: &GetPrincipalKeysResponse) -> Result<KeySet, Error> {
    let set: JwkSet = serde_json::from_str(&response.jwks).unwrap_or_default();
    let usable = set.keys.into_iter().filter(|key| algorithm_of(key).is_some());
    let keys: HashMap<_, _> =
        usable.filter_map(|key| Some((key.common.key_id.clone()?, Arc::new(key)))).collect();
    if keys.is_empty() || response.issuer.is_empty() {
        return Err(Error::Unavailable {
            message: "the service publishes no keys of principal tokens".to_owned(),
            reason: Some("NO_PRINCIPAL_KEYS".to_owned()),
            retry_after: None,
        });
    }
    Ok(KeySet { issuer: response.issuer.as_str().into(), keys })
}
