//! Deletes sessions that have expired, or whose key or tenant is no longer valid.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::domain::store::{Call, Store, StoreError};

/// How long an expired session stays in the database: a validation recorded by another replica is written
/// within seconds, or soon after an outage. Also how long a session whose key or tenant is no longer valid
/// still reports the reason.
const EXPIRED_SESSION_RETENTION: Duration = Duration::from_secs(10 * 60);
/// Maximum number of expired sessions deleted in one statement.
const MAX_SESSIONS_PER_SWEEP: usize = 500;
/// Maximum number of openers checked per sweep, and of their sessions deleted in one statement. About eight
/// rows are read per opener: at one sweep a minute, some 35 million a month.
const MAX_OPENERS_PER_SWEEP: usize = 100;

/// The tenant and the key that opened sessions, as stored. They may be unreadable.
pub type SessionOpener = (String, String);

/// The result of one page of the sweep by opener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweptSessions {
    /// Number of sessions deleted.
    pub deleted: u64,
    /// The opener after which the next page starts; `None` when this page is the last.
    pub last_opener: Option<SessionOpener>,
}

/// Deletes sessions that expired some time ago. Any replica may do so at any time, independent of its clock.
#[derive(Debug, Default)]
pub struct SessionSweeper {
    /// The opener after which the next sweep starts.
    cursor: Mutex<Option<SessionOpener>>,
}

impl SessionSweeper {
    /// Deletes all sessions whose own expiry has passed, and, for one more page of openers, those whose key
    /// or tenant is no longer valid: checking all openers in each sweep would be billed. Returns the number
    /// of sessions deleted.
    ///
    /// # Errors
    /// When the database does not respond. The remaining sessions are deleted by the next sweep.
    pub async fn sweep<S: Store>(&self, store: &S, call: impl Fn() -> Call) -> Result<u64, StoreError> {
        let mut swept = 0;
        loop {
            let deleted = store
                .sweep_expired_sessions(call(), EXPIRED_SESSION_RETENTION, MAX_SESSIONS_PER_SWEEP)
                .await?;
            swept += deleted;
            if deleted < MAX_SESSIONS_PER_SWEEP as u64 {
                break;
            }
        }
        let after = self.cursor.lock().unwrap_or_else(PoisonError::into_inner).clone();
        loop {
            let page = store
                .sweep_orphaned_sessions(
                    call(),
                    after.as_ref(),
                    EXPIRED_SESSION_RETENTION,
                    MAX_OPENERS_PER_SWEEP,
                )
                .await?;
            swept += page.deleted;
            // The same openers may have more sessions.
            if page.deleted < MAX_OPENERS_PER_SWEEP as u64 {
                *self.cursor.lock().unwrap_or_else(PoisonError::into_inner) = page.last_opener;
                return Ok(swept);
            }
        }
    }
}
