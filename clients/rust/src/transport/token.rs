//! The caller token, which authenticates the calling service with every request.

use std::{
    error::Error as StdError,
    fmt, fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use http::HeaderValue;
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::{Error, options::setup_error};

/// How often the token file is checked, and the token function called.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);
const MAX_TOKEN_LEN: usize = 4_096;

type Failure = Box<dyn StdError + Send + Sync>;

/// A token that authenticates the calling service, sent as `authorization: Bearer …`. `Debug` redacts it.
///
/// A token is 1 to 4,096 visible ASCII characters. Surrounding blanks, line ends and a byte order mark are
/// removed.
#[derive(Clone)]
pub struct CallerToken(TokenSource);

#[derive(Clone)]
enum TokenSource {
    Fixed(Zeroizing<String>),
    File(PathBuf),
    Function(Arc<dyn Fn() -> Result<String, Failure> + Send + Sync>),
}

impl CallerToken {
    /// Creates a token that never changes.
    #[must_use]
    pub fn fixed(token: impl Into<String>) -> Self {
        Self(TokenSource::Fixed(Zeroizing::new(token.into())))
    }

    /// Creates a token that is read from a file, which contains only the token. The file is read at once, and
    /// again when it changes, at most once a second, so that the token can be replaced without a restart.
    /// While the file is invalid, the last token stays in use and a warning is logged.
    #[must_use]
    pub fn file(path: impl Into<PathBuf>) -> Self {
        Self(TokenSource::File(path.into()))
    }

    /// Creates a token that is returned by a function. It is called before a request, at most once a second,
    /// and must not block. While it fails, the last token stays in use and a warning is logged; before its
    /// first token, requests fail with
    /// [`Error::NoCallerToken`].
    #[must_use]
    pub fn function(function: impl Fn() -> Result<String, Failure> + Send + Sync + 'static) -> Self {
        Self(TokenSource::Function(Arc::new(function)))
    }
}

impl fmt::Debug for CallerToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            TokenSource::Fixed(_) => f.write_str("CallerToken([redacted])"),
            TokenSource::File(path) => write!(f, "CallerToken({})", path.display()),
            TokenSource::Function(_) => f.write_str("CallerToken(function)"),
        }
    }
}

/// The current token.
pub(crate) struct CurrentToken {
    source: TokenSource,
    cached: Mutex<CachedToken>,
}

struct CachedToken {
    header: Option<HeaderValue>,
    modified_at: Option<SystemTime>,
    checked_at: Option<Instant>,
}

impl CurrentToken {
    /// # Errors
    /// [`Error::Setup`] if a fixed token or a token file is invalid.
    pub(crate) fn new(token: CallerToken) -> Result<Self, Error> {
        let read = match &token.0 {
            TokenSource::Fixed(token) => {
                let header = token_header(token, "the caller token").map_err(setup_error)?;
                CachedToken { header: Some(header), modified_at: None, checked_at: None }
            }
            TokenSource::File(path) => {
                let modified_at = modified_at(path);
                let header = read_token_file(path).map_err(setup_error)?;
                CachedToken { header: Some(header), modified_at, checked_at: Some(Instant::now()) }
            }
            TokenSource::Function(_) => CachedToken { header: None, modified_at: None, checked_at: None },
        };
        Ok(Self { source: token.0, cached: Mutex::new(read) })
    }

    /// Returns the `authorization` header to send.
    ///
    /// # Errors
    /// [`Error::NoCallerToken`] if the function has not returned a token yet.
    pub(crate) fn current_header(&self) -> Result<HeaderValue, Error> {
        let mut current = self.cached.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = current.checked_at.is_none_or(|at| at.elapsed() >= CHECK_INTERVAL);
        let update = match &self.source {
            TokenSource::File(path) if is_due => {
                current.checked_at = Some(Instant::now());
                let modified_at = modified_at(path);
                (modified_at != current.modified_at).then(|| {
                    let header = read_token_file(path)?;
                    current.modified_at = modified_at;
                    Ok(header)
                })
            }
            TokenSource::Function(function) if is_due || current.header.is_none() => {
                current.checked_at = Some(Instant::now());
                // The error is not shown, because it may contain the token.
                let token = function()
                    .map(Zeroizing::new)
                    .map_err(|_| "the function for the caller token failed".to_owned());
                Some(token.and_then(|token| {
                    token_header(&token, "the result of the function for the caller token")
                }))
            }
            TokenSource::Fixed(_) | TokenSource::File(_) | TokenSource::Function(_) => None,
        };
        match (update, &current.header) {
            (None, Some(header)) => Ok(header.clone()),
            (Some(Ok(header)), _) => {
                current.header = Some(header.clone());
                Ok(header)
            }
            (Some(Err(error)), Some(header)) => {
                tracing::warn!(error, "caller token could not be renewed; the previous token stays in use");
                Ok(header.clone())
            }
            (Some(Err(message)), None) => Err(Error::NoCallerToken { message }),
            (None, None) => Err(Error::NoCallerToken { message: "there is no caller token".to_owned() }),
        }
    }
}

