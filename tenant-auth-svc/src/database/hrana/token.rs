//! The database token: read from a file, and reloaded when the file changes.
//!
//! A new token is tried first, and the previous one stays current until the new one has worked: for reads and for
//! writes separately, because a token may be valid for one and not for the other.

mod claims;
#[cfg(test)]
mod tests;

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use arc_swap::ArcSwap;
use reqwest::header::HeaderValue;
use thiserror::Error;

use crate::instruments::validity::Validity;

/// Minimum interval between two checks of the file's date.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often a rejected token is tried again: the server may not have known it yet.
const REFUSED_TOKEN_RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// Prefix of a token in its header.
const BEARER_PREFIX: &str = "Bearer ";

/// Why a token file is invalid. Never contains the token.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the token file {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// The error of the operating system.
        source: std::io::Error,
    },
    /// The file is empty, or its content does not fit into a header.
    #[error("the token file {path} must hold one line of printable characters")]
    NoToken {
        /// The file.
        path: String,
    },
}

/// What a call needs the token for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TokenUse {
    /// To read.
    Read,
    /// To change something.
    Write,
}

impl TokenUse {
    fn as_str(self) -> &'static str {
        match self {
            Self::Read => "reads",
            Self::Write => "writes",
        }
    }
}

/// A token in a file.
///
/// The file is watched by its date and size, so that a rotated secret becomes current without a restart. If the file
/// is invalid or the database rejects the new token, the previous token stays current.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    state: Mutex<TokenState>,
    refused: AtomicBool,
    // Outside the lock, which is held during file reads: readers must not wait for a disk.
    validity: ArcSwap<TokenValidity>,
}

/// Validity of the current tokens, as far as they have an expiry.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenValidity {
    /// Of the token for reads.
    pub reads: Option<Validity>,
    /// Of the token for writes.
    pub writes: Option<Validity>,
}

#[derive(Debug)]
struct TokenState {
    /// The last valid content of the file.
    newest: HeaderValue,
    reads: CurrentToken,
    writes: CurrentToken,
    is_unusable: bool,
    file_stamp: Option<(SystemTime, u64)>,
    checked_at: Instant,
}

/// The token for one use.
#[derive(Debug)]
struct CurrentToken {
    header: HeaderValue,
    /// When the newest token was rejected, if it was and differs from this one.
    refused_at: Option<Instant>,
}

impl TokenFile {
    /// Reads a token file. Whitespace around the token is dropped: most files end with a line break.
    ///
    /// # Errors
    /// When the file cannot be read or contains no token.
    pub fn open(path: &Path) -> Result<Self, TokenError> {
        let stamp = file_stamp(path);
        let newest = read_header(path)?;
        let current = || CurrentToken { header: newest.clone(), refused_at: None };
        let (reads, writes) = (current(), current());
        let state = TokenState {
            newest,
            reads,
            writes,
            is_unusable: false,
            file_stamp: stamp,
            checked_at: Instant::now(),
        };
        let validity = ArcSwap::from_pointee(state.validity());
        Ok(Self { path: path.to_owned(), state: Mutex::new(state), refused: AtomicBool::default(), validity })
    }

    /// Whether the content of the file is not current because it is invalid or was rejected.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// Validity of the current tokens. A new token counts once it has worked.
    #[must_use]
    pub fn validity(&self) -> TokenValidity {
        **self.validity.load()
    }

    /// Checks the file now.
    pub fn reload(&self) {
        self.reload_if_changed(&mut self.lock_state());
    }

    /// Returns the header of the next call: that of a new token, until it is known whether it works.
    pub(super) fn header_for(&self, access: TokenUse) -> HeaderValue {
        let mut state = self.lock_state();
        if state.checked_at.elapsed() >= FILE_CHECK_INTERVAL {
            self.reload_if_changed(&mut state);
        }
        let is_due = |current: &CurrentToken| {
            current.refused_at.is_none_or(|at| at.elapsed() >= REFUSED_TOKEN_RETRY_INTERVAL)
        };
        match state.current_token(access) {
            current if is_due(current) => state.newest.clone(),
            current => current.header.clone(),
        }
    }

