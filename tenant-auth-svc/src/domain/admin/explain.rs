//! Explains the verdict on a key.

use std::time::Instant;

use super::{Admin, AdminError, KeyCache, KeyState, call};
use crate::domain::{
    audit::{AuditEvent, AuditFilter, AuditTerm},
    clock::UnixMillis,
    id::KeyId,
    inspect::KeyInspection,
    key::{KeyHash, KeyRecord, PresentedKey},
    network::ClientAddress,
    page::{PageRequest, PageSize},
    scope::ScopeSet,
    store::{Store, StoreError},
    verdict::{Source, Verdict},
};

/// How many audit log entries about a key, and how many about its tenant, are shown.
const MAX_EVENTS: u16 = 5;

/// A key, as an operator names it.
#[derive(Debug)]
pub enum KeyReference {
    /// By its public id.
    Id(KeyId),
    /// By its plaintext.
    Plaintext(PresentedKey),
}

/// A request to explain a key.
#[derive(Debug)]
pub struct ExplainQuery {
    /// The key.
    pub key: KeyReference,
    /// Scopes that it must have.
    pub required_scopes: ScopeSet,
    /// The address that it is used from; `None` if it is unknown.
    pub client_address: Option<ClientAddress>,
}

/// A key that a request names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResolvedKey {
    /// The text cannot be a key, or is damaged and no imported key.
    Malformed,
    /// The deny list contains its hash.
    DeniedByHash,
    /// Its id.
    Known(KeyId),
    /// Neither the database nor the cache contains it.
    Unknown,
    /// The cache does not contain it, and the database could not be read.
    Unread(StoreError),
}

/// What the database contains about a key.
#[derive(Clone, Debug)]
pub struct KeyHistory {
    /// The key; `None` if there is none.
    pub state: Option<KeyState>,
    /// The latest audit log entries about the key, the latest first.
    pub key_events: Vec<AuditEvent>,
    /// The latest audit log entries about its tenant itself, the latest first.
    pub tenant_events: Vec<AuditEvent>,
}

/// The verdict of a replica, and what it follows from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExplainedVerdict {
    /// The verdict; `None` if none can be given now.
    pub verdict: Option<Verdict>,
    /// Required scopes that the key lacks.
    pub missing_scopes: ScopeSet,
    /// Whether the deny list decides.
    pub is_denied_by_list: bool,
}

impl ExplainedVerdict {
    /// A verdict that needs no record.
    #[must_use]
    pub fn without_record(verdict: Option<Verdict>, is_denied_by_list: bool) -> Self {
        Self { verdict, missing_scopes: ScopeSet::EMPTY, is_denied_by_list }
    }
}

impl<S: Store, M: KeyCache> Admin<S, M> {
    /// Returns the id of a key. `cached` finds it in the cache of this replica, if the database does not contain it or
    /// cannot be read.
    pub async fn resolve_key(
        &self,
        key: &KeyReference,
        cached: impl Fn(&KeyHash) -> Option<KeyId>,
        deadline: Instant,
    ) -> ResolvedKey {
        let plaintext = match key {
            KeyReference::Id(id) => return ResolvedKey::Known(id.clone()),
            KeyReference::Plaintext(plaintext) => plaintext,
        };
        let Ok(parsed) = self.format.parse(plaintext) else { return ResolvedKey::Malformed };
        let hash = parsed.hash();
        let found = self.store.lookup_keys(call(deadline), &[hash]).await.and_then(|found| {
            let record = found.records.into_iter().next();
            match record.transpose()?.flatten() {
                None => found.not_found_error.map_or(Ok(None), Err),
                record => Ok(record),
            }
        });
        let id = match &found {
            Ok(Some(record)) => Some(record.key_id.unpack()),
            Ok(None) | Err(_) => cached(&hash),
        };
        match (id, found) {
            (Some(id), _) => ResolvedKey::Known(id),
            (None, _) if self.deny_list.is_hash_denied(&hash) => ResolvedKey::DeniedByHash,
            (None, Err(error)) => ResolvedKey::Unread(error),
            (None, Ok(_)) if parsed.verdict_if_not_found() == Verdict::Malformed => ResolvedKey::Malformed,
            (None, Ok(_)) => ResolvedKey::Unknown,
        }
    }

