//! The use case of limits: validates a key or a session, and takes from the limits of its key.

use std::{sync::Arc, time::Duration};

use sha2::{Digest as _, Sha256};

use super::{
    Costs, EndedReservation, LimitEnforcer, LimitError, LimitOutcome, NewLimitId, ReservationEnd,
    ReservationError, ReservationRequest,
};
use crate::domain::{
    key::{BorrowedKey, KeyRecord},
    network::ClientAddress,
    scope::ScopeSet,
    session::SessionVerdict,
    sessions::{SessionCache, SessionDecision, SessionQuery, Sessions},
    store::Store,
    unknown_lookup_limiter::LoadContext,
    validate::{KeyQuery, KeySource, Validator},
    verdict::{Decision, Verdict},
};

/// Who wants to take something.
#[derive(Debug)]
pub enum Credential {
    /// A key.
    Key(KeyQuery),
    /// A session.
    Session(SessionQuery),
}

/// A verdict on a credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Validation {
    /// On a key.
    Key(Decision),
    /// On a session.
    Session(SessionDecision),
}

/// What to take, and by whom.
#[derive(Debug)]
pub struct Consumption {
    /// Who takes it.
    pub credential: Credential,
    /// What is taken.
    pub costs: Costs,
    /// If set, a repetition counts once.
    pub id: Option<CallerId>,
}

/// What to reserve, and by whom.
#[derive(Debug)]
pub struct Reservation {
    /// Who reserves.
    pub credential: Credential,
    /// What is reserved.
    pub costs: Costs,
    /// Identifies the reservation.
    pub id: CallerId,
    /// When it ends by itself.
    pub expires_in: Duration,
    /// Whether the amounts count as used then.
    pub charge_on_expiry: bool,
}

/// An id that a caller has chosen. Two callers may choose the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallerId {
    /// The caller's name in the callers file; `None` if callers have no names.
    pub caller: Option<String>,
    /// The id.
    pub id: String,
}

impl CallerId {
    /// Returns the id as stored.
    #[must_use]
    pub fn stored(&self) -> String {
        format!("{}\u{1f}{}", self.caller.as_deref().unwrap_or_default(), self.id)
    }
}

/// The verdict on a credential, and what its limits say. Without a decision of limits, the credential is not valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumeDecision {
    /// The verdict on the credential.
    pub validation: Validation,
    /// What the limits say; empty if the credential is not valid.
    pub outcome: LimitOutcome,
}

/// Validates keys and takes from their limits, without waiting.
#[derive(Debug)]
pub struct KeyConsumer<K, L> {
    validator: Arc<Validator<K>>,
    limits: L,
}

/// Validates credentials and takes from limits.
#[derive(Debug)]
pub struct Consumer<S, K, M, L> {
    keys: Arc<KeyConsumer<K, L>>,
    sessions: Arc<Sessions<S, K, M>>,
}

impl Validation {
    /// The key whose limits apply, if the credential is valid.
    fn valid_key(&self) -> Option<&KeyRecord> {
        match self {
            Self::Key(decision) => decision.key.as_ref().filter(|_| decision.verdict == Verdict::Valid),
            Self::Session(decision) => {
                let session = decision.session.as_ref();
                session
                    .filter(|_| decision.verdict == SessionVerdict::Key(Verdict::Valid))
                    .map(|session| &session.key)
            }
        }
    }
}

impl<K: KeySource, L: LimitEnforcer> KeyConsumer<K, L> {
    /// Creates the use case.
    pub fn new(validator: Arc<Validator<K>>, limits: L) -> Self {
        Self { validator, limits }
    }

    /// Decides about a key without waiting; `None` if that is impossible.
    #[must_use]
    pub fn consume_now<'a>(
        &self,
        (key, required, address): (impl Into<BorrowedKey<'a>>, &ScopeSet, Option<ClientAddress>),
        costs: &Costs,
    ) -> Option<ConsumeDecision> {
        let decision = self.validator.decide_from_cache(key, required, address)?;
        let validation = Validation::Key(decision);
        let outcome = match validation.valid_key() {
            Some(record) => self.limits.take_now(record, costs)?,
            None => LimitOutcome::default(),
        };
        Some(ConsumeDecision { validation, outcome })
    }
}