fn modified_at(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

fn read_token_file(path: &Path) -> Result<HeaderValue, String> {
    let name = format!("caller token file {}", path.display());
    let bytes =
        fs::read(path).map(Zeroizing::new).map_err(|error| format!("{name}: cannot be read: {error}"))?;
    token_header(&String::from_utf8_lossy(&bytes), &name)
}

fn token_header(token: &str, name: &str) -> Result<HeaderValue, String> {
    let token = token.trim_matches(|c: char| c.is_whitespace() || c == '\u{feff}');
    if token.is_empty() {
        return Err(format!("{name}: empty: must be 1 to {MAX_TOKEN_LEN} visible ASCII characters"));
    }
    if token.len() > MAX_TOKEN_LEN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!(
            "{name}: invalid token: must be 1 to {MAX_TOKEN_LEN} visible ASCII characters without blanks"
        ));
    }
    let text = Zeroizing::new(format!("Bearer {token}"));
    let mut header =
        HeaderValue::from_str(&text).map_err(|_| format!("{name}: invalid token: not valid in a header"))?;
    header.set_sensitive(true);
    Ok(header)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn caller_token_is_redacted() {
        let token = CallerToken::fixed("canary");
        assert_eq!(format!("{token:?}"), "CallerToken([redacted])");
        let header = CurrentToken::new(token).unwrap().current_header().unwrap();
        assert_eq!(
            (format!("{header:?}").as_str(), header.to_str().unwrap()),
            ("Sensitive", "Bearer canary")
        );
    }

    #[test]
    fn token_is_trimmed() {
        for text in ["canary\n", "\u{feff}canary\r\n", " \tcanary \n\n"] {
            let header = CurrentToken::new(CallerToken::fixed(text)).unwrap().current_header().unwrap();
            assert_eq!(header, "Bearer canary", "{text:?}");
        }
        assert!(CurrentToken::new(CallerToken::fixed("x".repeat(MAX_TOKEN_LEN))).is_ok());
    }

    #[test]
    fn invalid_token_is_rejected_without_showing_it() {
        let long = "canary".repeat(1_000);
        for text in ["", "\u{feff}\n", "canary\ncanary", "canary canary", "canary\u{7f}", "canäry", &long] {
            let error = CurrentToken::new(CallerToken::fixed(text)).err().unwrap();
            assert!(!error.to_string().contains("can"), "{error}");
            let file = tempfile::NamedTempFile::new().unwrap();
            fs::write(file.path(), text).unwrap();
            assert!(CurrentToken::new(CallerToken::file(file.path())).is_err());
        }
        assert!(CurrentToken::new(CallerToken::file("/nowhere/token")).is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn token_file_is_reread_when_it_changes() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let write = |text: &str, second: u64| {
            fs::write(file.path(), text).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(second);
            file.as_file().set_modified(time).unwrap();
        };
        write("first\n", 1);
        let token = CurrentToken::new(CallerToken::file(file.path())).unwrap();
        assert_eq!(token.current_header().unwrap(), "Bearer first");
        write("second\n", 2);
        assert_eq!(token.current_header().unwrap(), "Bearer first");
        tokio::time::advance(CHECK_INTERVAL).await;
        assert_eq!(token.current_header().unwrap(), "Bearer second");
        // Invalid contents do not replace the token.
        for (text, second) in [("", 3), ("two\nlines", 4)] {
            write(text, second);
            tokio::time::advance(CHECK_INTERVAL).await;
            assert_eq!(token.current_header().unwrap(), "Bearer second");
        }
        fs::remove_file(file.path()).unwrap();
        tokio::time::advance(CHECK_INTERVAL).await;
        assert_eq!(token.current_header().unwrap(), "Bearer second");
    }

    #[tokio::test(start_paused = true)]
    async fn failing_token_function_keeps_the_last_token() {
        let next: Arc<Mutex<Result<String, String>>> = Arc::new(Mutex::new(Err("canary".to_owned())));
        let token = {
            let next = Arc::clone(&next);
            CurrentToken::new(CallerToken::function(move || Ok(next.lock().unwrap().clone()?))).unwrap()
        };
        let error = token.current_header().unwrap_err();
        assert!(
            matches!(error, Error::NoCallerToken { .. }) && !error.to_string().contains("canary"),
            "{error}"
        );
        // Without a token, the function is called again at once.
        *next.lock().unwrap() = Ok("first\n".to_owned());
        assert_eq!(token.current_header().unwrap(), "Bearer first");
        for junk in [Err("gone".to_owned()), Ok("two\nlines".to_owned()), Ok(String::new())] {
            *next.lock().unwrap() = junk;
            tokio::time::advance(CHECK_INTERVAL).await;
            assert_eq!(token.current_header().unwrap(), "Bearer first");
        }
        *next.lock().unwrap() = Ok("second".to_owned());
        assert_eq!(token.current_header().unwrap(), "Bearer first");
        tokio::time::advance(CHECK_INTERVAL).await;
        assert_eq!(token.current_header().unwrap(), "Bearer second");
    }
}
