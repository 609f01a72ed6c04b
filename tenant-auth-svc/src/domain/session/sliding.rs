//! Sliding expiries, without a write per validation.
//!
//! A validation of a sliding session is recorded when its expiry has moved by more than a tenth of its time
//! to live, or a minute. Recorded validations are written in batches every few seconds. Until then, and
//! during an outage, this replica uses the recorded time.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use super::{Session, SessionExpiry, SessionId, Ttl};
use crate::domain::{
    clock::UnixMillis,
    store::{Call, MAX_USES_PER_WRITE, Store, StoreError},
};

/// Maximum number of recorded validations. Beyond it, a session expires as if it had not been validated.
const MAX_PENDING_SESSIONS: usize = 100_000;

/// Validations of sliding sessions that are not written yet.
#[derive(Debug, Default)]
pub struct SlidingExpiryTracker {
    pending: Mutex<HashMap<SessionId, (UnixMillis, Ttl)>>,
}

impl SlidingExpiryTracker {
    /// Records that a session was validated.
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

    /// Returns when a session expires, including validations that are not written yet.
    #[must_use]
    pub fn expires_at(&self, session: &Session) -> UnixMillis {
        match session.expiry {
            SessionExpiry::Fixed => session.expires_at,
            SessionExpiry::Sliding => {
                let pending = self.pending().get(&session.id).map(|(at, _)| at.plus(session.ttl.get()));
                pending.map_or(session.expires_at, |extended| extended.max(session.expires_at))
            }
        }
    }

    /// Writes the pending validations, in batches. Each is written as an age at `now`, since the database
    /// uses its own clock. Validations that cannot be written stay pending until the session has expired;
    /// otherwise, in an outage, they would leave no capacity for others.
    ///
    /// # Errors
    /// When the database returns no complete result. Writing a validation twice has no further effect.
    pub async fn flush<S: Store>(
        &self,
        store: &S,
        now: impl Fn() -> UnixMillis,
        call: impl Fn() -> Call,
    ) -> Result<(), StoreError> {
        let pending_validations = self.unexpired_pending(now());
        for batch in pending_validations.chunks(MAX_USES_PER_WRITE) {
            let now = now();
            let uses: Vec<_> = batch.iter().map(|(id, at)| (id.clone(), now.since(*at))).collect();
            store.extend_sessions(call(), &uses).await?;
            let mut pending = self.pending();
            for (id, at) in batch {
                if pending.get(id).is_some_and(|(recorded, _)| recorded == at) {
                    pending.remove(id);
                }
            }
        }
        Ok(())
    }

    /// Returns the validations to write, and drops those of expired sessions.
    fn unexpired_pending(&self, now: UnixMillis) -> Vec<(SessionId, UnixMillis)> {
        let mut pending = self.pending();
        pending.retain(|_, (at, ttl)| at.plus(ttl.get()) > now);
        pending.iter().map(|(id, (at, _))| (id.clone(), *at)).collect()
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<SessionId, (UnixMillis, Ttl)>> {
        // Every change to the map is a single call, so a panic leaves it consistent.
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
        let tracker = SlidingExpiryTracker::default();
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
            tracker.record_validation(&session(format!("old-{id}")), start);
        }
        let new = session("new".to_owned());
        let later = start.plus(Duration::from_secs(61));
        tracker.record_validation(&new, later);
        assert_eq!(tracker.expires_at(&new), start, "the tracker is full");
        assert_eq!(tracker.unexpired_pending(later).len(), 0, "expired sessions are not written");
        tracker.record_validation(&new, later);
        assert_eq!(tracker.expires_at(&new), later.plus(ttl.get()));
        assert_eq!(tracker.unexpired_pending(later).len(), 1);
    }
}
