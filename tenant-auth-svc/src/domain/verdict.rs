//! The decision about a key, and what it is worth.

use std::{sync::Arc, time::Duration};

use super::{
    client_reuse::ClientReuse, clock::UnixMillis, key::KeyRecord, scope::ScopeSet, tenant::TenantStatus,
};

/// Where the service's own log has a line for each denial, if a filter asks for `debug` there. They are sampled although they are
/// `debug`: anybody can be denied as often as it likes.
pub const DENIALS_LOG_TARGET: &str = "tenant_auth::denied";

/// The decision about a key. Only [`Verdict::Valid`] admits a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// Known, live, and holding every required scope.
    Valid,
    /// A complete read of the database did not find it.
    Unknown,
    /// Its looks rule it out.
    Malformed,
    /// Its lifetime is over.
    Expired,
    /// It was withdrawn.
    Revoked,
    /// Its tenant is suspended.
    TenantSuspended,
    /// It lacks a required scope.
    InsufficientScope,
}

impl Verdict {
    /// Every verdict, in order.
    pub const ALL: [Self; 7] = [
        Self::Valid,
        Self::Unknown,
        Self::Malformed,
        Self::Expired,
        Self::Revoked,
        Self::TenantSuspended,
        Self::InsufficientScope,
    ];

    /// Judges a known key.
    ///
    /// What can never be lifted comes first: a withdrawn key says so even after its lifetime, and a scope is only
    /// asked about once the key would be honoured.
    #[must_use]
    pub fn evaluate(key: &KeyRecord, required: &ScopeSet, now: UnixMillis) -> Self {
        if key.revoked_at.is_some() {
            Self::Revoked
        } else if key.expires_at.is_some_and(|end| end <= now) {
            Self::Expired
        } else if key.tenant_status == TenantStatus::Suspended {
            Self::TenantSuspended
        } else if key.scopes.contains_all(required) {
            Self::Valid
        } else {
            Self::InsufficientScope
        }
    }

    /// The verdict where the key or its tenant is denied besides: what can never be lifted stays.
    #[must_use]
    pub fn with_denial(self, denied: Self) -> Self {
        match self {
            Self::Revoked | Self::Unknown | Self::Malformed => self,
            Self::Expired if denied == Self::TenantSuspended => self,
            Self::Valid | Self::Expired | Self::TenantSuspended | Self::InsufficientScope => denied,
        }
    }

    /// As logs and metrics write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Unknown => "unknown",
            Self::Malformed => "malformed",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::TenantSuspended => "tenant_suspended",
            Self::InsufficientScope => "insufficient_scope",
        }
    }
}

/// Where an answer came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// It needed no lookup.
    None,
    /// It was read for this request.
    Database,
    /// It was in memory and recent.
    Fresh,
    /// It was in memory and is being reloaded; the change feed has not heard of a change.
    Refreshing,
    /// It was in memory, and the database does not answer.
    Stale,
    /// Its absence was in memory and recent.
    Negative,
}

impl Source {
    /// Every source, in order.
    pub const ALL: [Self; 6] =
        [Self::None, Self::Database, Self::Fresh, Self::Refreshing, Self::Stale, Self::Negative];

    /// As logs and metrics write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Database => "database",
            Self::Fresh => "fresh",
            Self::Refreshing => "refreshing",
            Self::Stale => "stale",
            Self::Negative => "negative",
        }
    }
}

/// A position in the database's change log. Higher is later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(pub i64);

impl Revision {
    /// After everything.
    pub const MAX: Self = Self(i64::MAX);
}

/// What an answer is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// Where it came from.
    pub source: Source,
    /// Time since the database was asked, counted from before the read.
    pub age: Duration,
    /// The change-log position that it reflects.
    pub revision: Revision,
    /// For how long a caller may reuse it.
    pub reuse: ClientReuse,
}

impl Provenance {
    /// Of what was decided by looks alone.
    pub const NO_LOOKUP: Self =
        Self { source: Source::None, age: Duration::ZERO, revision: Revision(0), reuse: ClientReuse::NONE };

    /// Of an answer that rests on two: the source and age of the older one, the lower revision, and the shorter reuse.
    #[must_use]
    pub fn combine(self, other: Self) -> Self {
        let older = if other.age > self.age { other } else { self };
        let revision = self.revision.min(other.revision);
        Self { revision, reuse: self.reuse.weaker(other.reuse), ..older }
    }

