//! The identity of the database, and the reasons to distrust it.

use std::fmt;

use compact_str::CompactString;

use super::{clock::Moment, verdict::Revision};

/// Distinguishes a database from all others, and from its own state before an operator last accepted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DatabaseIdentity {
    /// Generated when the schema was created.
    pub id: CompactString,
    /// Incremented with each acceptance.
    pub epoch: i64,
    /// The id of the database that the last acceptance replaced; empty if there was none.
    pub replaces: CompactString,
}

impl DatabaseIdentity {
    /// Parses `<id> <epoch> <replaces>`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (id, rest) = text.split_once(' ')?;
        let (epoch, replaces) = rest.split_once(' ')?;
        Some(Self { id: id.into(), epoch: epoch.parse().ok()?, replaces: replaces.into() })
    }

    /// Whether an operator accepted this database in place of `known`.
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

/// Why a database is not trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DistrustReason {
    /// It is a different database.
    Another,
    /// It has no schema.
    Empty,
    /// It lacks changes that it had before: it was restored from a backup.
    RolledBack,
}

impl DistrustReason {
    /// All reasons.
    pub const ALL: [Self; 3] = [Self::Another, Self::Empty, Self::RolledBack];

    /// Returns the name used in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Another => "another_database",
            Self::Empty => "empty",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// The trust of a replica in its database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trust {
    /// The known database; `None` before the first read.
    pub known: Option<DatabaseIdentity>,
    /// The change-log position up to which the known database was read.
    pub position: Revision,
    /// The log entry at that position; `None` if there is none, or it was not read.
    pub anchor: Option<CompactString>,
    /// Why the database is not trusted, and since when.
    pub distrust: Option<(DistrustReason, Moment)>,
    /// The database found instead of the known one: its identity, if it has one, and the end of its change
    /// log.
    pub found: Option<(Option<DatabaseIdentity>, Revision)>,
}
