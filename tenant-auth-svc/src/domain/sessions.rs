//! The use cases of sessions.

mod types;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

pub use self::types::{BindOutcome, SessionDecision, SessionError, SessionQuery, SessionToBind};
use super::{
    admin::local_change,
    audit::Actor,
    cache_policy::sliding_session_reuse,
    change::{ChangeKind, Invalidate, PerSubject, WriteThrough},
    client_reuse::ClientReuse,
    clock::{SharedClock, UnixMillis},
    id::TenantId,
    network::{AllowedNetworks, ClientAddress},
    page::{Page, PageRequest},
    record_source::{CachedRecord, RecordSource},
    scope::ScopeSet,
    session::{
        NewSession, Session, SessionExpiry, SessionId, SessionRecord, SessionVerdict, SlidingExpiryTracker,
        StoredBinding,
    },
    store::{Call, Change, Committed, FailureKind, Lane, Store, StoreError},
    text::Reason,
    unknown_lookup_limiter::LoadContext,
    validate::{KeyQuery, KeySource, Validator},
    verdict::{Decision, Provenance, Source, Verdict},
};

/// The cache of sessions.
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

/// Binds, unbinds, lists and validates sessions.
#[derive(Debug)]
pub struct Sessions<S, K, M> {
    store: S,
    validator: Arc<Validator<K>>,
    cache: M,
    sliding_expiries: Arc<SlidingExpiryTracker>,
    /// Maximum number of sessions per tenant.
    max_sessions_per_tenant: u32,
    clock: SharedClock,
}

impl<S: Store, K: KeySource, M: SessionCache> Sessions<S, K, M> {
    /// Creates the use case: sessions are stored in `store` and validated through `cache`, presented keys
    /// through `validator`. `sliding_expiries` tracks the expiry of sliding sessions. A tenant may have up to
    /// `max_sessions_per_tenant` sessions.
    pub fn new(
        store: S,
        validator: Arc<Validator<K>>,
        cache: M,
        sliding_expiries: Arc<SlidingExpiryTracker>,
        max_sessions_per_tenant: u32,
        clock: SharedClock,
    ) -> Self {
        Self { store, validator, cache, sliding_expiries, max_sessions_per_tenant, clock }
    }

    /// Binds a session to the tenant of a key. A session that the same tenant has bound stays unchanged,
    /// unless it has expired or its key is no longer valid. A session never moves to another tenant.
    ///
    /// # Errors
    /// [`SessionError::TooMany`]; [`SessionError::Store`], after which it may be bound: a repeated call
    /// returns it.
    pub async fn bind(
        &self,
        session_to_bind: SessionToBind,
        context: impl Into<LoadContext> + Send,
    ) -> Result<BindOutcome, SessionError> {
        let context = context.into();
        let deadline = context.deadline;
        let query =
            KeyQuery { client_address: session_to_bind.client_address, ..KeyQuery::new(session_to_bind.key) };
        let decision = self.validator.decide(&query, context).await?;
        let key = match (decision.verdict, decision.key) {
            (Verdict::Valid, Some(key)) => key,
            (verdict, key) => return Ok(BindOutcome::Denied(SessionVerdict::Key(verdict), key)),
        };
        let new = NewSession {
            id: session_to_bind.id.clone(),
            tenant_id: key.tenant.id.clone(),
            key_id: key.key_id.unpack(),
            ttl: session_to_bind.ttl,
            expiry: session_to_bind.expiry,
            attributes: session_to_bind.attributes,
            bind_id: uuid::Uuid::now_v7().simple().to_string(),
            max_sessions: self.max_sessions_per_tenant,
        };
        let begun = self.cache.begin();
        let outcome = self.store.bind_session(call(deadline), &new).await;
        // Also after a failure: the response may have been lost after the commit.
        self.cache.apply(&PerSubject::for_session(
            &session_to_bind.id,
            local_change(ChangeKind::Changed, &outcome),
        ));
        let Committed { outcome: (binding, record), revision } = outcome?;
        if let Some(record) = record {
            self.cache.put(begun, &session_to_bind.id, record, revision);
        }
        match binding {
            StoredBinding::Bound { session, already } => Ok(BindOutcome::Bound { session, already }),
            StoredBinding::HeldByAnotherTenant => {
                Ok(BindOutcome::Denied(SessionVerdict::TenantMismatch, Some(key)))
            }
            StoredBinding::TooMany => Err(SessionError::TooMany { cap: self.max_sessions_per_tenant }),
        }
    }

