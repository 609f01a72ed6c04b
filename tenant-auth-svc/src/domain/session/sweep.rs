//! Deleting sessions that are over, or whose key is.

use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use crate::domain::store::{Call, Store, StoreError};

/// How long a session that is over stays in the database: what another replica has noted of its use arrives within
/// seconds, or soon after an outage. And how long one whose key or tenant is over still says so.
const EXPIRED_SESSION_RETENTION: Duration = Duration::from_secs(10 * 60);
/// How many sessions that are over are deleted in one statement.
const MAX_SESSIONS_PER_SWEEP: usize = 500;
/// How many openers are looked at each time, and how many of their sessions deleted in one statement. About eight rows are read
/// for each: at one sweep a minute, some 35 million a month.
const MAX_OPENERS_PER_SWEEP: usize = 100;

/// The tenant and the key that opened sessions, as stored: they need not be such that can be read.
pub type SessionOpener = (String, String);

/// What one page of sweeping by openers came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SweptSessions {
    /// How many sessions were deleted.
    pub deleted: u64,
    /// After which opener the next page starts; `None` when this is the last.
    pub last_opener: Option<SessionOpener>,
}

/// Deletes sessions that have been over for a while. Any replica may, at any time, whatever its clock says.
#[derive(Debug, Default)]
pub struct SessionSweeper {
    /// Where to go on among openers.
    cursor: Mutex<Option<SessionOpener>>,
}

impl SessionSweeper {
    /// Deletes all those whose own time is over, and, of one more page of openers, those whose key or tenant is: looking at each
    /// opener each time would be billed. Gives how many.
    ///
    /// # Errors
    /// When the database gives no answer; what was not deleted goes the next time.
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
            // The same openers may have more.
            if page.deleted < MAX_OPENERS_PER_SWEEP as u64 {
                *self.cursor.lock().unwrap_or_else(PoisonError::into_inner) = page.last_opener;
                return Ok(swept);
            }
        }
    }
}
