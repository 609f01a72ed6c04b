//! Principal tokens: signed statements about an admitted key, for the services behind a proxy.
//!
//! Such a service need not ask again while a token is valid. So a token is short-lived, and never outlives its key.

use std::time::Duration;

use serde::Serialize;

use super::{
    clock::UnixMillis,
    verdict::{Decision, Source, Verdict},
};

/// Lifetime of a token.
pub const MAX_LIFETIME: Duration = Duration::from_secs(60);
/// Lifetime of a token about a stale answer: the key may have been revoked meanwhile.
pub const MAX_STALE_LIFETIME: Duration = Duration::from_secs(10);
/// Maximum length of the scopes in a token, in bytes. With it, the headers for an upstream fit into 2 KiB together.
pub const MAX_SCOPES_LEN: usize = 300;
/// Maximum length of an issuer, in bytes.
pub const MAX_ISSUER_LEN: usize = 80;
/// Maximum length of an audience, in bytes.
pub const MAX_AUDIENCE_LEN: usize = 64;

/// The claims of a token. Times are in whole seconds since 1970.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    key_id: String,
    scope: &'a str,
    /// How many scopes of the key did not fit.
    #[serde(skip_serializing_if = "is_zero")]
    scope_omitted: usize,
    plan: &'a str,
    rev: i64,
    iat: i64,
    exp: i64,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

impl<'a> Claims<'a> {
    /// Returns the claims about a decision; `None` unless it admits, and the key is valid for another second.
    #[must_use]
    pub fn of(decision: &'a Decision, issuer: &'a str, audience: &'a str, now: UnixMillis) -> Option<Self> {
        let key = decision.key.as_ref().filter(|_| decision.verdict == Verdict::Valid)?;
        let lifetime = match decision.provenance.source {
            Source::Stale => MAX_STALE_LIFETIME,
            Source::None | Source::Database | Source::Fresh | Source::Refreshing | Source::Negative => {
                MAX_LIFETIME
            }
        };
        let iat = now.0.div_euclid(1_000);
        let ends_at = key.expires_at.get().unwrap_or(UnixMillis::MAX).0.min(now.plus(lifetime).0);
        let exp = ends_at.div_euclid(1_000);
        let (scope, scope_omitted) = key.scopes.leading(MAX_SCOPES_LEN);
        (exp > iat).then_some(Self {
            iss: issuer,
            aud: audience,
            sub: key.tenant.id.as_str(),
            key_id: key.key_id.to_string(),
            scope,
            scope_omitted,
            plan: &key.tenant.plan,
            rev: decision.provenance.revision.0,
            iat,
            exp,
        })
    }

    /// Returns when the token expires.
    #[must_use]
    pub fn expires_at(&self) -> UnixMillis {
        UnixMillis(self.exp * 1_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        clock::OptionalMillis,
        id::{KeyId, TenantId},
        key::KeyRecord,
        network::AllowedNetworks,
        scope::{Scope, ScopeSet},
        tenant::{TenantSnapshot, TenantStatus},
        verdict::{Provenance, Revision},
    };

    fn decision(verdict: Verdict, source: Source, expires_at: Option<i64>, scopes: &[&str]) -> Decision {
        let key = KeyRecord {
            key_id: KeyId::parse("key_1").unwrap().into(),
            tenant: TenantSnapshot {
                id: TenantId::parse("ten_1").unwrap(),
                name: "Acme".into(),
                plan: "pro".into(),
                status: TenantStatus::Active,
            }
            .into(),
            scopes: ScopeSet::new(scopes.iter().map(|name| Scope::parse(name).unwrap()).collect())
                .unwrap()
                .into(),
            allowed_networks: AllowedNetworks::EVERYWHERE,
            expires_at: expires_at.map(UnixMillis).into(),
            revoked_at: OptionalMillis::NONE,
            last_used_at: OptionalMillis::NONE,
            is_disabled: false,
        };
        let provenance = Provenance { source, revision: Revision(7), ..Provenance::NO_LOOKUP };
        Decision { verdict, key: Some(key), missing_scopes: ScopeSet::EMPTY, provenance }
    }

    fn lifetime(source: Source, expires_at: Option<i64>) -> Option<i64> {
        let decision = decision(Verdict::Valid, source, expires_at, &["a"]);
        Claims::of(&decision, "iss", "aud", UnixMillis(1_000_900)).map(|claims| claims.exp - claims.iat)
    }

    #[test]
    fn token_lives_a_minute_and_a_stale_one_ten_seconds() {
        assert_eq!(lifetime(Source::Fresh, None), Some(60));
        assert_eq!(lifetime(Source::Stale, None), Some(10));
    }

    #[test]
    fn token_never_outlives_its_key() {
        assert_eq!(lifetime(Source::Fresh, Some(1_031_500)), Some(31));
        assert_eq!(lifetime(Source::Stale, Some(1_031_500)), Some(10));
        assert_eq!(lifetime(Source::Fresh, Some(1_001_000)), Some(1));
        assert_eq!(lifetime(Source::Fresh, Some(1_000_999)), None);
        assert_eq!(lifetime(Source::Fresh, Some(5)), None);
    }

    #[test]
    fn only_an_admitted_key_has_claims() {
        for verdict in Verdict::ALL {
            let decision = decision(verdict, Source::Fresh, None, &[]);
            let claims = Claims::of(&decision, "iss", "aud", UnixMillis(0));
            assert_eq!(claims.is_some(), verdict == Verdict::Valid, "{verdict:?}");
        }
    }

    #[test]
    fn scopes_that_do_not_fit_are_counted() {
        let names: Vec<_> = (0..10).map(|n| format!("{n}{}", "x".repeat(59))).collect();
        let names: Vec<_> = names.iter().map(String::as_str).collect();
        let decision = decision(Verdict::Valid, Source::Fresh, None, &names);
        let claims = Claims::of(&decision, "iss", "aud", UnixMillis(0)).unwrap();
        assert_eq!((claims.scope.split(' ').count(), claims.scope_omitted), (4, 6));
        assert!(claims.scope.len() <= MAX_SCOPES_LEN);
    }
}