    /// Shortens the reuse so that it never outlives the key itself.
    #[must_use]
    pub fn limit_reuse_until(mut self, end: Option<UnixMillis>, now: UnixMillis) -> Self {
        if let Some(left) = end.and_then(|end| u64::try_from(end.0 - now.0).ok()).filter(|l| *l > 0) {
            self.reuse = self.reuse.at_most(Duration::from_millis(left));
        }
        self
    }
}

/// A verdict with everything a caller may want to know about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The verdict.
    pub verdict: Verdict,
    /// The key, when there is one.
    pub key: Option<Arc<KeyRecord>>,
    /// Required scopes that the key lacks; empty unless the verdict is [`Verdict::InsufficientScope`].
    pub missing_scopes: ScopeSet,
    /// What the answer is worth.
    pub provenance: Provenance,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        id::{KeyId, TenantId},
        scope::Scope,
    };

    fn scopes(names: &[&str]) -> ScopeSet {
        ScopeSet::new(names.iter().map(|name| Scope::parse(name).unwrap()).collect()).unwrap()
    }

    fn key(revoked: bool, expires_at: Option<i64>, status: TenantStatus) -> KeyRecord {
        KeyRecord {
            key_id: KeyId::parse("key_1").unwrap(),
            tenant_id: TenantId::parse("ten_1").unwrap(),
            tenant_name: "Acme".into(),
            plan: "pro".into(),
            tenant_status: status,
            scopes: scopes(&["a"]),
            expires_at: expires_at.map(UnixMillis),
            revoked_at: revoked.then_some(UnixMillis(1)),
            last_used_at: None,
        }
    }

    /// Every combination of the four facts, so that the order of precedence cannot change unnoticed.
    #[test]
    fn verdict_precedence_holds_for_all_combinations() {
        let now = UnixMillis(100);
        for revoked in [false, true] {
            for expires_at in [None, Some(99), Some(100), Some(101)] {
                for status in [TenantStatus::Active, TenantStatus::Suspended] {
                    for required in [&[][..], &["a"], &["a", "b"]] {
                        let expected = match (revoked, expires_at, status, required.len()) {
                            (true, _, _, _) => Verdict::Revoked,
                            (_, Some(99 | 100), _, _) => Verdict::Expired,
                            (_, _, TenantStatus::Suspended, _) => Verdict::TenantSuspended,
                            (_, _, _, 2) => Verdict::InsufficientScope,
                            _ => Verdict::Valid,
                        };
                        let key = key(revoked, expires_at, status);
                        assert_eq!(Verdict::evaluate(&key, &scopes(required), now), expected);
                    }
                }
            }
        }
    }

    #[test]
    fn reuse_never_outlives_the_key() {
        let reuse = ClientReuse::watchable(Duration::from_secs(5), Duration::from_secs(60));
        let provenance = Provenance { reuse, ..Provenance::NO_LOOKUP };
        let now = UnixMillis(1_000);
        let capped = |end| provenance.limit_reuse_until(end, now).reuse;
        assert_eq!(capped(None), reuse);
        assert_eq!(capped(Some(UnixMillis(1_200))), ClientReuse::unwatchable(Duration::from_millis(200)));
        let beyond_the_fresh_time = ClientReuse { watched: Duration::from_secs(30), ..reuse };
        assert_eq!(capped(Some(UnixMillis(31_000))), beyond_the_fresh_time);
        assert_eq!(capped(Some(UnixMillis(90_000))), reuse);
        // An expired key stays expired: that verdict may be reused like any other.
        assert_eq!(capped(Some(UnixMillis(500))), reuse);
    }

    /// What was told of either is told of the answer: news must find it older than both.
    #[test]
    fn combined_provenance_has_the_lower_revision() {
        let session =
            Provenance { age: Duration::from_secs(3), revision: Revision(9), ..Provenance::NO_LOOKUP };
        let key = Provenance { age: Duration::from_secs(1), revision: Revision(7), ..Provenance::NO_LOOKUP };
        for both in [session.combine(key), key.combine(session)] {
            assert_eq!((both.age, both.revision), (Duration::from_secs(3), Revision(7)));
        }
    }
}
