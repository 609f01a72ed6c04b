//! Taking amounts at once.

use tenant_auth_proto::v1::{
    self, batch_consume_result::Result as Outcome, consume_response::Validation as WireValidation,
};

use super::{Cost, LimitCredential, Limits};
use crate::{
    ClientAddress, Denied, Error, PresentedKey, Principal, Validation, Verdict, call::required_field,
};

/// What to take, and for whom.
#[derive(Debug)]
#[must_use]
pub struct ConsumeRequest {
    pub(super) credential: LimitCredential,
    costs: Vec<Cost>,
    consume_id: Option<String>,
}

/// The decision about a request to take amounts.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "a denial is not an error: check `is_allowed`, or use `into_principal`"]
#[non_exhaustive]
pub struct Consumption {
    /// [`Verdict::Valid`] if everything is taken; [`Verdict::QuotaExceeded`] or [`Verdict::RateLimited`] if a limit denies it;
    /// otherwise the verdict on the key or session. Unless it is valid, nothing is taken.
    pub verdict: Verdict,
    /// The validation of the key or session; valid if a limit decided.
    pub validation: Validation,
    /// The limits that apply; empty if the key or session is not valid.
    pub limits: Limits,
    /// Whether an earlier call with this id had taken the amounts. Then `limits` is empty.
    pub already_consumed: bool,
}

impl ConsumeRequest {
    /// Creates a request of a [`KeyQuery`](crate::KeyQuery), a [`SessionQuery`](crate::SessionQuery) or a
    /// [`PresentedKey`](crate::PresentedKey). It needs 1 to 16 costs.
    pub fn new(credential: impl Into<LimitCredential>) -> Self {
        Self { credential: credential.into(), costs: Vec::new(), consume_id: None }
    }

    /// Adds an amount of a metric to take, 1 to 1,000,000,000; each metric once.
    pub fn cost(self, metric: impl Into<String>, amount: i64) -> Self {
        self.costs([Cost::new(metric, amount)])
    }

    /// Adds amounts to take.
    pub fn costs(mut self, costs: impl IntoIterator<Item = Cost>) -> Self {
        self.costs.extend(costs);
        self
    }

    /// Sets an id of 1 to 128 printable ASCII characters, unique per caller: whatever is taken with this id counts once
    /// within 24 h, so that the call can be repeated. It takes longer, because it waits for the database.
    pub fn id(mut self, consume_id: impl Into<String>) -> Self {
        self.consume_id = Some(consume_id.into());
        self
    }

    /// Returns the key; empty for a session without one.
    pub(crate) fn into_key(self) -> PresentedKey {
        match self.credential {
            LimitCredential::Key(query) => query.key,
            LimitCredential::Session(query) => query.key.unwrap_or_else(|| PresentedKey::new("")),
        }
    }

    pub(super) fn is_repeatable(&self) -> bool {
        self.consume_id.as_ref().is_some_and(|id| !id.is_empty())
    }

    pub(super) fn to_message(&self, address: Option<ClientAddress>) -> v1::ConsumeRequest {
        v1::ConsumeRequest {
            credential: Some(self.credential.to_message(address)),
            costs: self.costs.iter().map(Cost::to_message).collect(),
            consume_id: self.consume_id.clone().unwrap_or_default(),
        }
    }
}

impl Consumption {
    /// Returns whether the request may proceed: everything is taken.
    #[must_use]
    pub fn is_allowed(&self) -> bool {
        self.verdict.is_valid()
    }

    /// Returns the owner of the key or session; `None` unless the request may proceed.
    #[must_use]
    pub fn principal(&self) -> Option<Principal> {
        if self.is_allowed() { self.validation.principal() } else { None }
    }

    /// Returns the owner of the key or session, or why the request may not proceed, with the limits.
    ///
    /// # Errors
    /// [`Denied`] for every verdict except [`Verdict::Valid`].
    pub fn into_principal(self) -> Result<Principal, Denied> {
        if self.is_allowed() {
            return self.validation.into_principal();
        }
        Err(Denied::by_limits(Validation { verdict: self.verdict, ..self.validation }, self.limits))
    }

    /// Returns the decision about a key or session that may take nothing.
    pub(super) fn denied(validation: Validation) -> Self {
        let verdict = validation.verdict;
        Self { verdict, validation, limits: Limits::default(), already_consumed: false }
    }

    /// Parses a response. `session_id` is that of the request, if it was about a session.
    pub(super) fn from_response(
        session_id: Option<&str>,
        message: v1::ConsumeResponse,
    ) -> Result<Self, Error> {
        let validation = match required_field(message.validation, "validation")? {
            WireValidation::Key(message) => Validation::from_key_response(message)?,
            WireValidation::Session(message) => {
                Validation::from_session_response(session_id.unwrap_or_default().to_owned(), message)?
            }
        };
        Ok(Self {
            verdict: Verdict::from_wire(message.verdict),
            validation,
            limits: Limits::from_wire(message.limits)?,
            already_consumed: message.already_consumed,
        })
    }

    /// Parses the result for one request of a batch.
    pub(super) fn from_result(
        session_id: Option<&str>,
        result: Option<v1::BatchConsumeResult>,
    ) -> Result<Self, Error> {
        match required_field(result.and_then(|result| result.result), "outcome")? {
            Outcome::Response(message) => Self::from_response(session_id, message),
            Outcome::Error(item) => Err(Error::from_item(&item)),
        }
    }
}
