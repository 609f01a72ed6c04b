//! Usage requests and their results.

use std::sync::Arc;

use thiserror::Error;

use super::{EventRefusal, PayloadHash, UsageEvent};

/// Maximum number of events in one request.
pub const MAX_EVENTS_PER_REQUEST: usize = 500;

/// Identifies a set of events of one caller, so that a repeated request is counted once: 1 to 128 printable
/// ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UsageRequestId(Box<str>);

/// Why a text is not a valid request id. The message completes the sentence "the value …".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("must have 1 to 128 printable ASCII characters")]
pub struct InvalidUsageRequestId;

impl UsageRequestId {
    /// Parses an id.
    ///
    /// # Errors
    /// When it is empty, too long, or contains another character.
    pub fn parse(text: &str) -> Result<Self, InvalidUsageRequestId> {
        let printable = text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        if printable && (1..=128).contains(&text.len()) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidUsageRequestId)
        }
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Events to record together.
#[derive(Clone, Debug)]
pub struct UsageRequest {
    /// The caller's name in the callers file; each caller has its own ids. `None` if callers have no names;
    /// such a request shares the ids with the caller that used them first.
    pub caller: Option<Arc<str>>,
    /// The id, unique to this set of events.
    pub id: UsageRequestId,
    /// The hash of the events.
    pub payload: PayloadHash,
    /// The events, or why their fields are invalid.
    pub events: Vec<Result<UsageEvent, EventRefusal>>,
}

/// The result of a request. It is the same for each repetition, except for `already_recorded`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedUsage {
    /// Number of counted events.
    pub accepted: usize,
    /// The rejected events, by index, in order.
    pub rejected: Vec<(usize, EventRefusal)>,
    /// Whether an earlier request with this id recorded the events.
    pub already_recorded: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_short_and_printable() {
        for good in ["1", "a b/c:d~", &"x".repeat(128)] {
            assert_eq!(UsageRequestId::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", "\n", "é", &"x".repeat(129)] {
            assert_eq!(UsageRequestId::parse(bad), Err(InvalidUsageRequestId), "{bad:?}");
        }
    }
}
