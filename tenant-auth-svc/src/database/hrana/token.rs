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
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often a token is tried again that was refused: it may not have been known yet to the server that was asked.
const TRY_AGAIN_EVERY: Duration = Duration::from_secs(10);

/// What precedes a token in its header.
const BEARER: &str = "Bearer ";

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
pub(super) enum Access {
    /// To read.
    Read,
    /// To change something.
    Write,
}

impl Access {
    fn name(self) -> &'static str {
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
    state: Mutex<State>,
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
struct State {
    /// What was in the file when it could last be used.
    newest: HeaderValue,
    reads: InForce,
    writes: InForce,
    unusable: bool,
    stamp: Option<(SystemTime, u64)>,
    looked_at: Instant,
}

/// The token for one kind of access.
#[derive(Debug)]
struct InForce {
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
        let stamp = stamp(path);
        let newest = read(path)?;
        let in_force = || InForce { header: newest.clone(), refused_at: None };
        let (reads, writes) = (in_force(), in_force());
        let state = State { newest, reads, writes, unusable: false, stamp, looked_at: Instant::now() };
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
    pub fn reread(&self) {
        self.look(&mut self.state());
    }

    /// The header to ask with: of a new token, until it is known whether that is good.
    pub(super) fn first(&self, access: Access) -> HeaderValue {
        let mut state = self.state();
        if state.looked_at.elapsed() >= LOOK_EVERY {
            self.look(&mut state);
        }
        let due = |in_force: &InForce| in_force.refused_at.is_none_or(|at| at.elapsed() >= TRY_AGAIN_EVERY);
        match state.of(access) {
            in_force if due(in_force) => state.newest.clone(),
            in_force => in_force.header.clone(),
        }
    }

    /// Notes that the database took a token.
    pub(super) fn accepted(&self, access: Access, header: &HeaderValue) {
        let mut state = self.state();
        if *header != state.newest || state.of(access).header == *header {
            return;
        }
        let newest = state.newest.clone();
        *state.of(access) = InForce { header: newest, refused_at: None };
        self.validity.store(Arc::new(state.validity()));
        tracing::info!(path = %self.path.display(), access = access.name(), "the new database token is in force");
        self.tell(&mut state);
    }

    /// Notes that the database refused a token. Gives another one that may be good.
    pub(super) fn refuse(&self, access: Access, header: &HeaderValue) -> Option<HeaderValue> {
        let mut state = self.state();
        let newest = state.newest.clone();
        let in_force = state.of(access);
        if *header == newest && in_force.header != newest {
            let is_news = in_force.refused_at.replace(Instant::now()).is_none();
            let other = in_force.header.clone();
            if is_news {
                let (path, access) = (self.path.display(), access.name());
                tracing::error!(%path, access, "the database refuses the new token, the old one stays in force");
            }
            self.tell(&mut state);
            return Some(other);
        }
        // It may have been rotated since it was last read.
        let changed = self.look(&mut state);
        let tried = state.of(access).refused_at.is_some_and(|at| at.elapsed() < LOOK_EVERY);
        (changed || !tried).then(|| state.newest.clone()).filter(|newest| newest != header)
    }

    fn look(&self, state: &mut State) -> bool {
        state.looked_at = Instant::now();
        let stamp = stamp(&self.path);
        if stamp == state.stamp {
            return false;
        }
        state.stamp = stamp;
        let read = read(&self.path);
        state.unusable = read.is_err();
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
        self.tell(state);
        changed
    }

    fn tell(&self, state: &mut State) {
        let refused = [&state.reads, &state.writes].iter().any(|in_force| in_force.refused_at.is_some());
        self.refused.store(state.unusable || refused, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in there can be left half-done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn validity(&self) -> TokenValidity {
        let of = |in_force: &InForce| {
            let token = in_force.header.to_str().ok()?.strip_prefix(BEARER)?;
            claims::validity(token)
        };
        TokenValidity { reads: of(&self.reads), writes: of(&self.writes) }
    }

    fn of(&mut self, access: Access) -> &mut InForce {
        match access {
            Access::Read => &mut self.reads,
            Access::Write => &mut self.writes,
        }
    }
}

fn stamp(path: &Path) -> Option<(SystemTime, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len()))
}

fn read(path: &Path) -> Result<HeaderValue, TokenError> {
    let shown = || path.display().to_string();
    let text = fs::read_to_string(path).map_err(|source| TokenError::Unreadable { path: shown(), source })?;
    let token = text.trim();
    if token.is_empty() || token.contains(char::is_whitespace) {
        return Err(TokenError::NoToken { path: shown() });
    }
    let mut header = HeaderValue::from_str(&format!("{BEARER}{token}"))
        .map_err(|_| TokenError::NoToken { path: shown() })?;
    header.set_sensitive(true);
    Ok(header)
}
