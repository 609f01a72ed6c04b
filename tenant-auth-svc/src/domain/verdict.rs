//! The verdict on a key, and its provenance.

use std::time::Duration;

use super::{
    client_reuse::ClientReuse,
    clock::UnixMillis,
    key::KeyRecord,
    network::{AddressCheck, ClientAddress},
    scope::ScopeSet,
    tenant::TenantStatus,
};

/// Log target for denials: one line for each if the filter enables `debug` there. These lines are sampled in
/// spite of their level, because a client can cause any number of them.
pub const DENIALS_LOG_TARGET: &str = "tenant_auth::denied";

/// The verdict on a key. Only [`Verdict::Valid`] admits a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verdict {
    /// The key exists, is valid, and has every required scope.
    Valid,
    /// A complete read of the database did not find the key.
    Unknown,
    /// The format of the key is invalid.
    Malformed,
    /// The key has expired.
    Expired,
    /// The key was revoked.
    Revoked,
    /// The key is disabled until an operator enables it.
    Disabled,
    /// The key's tenant is suspended.
    TenantSuspended,
    /// The key may be used from certain networks only, and the address of the request is unknown.
    AddressRequired,
    /// The key may not be used from the address of the request.
    AddressNotAllowed,
    /// The key lacks a required scope.
    InsufficientScope,
}

impl Verdict {
    /// All verdicts, in order.
    pub const ALL: [Self; 10] = [
        Self::Valid,
        Self::Unknown,
        Self::Malformed,
        Self::Expired,
        Self::Revoked,
        Self::Disabled,
        Self::TenantSuspended,
        Self::AddressRequired,
        Self::AddressNotAllowed,
        Self::InsufficientScope,
    ];

    /// Evaluates a key for a request from an address, if it is known.
    ///
    /// The address and the scopes are checked only if the key is otherwise valid.
    #[must_use]
    pub fn evaluate(
        key: &KeyRecord,
        required: &ScopeSet,
        address: Option<ClientAddress>,
        now: UnixMillis,
    ) -> Self {
        match (Self::of_key(key, now), key.allowed_networks.check(address)) {
            (Self::Valid, AddressCheck::Required) => Self::AddressRequired,
            (Self::Valid, AddressCheck::NotAllowed) => Self::AddressNotAllowed,
            (Self::Valid, AddressCheck::Allowed) if !key.scopes.contains_all(required) => {
                Self::InsufficientScope
            }
            (verdict, _) => verdict,
        }
    }

    /// Evaluates a key whatever a request requires.
    ///
    /// Permanent reasons come first: a revoked key stays revoked after its expiry.
    #[must_use]
    pub fn of_key(key: &KeyRecord, now: UnixMillis) -> Self {
        if key.revoked_at.get().is_some() {
            Self::Revoked
        } else if key.expires_at.get().is_some_and(|expires_at| expires_at <= now) {
            Self::Expired
        } else if key.is_disabled {
            Self::Disabled
        } else if key.tenant.status == TenantStatus::Suspended {
            Self::TenantSuspended
        } else {
            Self::Valid
        }
    }

    /// Returns the verdict if the key or its tenant is also on the deny list: permanent reasons take
    /// precedence.
    #[must_use]
    pub fn with_denial(self, denied: Self) -> Self {
        match self {
            Self::Revoked | Self::Unknown | Self::Malformed => self,
            Self::Expired | Self::Disabled if denied == Self::TenantSuspended => self,
            Self::Valid
            | Self::Expired
            | Self::Disabled
            | Self::TenantSuspended
            | Self::AddressRequired
            | Self::AddressNotAllowed
            | Self::InsufficientScope => denied,
        }
    }

    /// Returns the name used in logs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Unknown => "unknown",
            Self::Malformed => "malformed",
            Self::Expired => "expired",
            Self::Revoked => "revoked",
            Self::Disabled => "disabled",
            Self::TenantSuspended => "tenant_suspended",
            Self::AddressRequired => "address_required",
            Self::AddressNotAllowed => "address_not_allowed",
            Self::InsufficientScope => "insufficient_scope",
        }
    }
}

/// The source of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// No lookup was needed.
    None,
    /// It was read from the database for this request.
    Database,
    /// It was cached and fresh.
    Fresh,
    /// It was cached and is being reloaded; the change feed has reported no change.
    Refreshing,
    /// It was cached, and the database does not respond.
    Stale,
    /// It was a fresh negative entry.
    Negative,
}

impl Source {
    /// All sources, in order.
    pub const ALL: [Self; 6] =
        [Self::None, Self::Database, Self::Fresh, Self::Refreshing, Self::Stale, Self::Negative];

    /// Returns the name used in logs and metrics.
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

/// A position in the database's change log. Higher values are later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Revision(pub i64);

impl Revision {
    /// After all positions.
    pub const MAX: Self = Self(i64::MAX);
}

/// The source, age and reuse of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Provenance {
    /// The source.
    pub source: Source,
    /// Time since the read from the database started.
    pub age: Duration,
    /// The change-log position that the answer reflects.
    pub revision: Revision,
    /// How long a caller may reuse the answer.
    pub reuse: ClientReuse,
}

impl Provenance {
    /// The provenance of a decision that needed no lookup.
    pub const NO_LOOKUP: Self =
        Self { source: Source::None, age: Duration::ZERO, revision: Revision(0), reuse: ClientReuse::NONE };

    /// Returns the provenance of an answer that depends on two records: the source and age of the older one,
    /// the lower revision, and the shorter reuse.
    #[must_use]
    pub fn combine(self, other: Self) -> Self {
        let older = if other.age > self.age { other } else { self };
        let revision = self.revision.min(other.revision);
        Self { revision, reuse: self.reuse.weaker(other.reuse), ..older }
    }

