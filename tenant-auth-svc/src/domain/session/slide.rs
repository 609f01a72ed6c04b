//! Ends that slide, without a write per validation.
//!
//! A validation of a sliding session is noted when its end has moved by more than a tenth of its time to live, or a
//! minute, and notes are written together every few seconds. Until then, and through an outage, this replica goes by
//! the note.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Expiry, Session, SessionId};
use crate::domain::{
    clock::UnixMillis,
    store::{Call, MAX_USED, Store, StoreError},
};

/// The most notes kept: beyond that, a session ends as if it had not been validated.
const MOST: usize = 100_000;

/// Validations of sliding sessions that are not written yet.
#[derive(Debug, Default)]
pub struct Slides {
    pending: Mutex<HashMap<SessionId, UnixMillis>>,
}

impl Slides {
    /// Notes that a session was validated.
    pub fn note(&self, session: &Session, now: UnixMillis) {
        if session.expiry == Expiry::Fixed {
            return;
        }
        let moved = now.plus(session.ttl.get()).0 - self.expires_at(session).0;
        if moved < i64::try_from(session.ttl.coarseness().as_millis()).unwrap_or(i64::MAX) {
            return;
        }
        let mut pending = self.pending();
        if pending.len() < MOST || pending.contains_key(&session.id) {
            pending.insert(session.id.clone(), now);
        }
    }

    /// When a session ends, notes that are not written yet included.
    #[must_use]
    pub fn expires_at(&self, session: &Session) -> UnixMillis {
        match session.expiry {
            Expiry::Fixed => session.expires_at,
            Expiry::Sliding => {
                let noted = self.pending().get(&session.id).map(|at| at.plus(session.ttl.get()));
                noted.map_or(session.expires_at, |end| end.max(session.expires_at))
            }
        }
    }

    /// Writes what was noted, in batches: how long ago by `now`, since the database goes by a clock of its own. What cannot be
    /// written stays noted.
    ///
    /// # Errors
    /// When the database gives no complete answer. A note written twice is written once.
    pub async fn flush<S: Store>(
        &self,
        store: &S,
        now: impl Fn() -> UnixMillis,
        call: impl Fn() -> Call,
    ) -> Result<(), StoreError> {
        let noted: Vec<_> = self.pending().iter().map(|(id, at)| (id.clone(), *at)).collect();
        for batch in noted.chunks(MAX_USED) {
            let now = now();
            let uses: Vec<_> = batch.iter().map(|(id, at)| (id.clone(), now.since(*at))).collect();
            store.slide_sessions(call(), &uses).await?;
            let mut pending = self.pending();
            for (id, at) in batch {
                if pending.get(id) == Some(at) {
                    pending.remove(id);
                }
            }
        }
        Ok(())
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<SessionId, UnixMillis>> {
        // Every change to the map is one call that cannot be left half-done.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
