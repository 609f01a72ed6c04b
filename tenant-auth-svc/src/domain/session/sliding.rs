//! Ends that slide, without a write per validation.
//!
//! A validation of a sliding session is noted when its end has moved by more than a tenth of its time to live, or a
//! minute, and notes are written together every few seconds. Until then, and through an outage, this replica goes by
//! the note.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Session, SessionExpiry, SessionId, Ttl};
use crate::domain::{
    clock::UnixMillis,
    store::{Call, MAX_USES_PER_WRITE, Store, StoreError},
};

/// The most notes kept: beyond that, a session ends as if it had not been validated.
const MAX_PENDING_SESSIONS: usize = 100_000;

/// Validations of sliding sessions that are not written yet.
#[derive(Debug, Default)]
pub struct SlidingExpiryTracker {
    pending: Mutex<HashMap<SessionId, (UnixMillis, Ttl)>>,
}

impl SlidingExpiryTracker {
    /// Notes that a session was validated.
    pub fn record_validation(&self, session: &Session, now: UnixMillis) {
        if session.expiry == SessionExpiry::Fixed {
            return;
        }
        let moved = now.plus(session.ttl.get()).0 - self.expires_at(session).0;
        if moved < i64::try_from(session.ttl.slide_granularity().as_millis()).unwrap_or(i64::MAX) {
            return;
        }
        let mut pending = self.pending();
        if pending.len() < MAX_PENDING_SESSIONS || pending.contains_key(&session.id) {
            pending.insert(session.id.clone(), (now, session.ttl));
        }
    }

    /// When a session ends, notes that are not written yet included.
    #[must_use]
    pub fn expires_at(&self, session: &Session) -> UnixMillis {
        match session.expiry {
            SessionExpiry::Fixed => session.expires_at,
            SessionExpiry::Sliding => {
                let noted = self.pending().get(&session.id).map(|(at, _)| at.plus(session.ttl.get()));
                noted.map_or(session.expires_at, |end| end.max(session.expires_at))
            }
        }
    }

    /// Writes what was noted, in batches: how long ago by `now`, since the database goes by a clock of its own. What cannot be
    /// written stays noted, until the session is over all the same: in an outage those would leave no room for the others.
    ///
    /// # Errors
    /// When the database gives no complete answer. A note written twice is written once.
    pub async fn flush<S: Store>(
        &self,
        store: &S,
        now: impl Fn() -> UnixMillis,
        call: impl Fn() -> Call,
    ) -> Result<(), StoreError> {
        let noted = self.unexpired_pending(now());
        for batch in noted.chunks(MAX_USES_PER_WRITE) {
            let now = now();
            let uses: Vec<_> = batch.iter().map(|(id, at)| (id.clone(), now.since(*at))).collect();
            store.extend_sessions(call(), &uses).await?;
            let mut pending = self.pending();
            for (id, at) in batch {
                if pending.get(id).is_some_and(|(noted, _)| noted == at) {
                    pending.remove(id);
                }
            }
        }
        Ok(())
    }

    /// What is to be written, without the sessions that are over.
    fn unexpired_pending(&self, now: UnixMillis) -> Vec<(SessionId, UnixMillis)> {
        let mut pending = self.pending();
        pending.retain(|_, (at, ttl)| at.plus(ttl.get()) > now);
        pending.iter().map(|(id, (at, _))| (id.clone(), *at)).collect()
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<SessionId, (UnixMillis, Ttl)>> {
        // Every change to the map is one call that cannot be left half-done.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::{
        id::{KeyId, TenantId},
        session::Attributes,
    };

    #[test]
    fn expired_sessions_are_dropped_from_pending() {
        let slides = SlidingExpiryTracker::default();
        let start = UnixMillis(1_790_000_000_000);
        let ttl = Ttl::new(Duration::from_secs(60), SessionExpiry::Sliding).unwrap();
        let session = |id: String| Session {
            id: SessionId::parse(&id).unwrap(),
            tenant_id: TenantId::parse("t").unwrap(),
            key_id: KeyId::parse("k").unwrap(),
            created_at: start,
            expires_at: start,
            expiry: SessionExpiry::Sliding,
            ttl,
            attributes: Attributes::default(),
        };
        for id in 0..MAX_PENDING_SESSIONS {
            slides.record_validation(&session(format!("old-{id}")), start);
        }
        let new = session("new".to_owned());
        let later = start.plus(Duration::from_secs(61));
        slides.record_validation(&new, later);
        assert_eq!(slides.expires_at(&new), start, "there is no room");
        assert_eq!(slides.unexpired_pending(later).len(), 0, "what is over is not written");
        slides.record_validation(&new, later);
        assert_eq!(slides.expires_at(&new), later.plus(ttl.get()));
        assert_eq!(slides.unexpired_pending(later).len(), 1);
    }
}
