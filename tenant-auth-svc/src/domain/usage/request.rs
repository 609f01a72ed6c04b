//! A request to record usage, and what became of it.

use std::sync::Arc;

use thiserror::Error;

use super::{EventRefusal, PayloadHash, UsageEvent};

/// The most events in one request.
pub const MAX_EVENTS_PER_REQUEST: usize = 500;

/// Names a set of events of one caller, so that sending it again counts it once: 1 to 128 printable ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct UsageRequestId(Box<str>);

/// Why a text is no request id. The message completes the sentence "the value …".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("must have 1 to 128 printable ASCII characters")]
pub struct InvalidUsageRequestId;

impl UsageRequestId {
    /// Accepts an id.
    ///
    /// # Errors
    /// When it is empty, too long, or holds another character.
    pub fn parse(text: &str) -> Result<Self, InvalidUsageRequestId> {
        let printable = text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        if printable && (1..=128).contains(&text.len()) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidUsageRequestId)
        }
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Events to record together.
#[derive(Clone, Debug)]
pub struct UsageRequest {
    /// Who sends it, by the name in the callers file: its ids are its own. `None` where nobody has a name; such a request
    /// shares the ids of whoever used them first.
    pub caller: Option<Arc<str>>,
    /// Unique to this set of events.
    pub id: UsageRequestId,
    /// What it says.
    pub payload: PayloadHash,
    /// Each event, or why its fields rule it out.
    pub events: Vec<Result<UsageEvent, EventRefusal>>,
}

/// What became of a request: the same each time it is sent, except for `already_recorded`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedUsage {
    /// How many of its events are counted.
    pub accepted: usize,
    /// The others, by their place, in order.
    pub rejected: Vec<(usize, EventRefusal)>,
    /// Whether an earlier request with this id had recorded them.
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
