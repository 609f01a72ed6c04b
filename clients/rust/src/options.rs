//! Checks of settings: an invalid value is rejected before anything is connected.

use std::time::Duration;

use crate::Error;

/// No caller waits longer, and a `grpc-timeout` can express it.
const MAX_DURATION: Duration = Duration::from_secs(86_400);
const MAX_COUNT: usize = 10_000_000;

/// # Errors
/// [`Error::Setup`] for zero, or more than a day.
pub(crate) fn check_duration(name: &str, time: Duration) -> Result<Duration, Error> {
    if time.is_zero() || time > MAX_DURATION {
        return Err(setup_error(format!(
            "{name}: invalid duration {time:?}: must be more than 0 and at most 24 h"
        )));
    }
    Ok(time)
}

/// # Errors
/// [`Error::Setup`] for zero, or more than 10 million.
pub(crate) fn check_count(name: &str, count: usize) -> Result<usize, Error> {
    if !(1..=MAX_COUNT).contains(&count) {
        return Err(setup_error(format!("{name}: invalid number {count}: must be 1 to 10,000,000")));
    }
    Ok(count)
}

/// # Errors
/// [`Error::Setup`] for a text that is empty, longer than `max` bytes, or not valid in a header.
pub(crate) fn check_text<'a>(name: &str, text: &'a str, max: usize) -> Result<&'a str, Error> {
    let is_printable = |byte: u8| byte.is_ascii_graphic() || byte == b' ';
    if text.is_empty() || text.len() > max || !text.bytes().all(is_printable) || text.trim() != text {
        return Err(setup_error(format!(
            "{name}: invalid value {text:?}: must be 1 to {max} printable ASCII characters without leading or trailing blanks"
        )));
    }
    Ok(text)
}

pub(crate) fn setup_error(message: String) -> Error {
    Error::Setup { message }
}