impl<S: Store, K: KeySource, M: SessionCache, L: LimitEnforcer> Consumer<S, K, M, L> {
    /// Creates the use case.
    pub fn new(keys: Arc<KeyConsumer<K, L>>, sessions: Arc<Sessions<S, K, M>>) -> Self {
        Self { keys, sessions }
    }

    /// Decides without waiting; `None` if that is impossible, or if the credential is a session.
    #[must_use]
    pub fn consume_now(&self, request: &Consumption) -> Option<ConsumeDecision> {
        match (&request.credential, &request.id) {
            (Credential::Key(query), None) => {
                let query = (&query.key, &query.required_scopes, query.client_address);
                self.keys.consume_now(query, &request.costs)
            }
            (Credential::Session(_), _) | (_, Some(_)) => None,
        }
    }

    /// Validates a credential, and takes costs if it is valid.
    ///
    /// # Errors
    /// When no decision is possible: see [`Validator::decide`] and [`LimitEnforcer`].
    pub async fn consume(
        &self,
        request: Consumption,
        context: LoadContext,
    ) -> Result<ConsumeDecision, LimitError> {
        let deadline = context.deadline;
        let validation = self.validate(request.credential, context).await?;
        let outcome = match (validation.valid_key(), request.id) {
            (None, _) => LimitOutcome::default(),
            (Some(record), None) => self.keys.limits.take(record, &request.costs, deadline).await?,
            (Some(record), Some(id)) => {
                let id = limit_id("consume", &id, record, &request.costs);
                self.keys.limits.take_once(record, &request.costs, id, deadline).await?
            }
        };
        Ok(ConsumeDecision { validation, outcome })
    }

    /// Validates a credential, and reserves costs if it is valid.
    ///
    /// # Errors
    /// As for [`Self::consume`].
    pub async fn reserve(
        &self,
        request: Reservation,
        context: LoadContext,
    ) -> Result<ConsumeDecision, LimitError> {
        let deadline = context.deadline;
        let validation = self.validate(request.credential, context).await?;
        let Some(record) = validation.valid_key() else {
            return Ok(ConsumeDecision { validation, outcome: LimitOutcome::default() });
        };
        let reservation = ReservationRequest {
            id: limit_id("reserve", &request.id, record, &request.costs),
            reservation_id: request.id.stored(),
            expires_in: request.expires_in,
            charge_on_expiry: request.charge_on_expiry,
        };
        let outcome = self.keys.limits.reserve(record, &request.costs, reservation, deadline).await?;
        Ok(ConsumeDecision { validation, outcome })
    }

    /// Ends a reservation.
    ///
    /// # Errors
    /// When it does not exist, or the database does not respond.
    pub async fn end_reservation(
        &self,
        id: &CallerId,
        end: ReservationEnd,
        context: LoadContext,
    ) -> Result<EndedReservation, ReservationError> {
        self.keys.limits.end_reservation(id.stored(), end, context.deadline).await
    }

    async fn validate(&self, credential: Credential, context: LoadContext) -> Result<Validation, LimitError> {
        Ok(match credential {
            Credential::Key(query) => Validation::Key(self.keys.validator.decide(&query, context).await?),
            Credential::Session(query) => Validation::Session(self.sessions.decide(query, context).await?),
        })
    }
}

/// The id under which a request is recorded, with a hash of what it is about.
fn limit_id(purpose: &str, id: &CallerId, record: &KeyRecord, costs: &Costs) -> NewLimitId {
    let mut hash = Sha256::new();
    let mut add = |bytes: &[u8]| {
        // The length is included so that no two requests give the same bytes.
        hash.update((bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    add(record.key_id.unpack().as_str().as_bytes());
    for cost in costs {
        add(cost.metric.as_str().as_bytes());
        add(&cost.amount.to_be_bytes());
    }
    NewLimitId { id: format!("{purpose}:{}", id.stored()), fingerprint: hash.finalize().into() }
}
