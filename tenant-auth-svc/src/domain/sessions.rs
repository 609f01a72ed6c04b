//! The use cases of sessions.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use thiserror::Error;

use super::{
    admin::local_change,
    cache_policy::sliding_session_reuse,
    change::{ChangeKind, Invalidate, PerSubject, WriteThrough},
    client_reuse::ClientReuse,
    clock::{SharedClock, UnixMillis},
    guess_limiter::LoadContext,
    id::{KeyId, TenantId},
    key::{KeyRecord, PresentedKey},
    page::{Page, PageRequest},
    record_source::{CachedRecord, RecordSource},
    scope::ScopeSet,
    session::{
        Attributes, NewSession, Session, SessionExpiry, SessionId, SessionRecord, SessionVerdict,
        SlidingExpiryTracker, StoredBinding, Ttl,
    },
    store::{Call, Committed, FailureKind, Lane, Store, StoreError},
    validate::{KeyQuery, KeySource, Validator},
    verdict::{Decision, Provenance, Source, Verdict},
};

/// The memory of sessions.
pub trait SessionCache:
    RecordSource<Id = SessionId, Record = SessionRecord> + Invalidate + WriteThrough<SessionId, SessionRecord>
{
}

impl<M> SessionCache for M where
    M: RecordSource<Id = SessionId, Record = SessionRecord>
        + Invalidate
        + WriteThrough<SessionId, SessionRecord>
{
}

/// A session to bind to the tenant of a key.
#[derive(Debug)]
pub struct SessionToBind {
    /// The session.
    pub id: SessionId,
    /// The key that opens it, as presented.
    pub key: PresentedKey,
    /// How long it lives.
    pub ttl: Ttl,
    /// How its end moves.
    pub expiry: SessionExpiry,
    /// What to hand back at every validation.
    pub attributes: Attributes,
}

/// What became of a binding.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindOutcome {
    /// It is bound; as it was, if it had been bound before this call.
    Bound {
        /// The session as stored.
        session: Box<Session>,
        /// Whether it was bound before.
        already: bool,
    },
    /// It is not, because of this; and the key that was presented, if it is known.
    Denied(SessionVerdict, Option<Arc<KeyRecord>>),
}

/// A question: this session, with that key, for that.
#[derive(Debug)]
pub struct SessionQuery {
    /// The session.
    pub id: SessionId,
    /// The key presented along with it, if any.
    pub key: Option<PresentedKey>,
    /// What the session's key must be allowed to do.
    pub required_scopes: ScopeSet,
}

/// A verdict on a session with everything a caller may want to know about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionDecision {
    /// The verdict.
    pub verdict: SessionVerdict,
    /// The session, when the caller may know of it.
    pub session: Option<Arc<SessionRecord>>,
    /// When it ends by itself.
    pub expires_at: Option<UnixMillis>,
    /// Required scopes that its key lacks.
    pub missing_scopes: ScopeSet,
    /// The key presented along with it, where it is a live one of the session's tenant.
    pub presented_key: Option<KeyId>,
    /// What the answer is worth.
    pub provenance: Provenance,
}

/// Why a session could not be bound, ended or listed.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The tenant has as many as it may have.
    #[error("the tenant has {cap} sessions, which is as many as it may have")]
    TooMany {
        /// How many it may have.
        cap: u32,
    },
    /// There is no such tenant.
    #[error("there is no tenant {0}")]
    NoSuchTenant(TenantId),
    /// The database gave no answer.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Binds, ends, lists and decides about sessions.
#[derive(Debug)]
pub struct Sessions<S, K, M> {
    store: S,
    validator: Arc<Validator<K>>,
    cache: M,
    sliding_expiries: Arc<SlidingExpiryTracker>,
    /// The most sessions of one tenant.
    max_sessions_per_tenant: u32,
    clock: SharedClock,
}

impl<S: Store, K: KeySource, M: SessionCache> Sessions<S, K, M> {
    /// Keeps sessions in `store` and decides by what `memory` knows of them; `validator` decides about presented keys,
    /// and `slides` about how far ends have moved. A tenant may have up to `cap` sessions.
    pub fn new(
        store: S,
        validator: Arc<Validator<K>>,
        memory: M,
        slides: Arc<SlidingExpiryTracker>,
        cap: u32,
        clock: SharedClock,
    ) -> Self {
        Self {
            store,
            validator,
            cache: memory,
            sliding_expiries: slides,
            max_sessions_per_tenant: cap,
            clock,
        }
    }