    /// Shortens the reuse so that it ends no later than the key's expiry.
    #[must_use]
    pub fn limit_reuse_until(mut self, expires_at: Option<UnixMillis>, now: UnixMillis) -> Self {
        if let Some(remaining) = expires_at
            .and_then(|expires_at| u64::try_from(expires_at.0 - now.0).ok())
            .filter(|millis| *millis > 0)
        {
            self.reuse = self.reuse.at_most(Duration::from_millis(remaining));
        }
        self
    }
}

/// A verdict on a key, with the data for the response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The verdict.
    pub verdict: Verdict,
    /// The key, if it exists.
    pub key: Option<KeyRecord>,
    /// Required scopes that the key lacks; empty unless the verdict is [`Verdict::InsufficientScope`].
    pub missing_scopes: ScopeSet,
    /// Source, age and reuse of the answer.
    pub provenance: Provenance,
}

impl Decision {
    /// The decision about a text that cannot be a key.
    pub const MALFORMED: Self = Self::without_record(Verdict::Malformed);

    /// Returns a decision that needs no record.
    pub(super) const fn without_record(verdict: Verdict) -> Self {
        Self { verdict, key: None, missing_scopes: ScopeSet::EMPTY, provenance: Provenance::NO_LOOKUP }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        clock::OptionalMillis,
        id::{KeyId, TenantId},
        network::AllowedNetworks,
        scope::Scope,
        tenant::TenantSnapshot,
    };

    fn scopes(names: &[&str]) -> ScopeSet {
        ScopeSet::new(names.iter().map(|name| Scope::parse(name).unwrap()).collect()).unwrap()
    }

    fn key(
        revoked: bool,
        expires_at: Option<i64>,
        is_disabled: bool,
        status: TenantStatus,
        networks: &[&str],
    ) -> KeyRecord {
        KeyRecord {
            key_id: KeyId::parse("key_1").unwrap().into(),
            tenant: TenantSnapshot {
                id: TenantId::parse("ten_1").unwrap(),
                name: "Acme".into(),
                plan: "pro".into(),
                status,
            }
            .into(),
            scopes: scopes(&["a"]).into(),
            allowed_networks: AllowedNetworks::parse(networks).unwrap(),
            expires_at: expires_at.map(UnixMillis).into(),
            revoked_at: revoked.then_some(UnixMillis(1)).into(),
            last_used_at: OptionalMillis::NONE,
            is_disabled,
        }
    }

    /// All combinations of the properties, so that the order of precedence cannot change unnoticed.
    #[test]
    fn verdict_precedence_holds_for_all_combinations() {
        let now = UnixMillis(100);
        for revoked in [false, true] {
            for expires_at in [None, Some(99), Some(100), Some(101)] {
                for disabled in [false, true] {
                    for status in [TenantStatus::Active, TenantStatus::Suspended] {
                        let of_key = match (revoked, expires_at, disabled, status) {
                            (true, _, _, _) => Verdict::Revoked,
                            (_, Some(99 | 100), _, _) => Verdict::Expired,
                            (_, _, true, _) => Verdict::Disabled,
                            (_, _, _, TenantStatus::Suspended) => Verdict::TenantSuspended,
                            _ => Verdict::Valid,
                        };
                        let key = |networks| key(revoked, expires_at, disabled, status, networks);
                        assert_eq!(Verdict::of_key(&key(&["::1"]), now), of_key);
                        check_requirements(&key(&[]), &key(&["192.0.2.0/24"]), now, of_key);
                    }
                }
            }
        }
    }

    /// All combinations of what a request requires.
    fn check_requirements(anywhere: &KeyRecord, limited: &KeyRecord, now: UnixMillis, of_key: Verdict) {
        let [inside, outside] = ["192.0.2.1", "192.0.3.1"].map(|text| ClientAddress::parse(text).ok());
        for required in [&[][..], &["a"], &["a", "b"]] {
            for (key, address, of_address) in [
                (anywhere, None, Verdict::Valid),
                (anywhere, outside, Verdict::Valid),
                (limited, None, Verdict::AddressRequired),
                (limited, outside, Verdict::AddressNotAllowed),
                (limited, inside, Verdict::Valid),
            ] {
                let expected = match (of_key, of_address, required.len()) {
                    (Verdict::Valid, Verdict::Valid, 2) => Verdict::InsufficientScope,
                    (Verdict::Valid, of_address, _) => of_address,
                    (of_key, _, _) => of_key,
                };
                assert_eq!(Verdict::evaluate(key, &scopes(required), address, now), expected);
            }
        }
    }

    #[test]
    fn reuse_never_outlives_the_key() {
        let reuse = ClientReuse::watchable(Duration::from_secs(5), Duration::from_secs(60));
        let provenance = Provenance { reuse, ..Provenance::NO_LOOKUP };
        let now = UnixMillis(1_000);
        let limited = |expires_at| provenance.limit_reuse_until(expires_at, now).reuse;
        assert_eq!(limited(None), reuse);
        assert_eq!(limited(Some(UnixMillis(1_200))), ClientReuse::unwatchable(Duration::from_millis(200)));
        let beyond_the_fresh_time = ClientReuse { watched: Duration::from_secs(30), ..reuse };
        assert_eq!(limited(Some(UnixMillis(31_000))), beyond_the_fresh_time);
        assert_eq!(limited(Some(UnixMillis(90_000))), reuse);
        // An expired key stays expired, so that verdict may be reused like any other.
        assert_eq!(limited(Some(UnixMillis(500))), reuse);
    }

    /// A change of either record must invalidate the answer, so the answer has the lower revision.
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
