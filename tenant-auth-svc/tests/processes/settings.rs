//! Settings of long tests from the environment, and output past the capture of passing tests.

use std::io::Write as _;

/// Reads a number; `None` if the variable is not set.
pub(crate) fn number_from_env(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, not {text:?}")))
}

/// Prints past the output capture of passing tests.
pub(crate) fn print_uncaptured(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
