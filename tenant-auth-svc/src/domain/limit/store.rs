//! The storage interface of limits.

use std::{fmt, future::Future};

use sha2::{Digest as _, Sha256};
use thiserror::Error;

use super::{Limit, LimitCount, LimitName, LimitSubject};
use crate::domain::{
    id::{KeyId, TenantId},
    page::{Page, PageRequest},
    store::{Call, Change, Committed, StoreError},
    text::{Plan, Reason},
};

/// The database, as the administration of limits needs it.
///
/// Every change is one transaction that is safe to repeat. Every method fails with [`StoreError`] when the database returns
/// no complete result.
pub trait LimitStore: Send + Sync + 'static {
    /// Creates or replaces a limit, if it has the expected version: `None` for any, 0 for a limit that does not exist. A limit
    /// with the same values is not changed. If the kind changes, what was counted for a tenant or key under the former one is
    /// forgotten.
    fn set_limit(
        &self,
        call: Call,
        limit: &Limit,
        expected_version: Option<i64>,
        change: &Change,
    ) -> impl Future<Output = Result<Committed<SetLimit>, StoreError>> + Send;

    /// Reads a limit; `None` if it does not exist.
    fn get_limit(
        &self,
        call: Call,
        subject: &LimitSubject,
        name: &LimitName,
    ) -> impl Future<Output = Result<Option<Limit>, StoreError>> + Send;

    /// Lists the limits of a subject by name, or all limits by subject and name.
    fn list_limits(
        &self,
        call: Call,
        subject: Option<&LimitSubject>,
        page: &PageRequest<LimitCursor>,
    ) -> impl Future<Output = Result<Page<Limit, LimitCursor>, StoreError>> + Send;

    /// Deletes a limit, and what is counted of it for a tenant or key. Returns whether it existed.
    fn delete_limit(
        &self,
        call: Call,
        subject: &LimitSubject,
        name: &LimitName,
        change: &Change,
    ) -> impl Future<Output = Result<Committed<bool>, StoreError>> + Send;

    /// Adds credits, once for each id.
    fn add_credits(
        &self,
        call: Call,
        adjustment: &CreditAdjustment,
        change: &Change,
    ) -> impl Future<Output = Result<Committed<CreditOutcome>, StoreError>> + Send;

    /// Reads the limits that apply to a tenant or a key, in the order of their names, and what is counted of them; `None` if
    /// there is no such tenant or key. An unreadable limit is an error, because it could apply.
    fn limit_state(
        &self,
        call: Call,
        holder: &LimitHolder,
    ) -> impl Future<Output = Result<Option<Vec<(Limit, LimitCount)>>, StoreError>> + Send;

    /// Reads the limits that apply to a key of a tenant with a plan, in the order of their names: a limit of the key replaces
    /// one of the tenant, and this one replaces one of the plan. An unreadable limit is an error.
    fn effective_limits(
        &self,
        call: Call,
        tenant: &TenantId,
        plan: &Plan,
        key: &KeyId,
    ) -> impl Future<Output = Result<Vec<Limit>, StoreError>> + Send;
}

/// The result of setting a limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SetLimit {
    /// Whether the tenant or key exists. A plan need not exist.
    pub subject_exists: bool,
    /// The limit as it is now; `None` if it does not exist.
    pub limit: Option<Limit>,
}

/// The position of a limit in the list of all limits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitCursor {
    /// The subject of the last limit.
    pub subject: LimitSubject,
    /// Its name.
    pub name: LimitName,
}

impl LimitCursor {
    /// Parses the text that [`Display`](fmt::Display) writes.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        // A plan may contain any character, so it is last.
        let mut parts = text.splitn(3, ' ');
        let (scope, name, id) = (parts.next()?, parts.next()?, parts.next()?);
        let subject = LimitSubject::from_stored(scope, id)?;
        Some(Self { subject, name: LimitName::parse(name).ok()? })
    }
}

impl fmt::Display for LimitCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.subject.scope(), self.name.as_str(), self.subject.id())
    }
}

impl LimitSubject {
    /// Returns the subject that is stored like this; `None` if no subject is.
    #[must_use]
    pub fn from_stored(scope: &str, id: &str) -> Option<Self> {
        match scope {
            "plan" if !id.is_empty() => Some(Self::Plan(id.into())),
            "tenant" => TenantId::parse(id).ok().map(Self::Tenant),
            "key" => KeyId::parse(id).ok().map(Self::Key),
            _ => None,
        }
    }
}

/// Who takes from limits: limits of plans, tenants and keys apply to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LimitHolder {
    /// All keys of a tenant.
    Tenant(TenantId),
    /// A key.
    Key(KeyId),
}

impl LimitHolder {
    /// Returns the id.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::Tenant(id) => id.as_str(),
            Self::Key(id) => id.as_str(),
        }
    }
}

