//! The database token: read from a file, and read again when the file changes.
//!
//! A new token is tried, and the one before it stays until the new one has worked: for reads and for writes each, because a token
//! may be good for the one and not for the other.

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

/// How often the file's date is looked at, at most.
const FILE_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// How often a token is tried again that was refused: it may not have been known yet to the server that was asked.
const REFUSED_TOKEN_RETRY_INTERVAL: Duration = Duration::from_secs(10);

/// What precedes a token in its header.
const BEARER_PREFIX: &str = "Bearer ";

/// Why a token file cannot be used. Never holds the token.
#[derive(Debug, Error)]
pub enum TokenError {
    /// The file cannot be read.
    #[error("cannot read the token file {path}: {source}")]
    Unreadable {
        /// The file.
        path: String,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The file holds nothing, or something that fits in no header.
    #[error("the token file {path} must hold one line of printable characters")]
    NoToken {
        /// The file.
        path: String,
    },
}

/// What a call wants of the database.
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
/// The file is watched by its date and size, so that a rotated secret comes into force without a restart. A file that
/// cannot be used, or a token that the database refuses, leaves the token before it in force.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    state: Mutex<TokenState>,
    refused: AtomicBool,
    // Beside the lock, which is held while a disk is read: whoever asks for it must not wait for that.
    validity: ArcSwap<TokenValidity>,
}

/// From when to when the tokens in force are valid, as far as they say when they expire.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenValidity {
    /// The one for reads.
    pub reads: Option<Validity>,
    /// The one for writes.
    pub writes: Option<Validity>,
}

#[derive(Debug)]
struct TokenState {
    /// What was in the file when it could last be used.
    newest: HeaderValue,
    reads: CurrentToken,
    writes: CurrentToken,
    is_unusable: bool,
    file_stamp: Option<(SystemTime, u64)>,
    checked_at: Instant,
}

/// The token for one kind of access.
#[derive(Debug)]
struct CurrentToken {
    header: HeaderValue,
    /// When the newest token was refused, if it was and is another one.
    refused_at: Option<Instant>,
}

impl TokenFile {
    /// Reads a token file. Space around the token is dropped: most files end with a line break.
    ///
    /// # Errors
    /// When it cannot be read or holds no token.
    pub fn open(path: &Path) -> Result<Self, TokenError> {
        let stamp = file_stamp(path);
        let newest = read_header(path)?;
        let in_force = || CurrentToken { header: newest.clone(), refused_at: None };
        let (reads, writes) = (in_force(), in_force());
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

    /// Whether what is in the file now is not in force.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.refused.load(Ordering::Relaxed)
    }

    /// From when to when the tokens in force are valid. A new one counts once it has worked.
    #[must_use]
    pub fn validity(&self) -> TokenValidity {
        **self.validity.load()
    }

    /// Looks at the file now.
    pub fn reload(&self) {
        self.reload_if_changed(&mut self.lock_state());
    }

    /// The header to ask with: of a new token, until it is known whether that is good.
    pub(super) fn header_for(&self, access: TokenUse) -> HeaderValue {
        let mut state = self.lock_state();
        if state.checked_at.elapsed() >= FILE_CHECK_INTERVAL {
            self.reload_if_changed(&mut state);
        }
        let due = |in_force: &CurrentToken| {
            in_force.refused_at.is_none_or(|at| at.elapsed() >= REFUSED_TOKEN_RETRY_INTERVAL)
        };
        match state.current_token(access) {
            in_force if due(in_force) => state.newest.clone(),
            in_force => in_force.header.clone(),
        }
    }

    /// Notes that the database took a token.
    pub(super) fn record_accepted(&self, access: TokenUse, header: &HeaderValue) {
        let mut state = self.lock_state();
        if *header != state.newest || state.current_token(access).header == *header {
            return;
        }
        let newest = state.newest.clone();
        *state.current_token(access) = CurrentToken { header: newest, refused_at: None };
        self.validity.store(Arc::new(state.validity()));
        tracing::info!(path = %self.path.display(), access = access.as_str(), "the new database token is in force");
        self.update_refused(&mut state);
    }

    /// Notes that the database refused a token. Gives another one that may be good.
    pub(super) fn record_refused(&self, access: TokenUse, header: &HeaderValue) -> Option<HeaderValue> {
        let mut state = self.lock_state();
        let newest = state.newest.clone();
        let in_force = state.current_token(access);
        if *header == newest && in_force.header != newest {
            let is_news = in_force.refused_at.replace(Instant::now()).is_none();
            let other = in_force.header.clone();
            if is_news {
                let (path, access) = (self.path.display(), access.as_str());
                tracing::error!(%path, access, "the database refuses the new token, the old one stays in force");
            }
            self.update_refused(&mut state);
            return Some(other);
        }
        // It may have been rotated since it was last read.
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
        let read = read_header(&self.path);
        state.is_unusable = read.is_err();
        let changed = match read {
            Ok(header) if header == state.newest => false,
            Ok(header) => {
                tracing::info!(path = %self.path.display(), "the database token was read anew, and is tried");
                state.newest = header;
                (state.reads.refused_at, state.writes.refused_at) = (None, None);
                true
            }
            Err(error) => {
                tracing::error!(%error, "the new database token cannot be used, the old one stays in force");
                false
            }
        };
        self.update_refused(state);
        changed
    }

    fn update_refused(&self, state: &mut TokenState) {
        let refused = [&state.reads, &state.writes].iter().any(|in_force| in_force.refused_at.is_some());
        self.refused.store(state.is_unusable || refused, Ordering::Relaxed);
    }

    fn lock_state(&self) -> MutexGuard<'_, TokenState> {
        // Nothing in there can be left half-done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl TokenState {
    fn validity(&self) -> TokenValidity {
        let of = |in_force: &CurrentToken| {
            let token = in_force.header.to_str().ok()?.strip_prefix(BEARER_PREFIX)?;
            claims::parse_validity(token)
        };
        TokenValidity { reads: of(&self.reads), writes: of(&self.writes) }
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
