//! What settings may be: whatever cannot work is refused before anything is connected.

use std::time::Duration;

use crate::Error;

/// Nobody waits longer, and it can be said in a `grpc-timeout`.
const MAX_DURATION: Duration = Duration::from_secs(86_400);
const MAX_COUNT: usize = 10_000_000;

/// # Errors
/// [`Error::Setup`] for no time, or more than a day.
pub(crate) fn check_duration(name: &str, time: Duration) -> Result<Duration, Error> {
    if time.is_zero() || time > MAX_DURATION {
        return Err(setup_error(format!("{name} is {time:?}: it must be more than 0 and 24 h at most")));
    }
    Ok(time)
}

/// # Errors
/// [`Error::Setup`] for none, or more than 10 million.
pub(crate) fn check_count(name: &str, count: usize) -> Result<usize, Error> {
    if !(1..=MAX_COUNT).contains(&count) {
        return Err(setup_error(format!("{name} is {count}: it must be 1 to 10,000,000")));
    }
    Ok(count)
}

/// # Errors
/// [`Error::Setup`] for a text that is empty, longer than `sql_limit` bytes, or holds what a header cannot.
pub(crate) fn check_text<'a>(name: &str, text: &'a str, most: usize) -> Result<&'a str, Error> {
    let is_printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    if text.is_empty() || text.len() > most || !text.bytes().all(is_printable) || text.trim() != text {
        return Err(setup_error(format!(
            "{name} is {text:?}: it must be 1 to {most} printable ASCII characters without blanks at its ends"
        )));
    }
    Ok(text)
}

pub(crate) fn setup_error(message: String) -> Error {
    Error::Setup { message }
}
