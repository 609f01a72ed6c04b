//! The database token: read from a file, and read again when the file changes.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant, SystemTime},
};

use reqwest::header::HeaderValue;
use thiserror::Error;

/// How often the file's date is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(1);

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

/// A token in a file.
///
/// The file is watched by its date and size, so that a rotated secret comes into force without a restart. A file that
/// cannot be used leaves the token before it in force.
#[derive(Debug)]
pub struct TokenFile {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    header: HeaderValue,
    stamp: Option<(SystemTime, u64)>,
    looked_at: Instant,
}

impl TokenFile {
    /// Reads a token file. Space around the token is dropped: most files end with a line break.
    ///
    /// # Errors
    /// When it cannot be read or holds no token.
    pub fn open(path: &Path) -> Result<Self, TokenError> {
        let stamp = stamp(path);
        let header = read(path)?;
        let state = State { header, stamp, looked_at: Instant::now() };
        Ok(Self { path: path.to_owned(), state: Mutex::new(state) })
    }

    /// The header that carries the token in force.
    pub(super) fn current(&self) -> HeaderValue {
        let mut state = self.state();
        if state.looked_at.elapsed() >= LOOK_EVERY {
            self.look(&mut state);
        }
        state.header.clone()
    }

    /// Looks at the file at once; gives the token if it is another one now.
    pub(super) fn reread(&self) -> Option<HeaderValue> {
        let mut state = self.state();
        self.look(&mut state).then(|| state.header.clone())
    }

    fn look(&self, state: &mut State) -> bool {
        state.looked_at = Instant::now();
        let stamp = stamp(&self.path);
        if stamp == state.stamp {
            return false;
        }
        state.stamp = stamp;
        match read(&self.path) {
            Ok(header) if header == state.header => false,
            Ok(header) => {
                tracing::info!(path = %self.path.display(), "the database token was read anew");
                state.header = header;
                true
            }
            Err(error) => {
                tracing::error!(%error, "the new database token cannot be used, the old one stays");
                false
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in there can be left half-done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
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
    let mut header = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| TokenError::NoToken { path: shown() })?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_break_is_no_part_of_the_token() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "abc\n").unwrap();
        let token = TokenFile::open(&path).unwrap();
        assert_eq!(token.current(), "Bearer abc");
        assert!(!format!("{token:?}").contains("abc"));
    }

    #[test]
    fn a_new_token_comes_into_force_and_a_bad_file_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        fs::write(&path, "old").unwrap();
        let token = TokenFile::open(&path).unwrap();
        assert_eq!(token.reread(), None);

        fs::write(&path, "newer").unwrap();
        assert_eq!(token.reread().unwrap(), "Bearer newer");

        for bad in ["", "two words, no token"] {
            fs::write(&path, bad).unwrap();
            assert_eq!(token.reread(), None);
            assert_eq!(token.current(), "Bearer newer");
        }
        fs::remove_file(&path).unwrap();
        assert_eq!(token.reread(), None);
        assert_eq!(token.current(), "Bearer newer");
    }

    #[test]
    fn an_unusable_file_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let missing = folder.path().join("missing");
        assert!(TokenFile::open(&missing).unwrap_err().to_string().contains("missing"));
        fs::write(&missing, "\n").unwrap();
        assert!(matches!(TokenFile::open(&missing), Err(TokenError::NoToken { .. })));
    }
}