    /// Reads a key and what was changed about it.
    ///
    /// # Errors
    /// [`AdminError::Store`]. A key that does not exist is not an error.
    pub async fn key_history(&self, id: &KeyId, deadline: Instant) -> Result<KeyHistory, AdminError> {
        let state = match self.get_key(id.clone(), deadline).await {
            Err(AdminError::NoSuchKey(_)) => None,
            state => Some(state?),
        };
        let key_events = self.latest_events(id.as_str(), deadline).await?;
        let tenant = state.as_ref().map(|state| state.stored.key.tenant_id.as_str());
        let tenant_events = match tenant {
            Some(tenant) => self.latest_events(tenant, deadline).await?,
            None => Vec::new(),
        };
        Ok(KeyHistory { state, key_events, tenant_events })
    }

    async fn latest_events(&self, target: &str, deadline: Instant) -> Result<Vec<AuditEvent>, AdminError> {
        // An id has only visible characters, and is shorter than a term may be.
        let Ok(target) = AuditTerm::parse(target) else { return Ok(Vec::new()) };
        let filter = AuditFilter { target: Some(target), ..AuditFilter::default() };
        let page = PageRequest { size: PageSize::new(MAX_EVENTS), after: None };
        Ok(self.list_audit(filter, page, deadline).await?.items)
    }

    /// Returns the verdict that this replica would give now: from its cache, as long as the cached record may be used,
    /// otherwise from the database.
    #[must_use]
    pub fn explain_verdict(
        &self,
        query: &ExplainQuery,
        inspection: &KeyInspection,
        history: &Result<KeyHistory, AdminError>,
    ) -> ExplainedVerdict {
        let stored = history.as_ref().ok().map(|history| history.state.as_ref());
        let stored_record = stored.map(|state| state.and_then(|state| state.stored.record()));
        let cached = inspection.cached.as_ref().map(|(cached, _)| cached);
        let usable = cached.filter(|cached| cached.source != Source::Database || stored.is_none());
        // By hash: no record is looked up then.
        let is_cached_hash_denied =
            inspection.is_on_deny_list && !self.deny_list.is_key_denied(&inspection.key_id);
        let is_stored_hash_denied = stored.flatten().is_some_and(|state| {
            let key = &state.stored.key;
            state.on_deny_list && self.deny_list.verdict(&(&key.id).into(), &key.tenant_id).is_none()
        });
        if is_cached_hash_denied || is_stored_hash_denied {
            return ExplainedVerdict::without_record(Some(Verdict::Revoked), true);
        }
        match (usable, stored_record) {
            (Some(cached), _) => self.explain_record(query, &cached.record, inspection.now),
            (None, Some(Some(record))) => self.explain_record(query, &record, inspection.now),
            (None, Some(None)) => ExplainedVerdict::without_record(Some(Verdict::Unknown), false),
            (None, None) => ExplainedVerdict::without_record(None, false),
        }
    }

    fn explain_record(&self, query: &ExplainQuery, record: &KeyRecord, now: UnixMillis) -> ExplainedVerdict {
        let verdict = Verdict::evaluate(record, &query.required_scopes, query.client_address, now);
        let denial = self.deny_list.verdict(&record.key_id, &record.tenant.id);
        let with_denial = denial.map_or(verdict, |denial| verdict.with_denial(denial));
        let missing_scopes = match with_denial {
            Verdict::InsufficientScope => record.scopes.missing(&query.required_scopes),
            _ => ScopeSet::EMPTY,
        };
        ExplainedVerdict {
            verdict: Some(with_denial),
            missing_scopes,
            is_denied_by_list: denial.is_some() && with_denial != verdict,
        }
    }
}
