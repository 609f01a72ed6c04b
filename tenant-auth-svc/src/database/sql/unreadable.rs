//! Unreadable records: each fails alone, is counted, and is logged at most once per interval.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{Row, SqlValue};
use crate::{
    domain::store::{StoreError, UnreadableRecord},
    instruments::counts::Counter,
};

/// Minimum interval between two log lines for the same record.
const LOG_INTERVAL: Duration = Duration::from_secs(3_600);
/// Maximum number of records remembered as logged. Beyond it all are dropped, and logged again.
const MAX_LOGGED_RECORDS: usize = 1_000;
/// Maximum length of a logged id.
const MAX_LOGGED_ID_CHARS: usize = 80;

/// The tables whose rows are read as records.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordTable {
    /// Keys.
    ApiKeys,
    /// Sessions. A row is identified by the id of its key: the id of the session may be a secret.
    SessionBindings,
    /// Tenants.
    Tenants,
    /// The audit log.
    AuditLog,
    /// Limits. A row is identified by its subject.
    Limits,
    /// Stored outcomes of usage requests.
    UsageRequests,
    /// Usage totals.
    UsageTotals,
}

impl RecordTable {
    /// Every table.
    pub const ALL: [Self; 7] = [
        Self::ApiKeys,
        Self::SessionBindings,
        Self::Tenants,
        Self::AuditLog,
        Self::Limits,
        Self::UsageRequests,
        Self::UsageTotals,
    ];

    /// Name in the schema, logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ApiKeys => "api_keys",
            Self::SessionBindings => "session_bindings",
            Self::Tenants => "tenants",
            Self::AuditLog => "audit_log",
            Self::Limits => "limits",
            Self::UsageRequests => "usage_requests",
            Self::UsageTotals => "usage_totals",
        }
    }
}

/// Counts and logs unreadable records.
#[derive(Debug, Default)]
pub struct UnreadableRecords {
    counts: [Counter; RecordTable::ALL.len()],
    logged: Mutex<HashMap<(RecordTable, String), Instant>>,
}

impl UnreadableRecords {
    /// Number of failed reads of a table's records.
    #[must_use]
    pub fn count(&self, table: RecordTable) -> u64 {
        self.counts.get(table as usize).map_or(0, Counter::get)
    }

    /// Passes on the result of decoding a row, whose id is in the given column; records a failure.
    pub(super) fn check<T>(
        &self,
        table: RecordTable,
        (row, id): (&Row, usize),
        read: Result<T, StoreError>,
    ) -> Result<T, UnreadableRecord> {
        read.map_err(|error| self.record(table, &loggable_id(row, id), &error.message, Instant::now()))
    }

    fn record(&self, table: RecordTable, id: &str, why: &str, now: Instant) -> UnreadableRecord {
        if let Some(count) = self.counts.get(table as usize) {
            count.increment();
        }
        if self.is_log_due(table, id, now) {
            tracing::error!(table = table.as_str(), id, why, "a record cannot be read and is skipped");
        }
        UnreadableRecord(format!("a record of {} cannot be read: {why}", table.as_str()))
    }

    fn is_log_due(&self, table: RecordTable, id: &str, now: Instant) -> bool {
        // Each modification leaves the map consistent, so a poisoned lock is usable.
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        let subject = (table, id.to_owned());
        if logged.get(&subject).is_some_and(|at| now.saturating_duration_since(*at) < LOG_INTERVAL) {
            return false;
        }
        if logged.len() >= MAX_LOGGED_RECORDS {
            logged.clear();
        }
        logged.insert(subject, now);
        true
    }
}

/// Formats an id for the log.
fn loggable_id(row: &Row, column: usize) -> String {
    match row.0.get(column) {
        Some(SqlValue::Text(text)) => {
            text.chars().take(MAX_LOGGED_ID_CHARS).flat_map(char::escape_debug).collect()
        }
        Some(SqlValue::Integer(integer)) => integer.to_string(),
        Some(SqlValue::Null | SqlValue::Real(_) | SqlValue::Blob(_)) | None => "not a text".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::store::FailureKind;

    #[test]
    fn unreadable_record_is_counted_and_logged_hourly() {
        let unreadable = UnreadableRecords::default();
        let start = Instant::now();
        assert!(unreadable.is_log_due(RecordTable::ApiKeys, "key_1", start));
        assert!(!unreadable.is_log_due(RecordTable::ApiKeys, "key_1", start + LOG_INTERVAL / 2));
        assert!(unreadable.is_log_due(RecordTable::ApiKeys, "key_2", start), "another record");
        assert!(unreadable.is_log_due(RecordTable::Tenants, "key_1", start), "another table");
        assert!(unreadable.is_log_due(RecordTable::ApiKeys, "key_1", start + LOG_INTERVAL));
        for other in 0..MAX_LOGGED_RECORDS * 2 {
            unreadable.is_log_due(RecordTable::ApiKeys, &other.to_string(), start);
        }
        assert!(unreadable.logged.lock().unwrap().len() <= MAX_LOGGED_RECORDS, "the map is bounded");

        let row = Row(vec![SqlValue::Null, "key\n1".into()]);
        for times in 1..=2 {
            let error = StoreError::new(FailureKind::InvalidResponse, "test");
            let read = unreadable.check(RecordTable::ApiKeys, (&row, 1), Err::<(), _>(error));
            assert_eq!(StoreError::from(read.unwrap_err()).kind, FailureKind::InvalidResponse);
            assert_eq!(unreadable.count(RecordTable::ApiKeys), times);
        }
        assert_eq!(
            (loggable_id(&row, 1), loggable_id(&row, 0)),
            ("key\\n1".to_owned(), "not a text".to_owned())
        );
    }
}