    /// Unbinds a session of a tenant. Returns whether it was bound until now. With a reason, it is recorded who did it and why.
    ///
    /// # Errors
    /// [`SessionError::Store`], after which it may be unbound.
    pub async fn unbind(
        &self,
        id: SessionId,
        tenant: TenantId,
        reason: Option<(Reason, Actor)>,
        deadline: Instant,
    ) -> Result<Committed<bool>, SessionError> {
        let recorded = reason.map(|(reason, actor)| (reason, Change { actor, at: self.clock.now() }));
        let recorded = recorded.as_ref().map(|(reason, change)| (reason, change));
        let outcome = self.store.unbind_session(call(deadline), &id, &tenant, recorded).await;
        let was_bound = outcome.as_ref().is_ok_and(|committed| committed.outcome);
        let kind = if was_bound { ChangeKind::Unbound } else { ChangeKind::Changed };
        self.cache.apply(&PerSubject::for_session(&id, local_change(kind, &outcome)));
        Ok(outcome?)
    }

    /// Lists a tenant's sessions, newest first, without expired ones and those whose key is revoked or expired.
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
        let is_empty = sessions.items.is_empty() && page.after.is_none();
        if is_empty && self.store.get_tenant(call(deadline), &tenant).await?.is_none() {
            return Err(SessionError::NoSuchTenant(tenant));
        }
        Ok(sessions)
    }

    /// Validates a session.
    ///
    /// # Errors
    /// When no decision is possible: the cache has no usable record, and the database returns none before the
    /// deadline.
    pub async fn decide(
        &self,
        query: SessionQuery,
        context: impl Into<LoadContext> + Send,
    ) -> Result<SessionDecision, StoreError> {
        let context = context.into();
        let SessionQuery { id, key, required_scopes, client_address } = query;
        let presented = async {
            match key {
                None => Ok(None),
                Some(key) => {
                    let query = KeyQuery { client_address, ..KeyQuery::new(key) };
                    self.validator.decide(&query, context.clone()).await.map(Some)
                }
            }
        };
        let (session, presented) = futures::future::join(self.get_or_load(&id, &context), presented).await;
        Ok(self.evaluate(session?, presented?, &required_scopes, client_address))
    }

    async fn get_or_load(
        &self,
        id: &SessionId,
        context: &LoadContext,
    ) -> Result<CachedRecord<SessionRecord>, StoreError> {
        let cached = match self.cache.get(id) {
            Some(cached) => cached,
            None => {
                let outcome = self.cache.load(std::slice::from_ref(id), context).await.pop();
                let missing_outcome =
                    || Err(StoreError::new(FailureKind::Internal, "a load returned no outcome"));
                outcome.unwrap_or_else(missing_outcome)?
            }
        };
        // Another replica may have validated the session and extended it, so a cached expiry must be
        // confirmed.
        let may_be_extended = cached.record.as_ref().is_some_and(|record| {
            record.session.expiry == SessionExpiry::Sliding
                && self.sliding_expiries.expires_at(&record.session) <= self.clock.now()
        });
        if may_be_extended && cached.provenance.source != Source::Database {
            return self.cache.revalidate(id, context.deadline).await;
        }
        Ok(cached)
    }

    fn evaluate(
        &self,
        session: CachedRecord<SessionRecord>,
        presented: Option<Decision>,
        required: &ScopeSet,
        address: Option<ClientAddress>,
    ) -> SessionDecision {
        let now = self.clock.now();
        let provenance = match &presented {
            Some(decision) => {
                let combined = session.provenance.combine(decision.provenance);
                let keys = decision.key.as_ref().zip(session.record.as_ref());
                // The session's record includes the key that opened it, so its revision covers that key.
                if keys.is_some_and(|(key, record)| key.key_id == record.key.key_id) {
                    Provenance { revision: session.provenance.revision, ..combined }
                } else {
                    combined
                }
            }
            None => session.provenance,
        };
        let deny = |verdict| SessionDecision {
            verdict,
            session: None,
            expires_at: None,
            missing_scopes: ScopeSet::EMPTY,
            presented_key: None,
            presented_key_networks: AllowedNetworks::EVERYWHERE,
            // The answer names no subject, so no invalidation can refer to it.
            provenance: Provenance { reuse: provenance.reuse.without_subject_ids(), ..provenance },
        };
        let Some(mut record) = session.record else {
            return deny(SessionVerdict::Unbound);
        };
        let mut presented_key = None;
        let mut presented_key_networks = AllowedNetworks::EVERYWHERE;
        let mut address_denial = None;
        if let Some(Decision { verdict, key, .. }) = presented {
            if key.as_ref().is_some_and(|key| key.tenant.id != record.session.tenant_id) {
                // The caller must not learn which other tenant owns the session.
                return deny(SessionVerdict::TenantMismatch);
            }
            match verdict {
                Verdict::Valid => {}
                // The answer contains the networks, because a caller may reuse it for requests from other addresses.
                Verdict::AddressRequired | Verdict::AddressNotAllowed => address_denial = Some(verdict),
                verdict => return deny(SessionVerdict::Key(verdict)),
            }
            if let Some(key) = key.as_ref().filter(|key| key.key_id != record.key.key_id) {
                presented_key_networks = key.allowed_networks.clone();
            }
            presented_key = key.map(|key| key.key_id.unpack());
        }
        let extended_until = self.sliding_expiries.expires_at(&record.session);
        if extended_until != record.session.expires_at {
            Arc::make_mut(&mut record.session).expires_at = extended_until;
        }
        let denial = self.validator.deny_list().verdict(&record.key.key_id, &record.session.tenant_id);
        let verdict = match (SessionVerdict::evaluate(&record, required, address, now), address_denial) {
            (SessionVerdict::Key(Verdict::Valid | Verdict::InsufficientScope), Some(verdict)) => {
                SessionVerdict::Key(verdict)
            }
            (verdict, _) => verdict,
        };
        let verdict = match (verdict, denial) {
            (SessionVerdict::Key(verdict), Some(denial)) => SessionVerdict::Key(verdict.with_denial(denial)),
            (verdict, _) => verdict,
        };
        if verdict == SessionVerdict::VALID {
            self.sliding_expiries.record_validation(&record.session, now);
        }
        let missing_scopes = match verdict {
            SessionVerdict::Key(Verdict::InsufficientScope) => record.key.scopes.missing(required),
            _ => ScopeSet::EMPTY,
        };
        let expires_at = record.expires_at();
        let mut provenance = provenance.limit_reuse_until(Some(expires_at), now);
        if denial.is_some() {
            provenance.reuse = ClientReuse::NONE;
        } else if record.session.expiry == SessionExpiry::Sliding {
            let remaining = Duration::from_millis(u64::try_from(expires_at.0 - now.0).unwrap_or_default());
            provenance.reuse = sliding_session_reuse(provenance.reuse, record.session.ttl.get(), remaining);
        }
        SessionDecision {
            verdict,
            session: Some(record),
            expires_at: Some(expires_at),
            missing_scopes,
            presented_key,
            presented_key_networks,
            provenance,
        }
    }
}

fn call(deadline: Instant) -> Call {
    Call::until(Lane::Sessions, deadline)
}