    /// Binds a session to the tenant of a key. One that the same tenant has bound already stays as it is, unless it, or
    /// the key that opened it, is over. It never moves to another tenant.
    ///
    /// # Errors
    /// [`SessionError::TooMany`]; [`SessionError::Store`], after which it may be bound: repeating the call finds it.
    pub async fn bind(
        &self,
        order: SessionToBind,
        ask: impl Into<LoadContext> + Send,
    ) -> Result<BindOutcome, SessionError> {
        let ask = ask.into();
        let deadline = ask.deadline;
        let question = KeyQuery { key: order.key, required_scopes: ScopeSet::EMPTY };
        let decision = self.validator.decide(&question, ask).await?;
        let key = match (decision.verdict, decision.key) {
            (Verdict::Valid, Some(key)) => key,
            (verdict, key) => return Ok(BindOutcome::Denied(SessionVerdict::Key(verdict), key)),
        };
        let new = NewSession {
            id: order.id.clone(),
            tenant_id: key.tenant_id.clone(),
            key_id: key.key_id.clone(),
            ttl: order.ttl,
            expiry: order.expiry,
            attributes: order.attributes,
            bind_id: uuid::Uuid::now_v7().simple().to_string(),
            max_sessions: self.max_sessions_per_tenant,
        };
        let begun = self.cache.begin();
        let outcome = self.store.bind_session(call(deadline), &new).await;
        // Even after a failure: its answer may have been lost after the commit.
        self.cache.apply(&PerSubject::for_session(&order.id, local_change(ChangeKind::Changed, &outcome)));
        let Committed { outcome: (binding, record), revision } = outcome?;
        if let Some(record) = record {
            self.cache.put(begun, &order.id, record, revision);
        }
        match binding {
            StoredBinding::Bound { session, already } => Ok(BindOutcome::Bound { session, already }),
            StoredBinding::HeldByAnotherTenant => {
                Ok(BindOutcome::Denied(SessionVerdict::TenantMismatch, Some(key)))
            }
            StoredBinding::TooMany => Err(SessionError::TooMany { cap: self.max_sessions_per_tenant }),
        }
    }

    /// Ends a session of a tenant. Whether it was bound until now.
    ///
    /// # Errors
    /// [`SessionError::Store`], after which it may be ended.
    pub async fn unbind(
        &self,
        id: SessionId,
        tenant: TenantId,
        deadline: Instant,
    ) -> Result<bool, SessionError> {
        let outcome = self.store.unbind_session(call(deadline), &id, &tenant).await;
        let was_bound = outcome.as_ref().is_ok_and(|committed| committed.outcome);
        let fate = if was_bound { ChangeKind::Unbound } else { ChangeKind::Changed };
        self.cache.apply(&PerSubject::for_session(&id, local_change(fate, &outcome)));
        Ok(outcome?.outcome)
    }

    /// Lists a tenant's sessions that are not over, nor their keys, newest first.
    ///
    /// # Errors
    /// [`SessionError::NoSuchTenant`] when the list is empty because there is no such tenant; [`SessionError::Store`].
    pub async fn list(
        &self,
        tenant: TenantId,
        page: PageRequest<(UnixMillis, SessionId)>,
        deadline: Instant,
    ) -> Result<Page<Session, (UnixMillis, SessionId)>, SessionError> {
        let sessions = self.store.list_sessions(call(deadline), &tenant, &page).await?;
        let nothing = sessions.items.is_empty() && page.after.is_none();
        if nothing && self.store.get_tenant(call(deadline), &tenant).await?.is_none() {
            return Err(SessionError::NoSuchTenant(tenant));
        }
        Ok(sessions)
    }

    /// Decides about a session.
    ///
    /// # Errors
    /// When it cannot be decided: memory has no usable answer and the database gives none before the deadline.
    pub async fn decide(
        &self,
        question: SessionQuery,
        ask: impl Into<LoadContext> + Send,
    ) -> Result<SessionDecision, StoreError> {
        let ask = ask.into();
        let SessionQuery { id, key, required_scopes } = question;
        let presented = async {
            match key {
                None => Ok(None),
                Some(key) => {
                    let question = KeyQuery { key, required_scopes: ScopeSet::EMPTY };
                    self.validator.decide(&question, ask.clone()).await.map(Some)
                }
            }
        };
        let (session, presented) = futures::future::join(self.get_or_load(&id, &ask), presented).await;
        Ok(self.evaluate(session?, presented?, &required_scopes))
    }