    /// Records that the database accepted a token.
    pub(super) fn record_accepted(&self, access: TokenUse, header: &HeaderValue) {
        let mut state = self.lock_state();
        if *header != state.newest || state.current_token(access).header == *header {
            return;
        }
        let newest = state.newest.clone();
        *state.current_token(access) = CurrentToken { header: newest, refused_at: None };
        self.validity.store(Arc::new(state.validity()));
        tracing::info!(path = %self.path.display(), access = access.as_str(), "the new database token is current");
        self.update_refused(&mut state);
    }

    /// Records that the database rejected a token. Returns another one that may work.
    pub(super) fn record_refused(&self, access: TokenUse, header: &HeaderValue) -> Option<HeaderValue> {
        let mut state = self.lock_state();
        let newest = state.newest.clone();
        let current = state.current_token(access);
        if *header == newest && current.header != newest {
            let is_first = current.refused_at.replace(Instant::now()).is_none();
            let other = current.header.clone();
            if is_first {
                let (path, access) = (self.path.display(), access.as_str());
                tracing::error!(%path, access, "database token reload refused: the database rejects the new token; the previous one stays current");
            }
            self.update_refused(&mut state);
            return Some(other);
        }
        // The file may have been replaced since it was last read.
        let changed = self.reload_if_changed(&mut state);
        let tried =
            state.current_token(access).refused_at.is_some_and(|at| at.elapsed() < FILE_CHECK_INTERVAL);
        (changed || !tried).then(|| state.newest.clone()).filter(|newest| newest != header)
    }

    fn reload_if_changed(&self, state: &mut TokenState) -> bool {
        state.checked_at = Instant::now();
        let stamp = file_stamp(&self.path);
        if stamp == state.file_stamp {
            return false;
        }
        state.file_stamp = stamp;
        let result = read_header(&self.path);
        state.is_unusable = result.is_err();
        let changed = match result {
            Ok(header) if header == state.newest => false,
            Ok(header) => {
                tracing::info!(path = %self.path.display(), "the database token was reloaded and is tried");
                state.newest = header;
                (state.reads.refused_at, state.writes.refused_at) = (None, None);
                true
            }
            Err(error) => {
                tracing::error!(%error, "database token reload refused: the file is invalid; the previous token stays current");
                false
            }
        };
        self.update_refused(state);
        changed
    }

    fn update_refused(&self, state: &mut TokenState) {
        let refused = [&state.reads, &state.writes].iter().any(|current| current.refused_at.is_some());
        self.refused.store(state.is_unusable || refused, Ordering::Relaxed);
    }

    fn lock_state(&self) -> MutexGuard<'_, TokenState> {
        // Each modification leaves the value consistent, so a poisoned lock is usable.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenState {
    fn validity(&self) -> TokenValidity {
        let validity_of = |current: &CurrentToken| {
            let token = current.header.to_str().ok()?.strip_prefix(BEARER_PREFIX)?;
            claims::parse_validity(token)
        };
        TokenValidity { reads: validity_of(&self.reads), writes: validity_of(&self.writes) }
    }

    fn current_token(&mut self, access: TokenUse) -> &mut CurrentToken {
        match access {
            TokenUse::Read => &mut self.reads,
            TokenUse::Write => &mut self.writes,
        }
    }
}

fn file_stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read_header(path: &Path) -> Result<HeaderValue, TokenError> {
    let shown = || path.display().to_string();
    let text = fs::read_to_string(path).map_err(|source| TokenError::Unreadable { path: shown(), source })?;
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(TokenError::NoToken { path: shown() });
    }
    let mut header = HeaderValue::from_str(&format!("{BEARER_PREFIX}{token}"))
        .map_err(|_| TokenError::NoToken { path: shown() })?;
    header.set_sensitive(true);
    Ok(header)
}