impl From<LimitHolder> for LimitSubject {
    fn from(holder: LimitHolder) -> Self {
        match holder {
            LimitHolder::Tenant(id) => Self::Tenant(id),
            LimitHolder::Key(id) => Self::Key(id),
        }
    }
}

/// Identifies an adjustment of credits of one caller: 1 to 128 printable ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdjustmentId(Box<str>);

/// Why a text is not a valid id of an adjustment. The message completes the sentence "the value …".
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[error("must have 1 to 128 printable ASCII characters")]
pub struct InvalidAdjustmentId;

impl AdjustmentId {
    /// Parses an id.
    ///
    /// # Errors
    /// When it is empty, too long, or contains another character.
    pub fn parse(text: &str) -> Result<Self, InvalidAdjustmentId> {
        let is_printable = text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
        let is_valid = is_printable && (1..=128).contains(&text.len());
        if is_valid { Ok(Self(text.into())) } else { Err(InvalidAdjustmentId) }
    }

    /// Returns the id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// An adjustment of credits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreditAdjustment {
    /// The tenant or key that the limit applies to.
    pub holder: LimitHolder,
    /// The name of the limit.
    pub name: LimitName,
    /// The amount; negative to take credits away.
    pub amount: i64,
    /// The caller's name in the callers file; each caller has its own ids. `None` if callers have no names.
    pub caller: Option<String>,
    /// The id, unique to this adjustment.
    pub id: AdjustmentId,
    /// Why, for the audit log.
    pub reason: Option<Reason>,
}

impl CreditAdjustment {
    /// The maximum of an amount, and the maximum to take away.
    pub const MAX_AMOUNT: i64 = 1_000_000_000_000;

    /// Returns the id under which the adjustment is stored.
    #[must_use]
    pub fn stored_id(&self) -> String {
        format!("credit:{}\u{1f}{}", self.caller.as_deref().unwrap_or_default(), self.id.as_str())
    }

    /// Returns the hash of what is adjusted: two adjustments with the same id must have the same.
    #[must_use]
    pub fn fingerprint(&self) -> [u8; 32] {
        let mut hash = Sha256::new();
        let scope = match self.holder {
            LimitHolder::Tenant(_) => "tenant",
            LimitHolder::Key(_) => "key",
        };
        for text in [scope, self.holder.id(), self.name.as_str()] {
            // The length is included so that no two adjustments give the same bytes.
            hash.update((text.len() as u64).to_be_bytes());
            hash.update(text);
        }
        hash.update(self.amount.to_be_bytes());
        hash.finalize().into()
    }
}

/// The result of an adjustment of credits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CreditOutcome {
    /// There is no such tenant or key.
    NoSuchSubject,
    /// No limit of this name applies.
    NoSuchLimit,
    /// The limit has no credits.
    NoCredits,
    /// The id was used for another adjustment.
    IdReused,
    /// The adjustment is made.
    Adjusted {
        /// All credits that were ever added, less those taken away.
        credited: i64,
        /// What no replica holds and nobody has used.
        remaining: i64,
        /// Whether an earlier call had made it.
        already_added: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_round_trips_through_text() {
        let name = || LimitName::parse("requests.daily").unwrap();
        for subject in [
            LimitSubject::Plan("pro, with a space".into()),
            LimitSubject::Tenant(TenantId::parse("ten_1").unwrap()),
            LimitSubject::Key(KeyId::parse("key_1").unwrap()),
        ] {
            let cursor = LimitCursor { subject, name: name() };
            assert_eq!(LimitCursor::parse(&cursor.to_string()), Some(cursor));
        }
        for text in ["", "plan", "plan a", "plan a ", "team a x", "plan A x", "tenant a b c"] {
            assert_eq!(LimitCursor::parse(text), None, "{text}");
        }
    }

    #[test]
    fn fingerprint_covers_what_is_adjusted_and_not_why() {
        let one = CreditAdjustment {
            holder: LimitHolder::Tenant(TenantId::parse("ten_1").unwrap()),
            name: LimitName::parse("tokens").unwrap(),
            amount: 5,
            caller: Some("billing".to_owned()),
            id: AdjustmentId::parse("invoice-1").unwrap(),
            reason: None,
        };
        let other = CreditAdjustment { reason: Some(Reason::parse("paid").unwrap()), ..one.clone() };
        assert_eq!(one.fingerprint(), other.fingerprint());
        for other in [
            CreditAdjustment { amount: 6, ..one.clone() },
            CreditAdjustment { name: LimitName::parse("calls").unwrap(), ..one.clone() },
            CreditAdjustment { holder: LimitHolder::Key(KeyId::parse("ten_1").unwrap()), ..one.clone() },
        ] {
            assert_ne!(one.fingerprint(), other.fingerprint(), "{other:?}");
        }
        assert_eq!(one.stored_id(), "credit:billing\u{1f}invoice-1");
    }
}
