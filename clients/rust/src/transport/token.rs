//! Who calls: a token sent along with every request.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use http::HeaderValue;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::Error;

/// How often a token's file is looked at.
const LOOKED_AT_EVERY: Duration = Duration::from_secs(1);

/// What proves to the service who calls; sent as `authorization: Bearer …`. Shows itself nowhere.
#[derive(Clone)]
pub struct CallerToken(Origin);

#[derive(Clone)]
enum Origin {
    Fixed(Zeroizing<String>),
    File(PathBuf),
}

impl CallerToken {
    /// A token that stays.
    #[must_use]
    pub fn fixed(token: impl Into<String>) -> Self {
        Self(Origin::Fixed(Zeroizing::new(token.into())))
    }

    /// A file that holds the token and nothing else. It is read again when it changes, at most once a second, so that
    /// the token can be replaced without a restart.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(Origin::File(path.into()))
    }
}

impl fmt::Debug for CallerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Origin::Fixed(_) => f.write_str("CallerToken([redacted])"),
            Origin::File(path) => write!(f, "CallerToken({})", path.display()),
        }
    }
}

/// The token that is in force.
pub(crate) struct CurrentToken {
    origin: Origin,
    read: Mutex<Read>,
}

struct Read {
    header: HeaderValue,
    changed_at: Option<SystemTime>,
    looked_at: Instant,
}

impl CurrentToken {
    pub(crate) fn new(token: CallerToken) -> Result<Self, Error> {
        let (header, changed_at) = match &token.0 {
            Origin::Fixed(token) => (header(token, "the caller token")?, None),
            Origin::File(path) => (read(path)?, changed_at(path)),
        };
        let read = Read { header, changed_at, looked_at: Instant::now() };
        Ok(Self { origin: token.0, read: Mutex::new(read) })
    }

    /// The header to send.
    pub(crate) fn header(&self) -> HeaderValue {
        let mut current = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Origin::File(path) = &self.origin
            && current.looked_at.elapsed() >= LOOKED_AT_EVERY
        {
            current.looked_at = Instant::now();
            let changed_at = changed_at(path);
            if changed_at != current.changed_at {
                match read(path) {
                    Ok(header) => {
                        current.header = header;
                        current.changed_at = changed_at;
                    }
                    // It may be in the middle of being replaced.
                    Err(error) => tracing::warn!(%error, "the caller token read before is still used"),
                }
            }
        }
        current.header.clone()
    }
}

fn changed_at(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn read(path: &Path) -> Result<HeaderValue, Error> {
    let text = fs::read_to_string(path).map(Zeroizing::new);
    let unreadable = |error| Error::Setup { message: format!("{}: {error}", path.display()) };
    header(text.map_err(unreadable)?.trim(), &path.display().to_string())
}

fn header(token: &str, name: &str) -> Result<HeaderValue, Error> {
    let unusable = |what: &str| Error::Setup { message: format!("{name} {what}") };
    if token.is_empty() {
        return Err(unusable("holds no token"));
    }
    let text = Zeroizing::new(format!("Bearer {token}"));
    let mut header =
        HeaderValue::from_str(&text).map_err(|_| unusable("holds what cannot be sent as a token"))?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_prints_it() {
        let token = CallerToken::fixed("canary");
        assert_eq!(format!("{token:?}"), "CallerToken([redacted])");
        let header = CurrentToken::new(token).unwrap().header();
        assert_eq!(
            (format!("{header:?}").as_str(), header.to_str().unwrap()),
            ("Sensitive", "Bearer canary")
        );
    }

    #[test]
    fn what_is_no_token_is_refused_without_showing_it() {
        for text in ["", "canary\ncanary", "canary\u{7f}"] {
            let error = CurrentToken::new(CallerToken::fixed(text)).err().unwrap();
            assert!(!error.to_string().contains("canary"), "{error}");
        }
        assert!(CurrentToken::new(CallerToken::file("/nowhere/token")).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_read_again_when_it_changes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |text: &str, second: u64| {
            fs::write(file.path(), text).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            file.as_file().set_modified(time).unwrap();
        };
        write("first\n", 1);
        let token = CurrentToken::new(CallerToken::file(file.path())).unwrap();
        assert_eq!(token.header(), "Bearer first");
        write("second\n", 2);
        assert_eq!(token.header(), "Bearer first");
        tokio::time::advance(LOOKED_AT_EVERY).await;
        assert_eq!(token.header(), "Bearer second");
        // An unusable one does not replace it.
        write("", 3);
        tokio::time::advance(LOOKED_AT_EVERY).await;
        assert_eq!(token.header(), "Bearer second");
    }
}
