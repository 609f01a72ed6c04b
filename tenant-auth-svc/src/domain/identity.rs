//! Which database it is, and why it may not be believed.

use std::fmt;

use compact_str::CompactString;

use super::{clock::Moment, verdict::Revision};

/// What tells a database from every other one, and from itself before an operator last accepted it as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseIdentity {
    /// Drawn when its schema was made.
    pub id: CompactString,
    /// It rises with each time that it is accepted.
    pub epoch: i64,
    /// The one that it was last accepted instead of; empty if it never was.
    pub replaces: CompactString,
}

impl DatabaseIdentity {
    /// Reads `<id> <epoch> <the one that it replaces>`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, rest) = text.split_once(' ')?;
        let (epoch, replaces) = rest.split_once(' ')?;
        Some(Self { id: id.into(), epoch: epoch.parse().ok()?, replaces: replaces.into() })
    }

    /// Whether an operator has accepted this one for those who know the other.
    #[must_use]
    pub fn was_accepted_instead_of(&self, known: &Self) -> bool {
        self.epoch > known.epoch && (self.id == known.id || self.replaces == known.id)
    }
}

impl fmt::Display for DatabaseIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, epoch {}", self.id, self.epoch)
    }
}

/// Why a database is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DistrustReason {
    /// It is another one.
    Another,
    /// It has no schema.
    Empty,
    /// It lacks changes that it had: it was restored from a backup.
    RolledBack,
}

impl DistrustReason {
    /// Every doubt.
    pub const ALL: [Self; 3] = [Self::Another, Self::Empty, Self::RolledBack];

    /// As logs and metrics write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Another => "another_database",
            Self::Empty => "empty",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// What a replica thinks of its database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// The one that it knows; `None` before it has read one.
    pub known: Option<DatabaseIdentity>,
    /// Up to where it has read that one's change log.
    pub position: Revision,
    /// What that log says there; `None` where it says nothing, or was not read.
    pub anchor: Option<CompactString>,
    /// Why it does not believe what it reads, and since when.
    pub distrust: Option<(DistrustReason, Moment)>,
    /// What it finds instead of the one that it knows: its identity, if it has one, and where its change log ends.
    pub found: Option<(Option<DatabaseIdentity>, Revision)>,
}