    async fn get_or_load(
        &self,
        id: &SessionId,
        ask: &LoadContext,
    ) -> Result<CachedRecord<SessionRecord>, StoreError> {
        let knowledge = match self.cache.get(id) {
            Some(knowledge) => knowledge,
            None => {
                let outcome = self.cache.load(std::slice::from_ref(id), ask).await.pop();
                let nothing = || Err(StoreError::new(FailureKind::Internal, "a fetch gave no outcome"));
                outcome.unwrap_or_else(nothing)?
            }
        };
        // Another replica may have seen it used, and so moved its end: then memory must not be what ends it.
        let slid_elsewhere = knowledge.record.as_deref().is_some_and(|record| {
            record.session.expiry == SessionExpiry::Sliding
                && self.sliding_expiries.expires_at(&record.session) <= self.clock.now()
        });
        if slid_elsewhere && knowledge.provenance.source != Source::Database {
            return self.cache.revalidate(id, ask.deadline).await;
        }
        Ok(knowledge)
    }

    fn evaluate(
        &self,
        session: CachedRecord<SessionRecord>,
        presented: Option<Decision>,
        required: &ScopeSet,
    ) -> SessionDecision {
        let now = self.clock.now();
        let provenance = match &presented {
            Some(decision) => {
                let both = session.provenance.combine(decision.provenance);
                let known = decision.key.as_ref().zip(session.record.as_ref());
                // What became of the key that opened it is in the session's own record.
                if known.is_some_and(|(key, record)| key.key_id == record.key.key_id) {
                    Provenance { revision: session.provenance.revision, ..both }
                } else {
                    both
                }
            }
            None => session.provenance,
        };
        let denied = |verdict| SessionDecision {
            verdict,
            session: None,
            expires_at: None,
            missing_scopes: ScopeSet::EMPTY,
            presented_key: None,
            // It names nothing that an invalidation could be about.
            provenance: Provenance { reuse: provenance.reuse.without_subject_ids(), ..provenance },
        };
        let Some(mut record) = session.record else {
            return denied(SessionVerdict::Unbound);
        };
        let mut presented_key = None;
        if let Some(Decision { verdict, key, .. }) = presented {
            if key.as_ref().is_some_and(|key| key.tenant_id != record.session.tenant_id) {
                // Whose it is, is nothing that another tenant may learn.
                return denied(SessionVerdict::TenantMismatch);
            }
            if verdict != Verdict::Valid {
                return denied(SessionVerdict::Key(verdict));
            }
            presented_key = key.map(|key| key.key_id.clone());
        }
        let slid_to = self.sliding_expiries.expires_at(&record.session);
        if slid_to != record.session.expires_at {
            Arc::make_mut(&mut record).session.expires_at = slid_to;
        }
        let denied = self.validator.deny_list().verdict(&record.session.key_id, &record.session.tenant_id);
        let verdict = match (SessionVerdict::evaluate(&record, required, now), denied) {
            (SessionVerdict::Key(verdict), Some(denied)) => SessionVerdict::Key(verdict.with_denial(denied)),
            (verdict, _) => verdict,
        };
        if verdict == SessionVerdict::VALID {
            self.sliding_expiries.record_validation(&record.session, now);
        }
        let missing_scopes = match verdict {
            SessionVerdict::Key(Verdict::InsufficientScope) => record.key.scopes.missing(required),
            _ => ScopeSet::EMPTY,
        };
        let ends_at = record.expires_at();
        let mut provenance = provenance.limit_reuse_until(Some(ends_at), now);
        if denied.is_some() {
            provenance.reuse = ClientReuse::NONE;
        } else if record.session.expiry == SessionExpiry::Sliding {
            let left = Duration::from_millis(u64::try_from(ends_at.0 - now.0).unwrap_or_default());
            provenance.reuse = sliding_session_reuse(provenance.reuse, record.session.ttl.get(), left);
        }
        SessionDecision {
            verdict,
            session: Some(record),
            expires_at: Some(ends_at),
            missing_scopes,
            presented_key,
            provenance,
        }
    }
}

fn call(deadline: Instant) -> Call {
    Call::until(Lane::Sessions, deadline)
}
