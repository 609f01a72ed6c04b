//! The result of a lookup of keys or sessions.

use super::{StoreError, UnreadableRecord};
use crate::domain::{identity::DatabaseIdentity, verdict::Revision};

/// The result of a lookup. It is complete, with one outcome per id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupResult<R> {
    /// One entry per id, in order; `None` if there is no record. An unreadable record is an error of that
    /// entry only, and never reported as missing.
    pub records: Vec<Result<Option<R>, UnreadableRecord>>,
    /// The change-log position that the records reflect.
    pub revision: Revision,
    /// The database that the records come from.
    pub database: DatabaseIdentity,
    /// Why ids that were not found are inconclusive: they may be stored in a form that this replica cannot
    /// look up.
    pub not_found_error: Option<StoreError>,
}

/// Why the state of an id is unknown although the database responded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum UnknownReason {
    /// There is a record, but it is unreadable.
    Unreadable(UnreadableRecord),
    /// The id was not found, but its record may exist.
    Inconclusive(StoreError),
}

impl From<UnknownReason> for StoreError {
    fn from(reason: UnknownReason) -> Self {
        match reason {
            UnknownReason::Unreadable(unreadable) => unreadable.into(),
            UnknownReason::Inconclusive(error) => error,
        }
    }
}

impl<R> LookupResult<R> {
    /// Returns one outcome per id: the record, `None`, or why the state is unknown.
    pub fn into_outcomes(self) -> impl Iterator<Item = Result<Option<R>, UnknownReason>> {
        let Self { records, not_found_error: error, .. } = self;
        records.into_iter().map(move |record| match (record, &error) {
            (Ok(None), Some(error)) => Err(UnknownReason::Inconclusive(error.clone())),
            (record, _) => record.map_err(UnknownReason::Unreadable),
        })
    }
}
