//! Tables of keys.

use maud::{Markup, html};
use tenant_auth_proto::v1;

use super::{
    html::{id, scrolling_table, text, timestamp},
    paths, tenants,
};
use crate::domain::clock::UnixMillis;

/// What a key is good for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    Active,
    Paused,
    Expired,
    Revoked,
}

impl Standing {
    /// The standing of a key itself, whatever its tenant's is.
    pub(super) fn of(key: &v1::ApiKey, now: UnixMillis) -> Self {
        let has_expired = key.expires_at.is_some_and(|at| {
            at.seconds.saturating_mul(1_000).saturating_add(i64::from(at.nanos / 1_000_000)) <= now.0
        });
        match key {
            key if key.revoked_at.is_some() => Self::Revoked,
            _ if has_expired => Self::Expired,
            key if !key.enabled => Self::Paused,
            _ => Self::Active,
        }
    }

    /// A tag with the standing.
    pub(super) fn tag(self) -> Markup {
        match self {
            Self::Active => html! { span.tag.good { "active" } },
            Self::Paused => html! { span.tag.bad { "paused" } },
            Self::Expired => html! { span.tag.bad { "expired" } },
            Self::Revoked => html! { span.tag.bad { "revoked" } },
        }
    }
}

/// A table of keys. `of_many` if they may belong to several tenants.
pub(super) fn table(keys: &[v1::ApiKey], now: UnixMillis, of_many: bool) -> Markup {
    html! {
        (scrolling_table("Keys",
            if of_many { &["Name", "Begins with", "Tenant", "Status", "Scopes", "Created", "Expires", "Last used"] } else { &["Name", "Begins with", "Status", "Scopes", "Created", "Expires", "Last used"] },
            &html! {
                @for key in keys {
                    tr {
                        td { a href=(paths::key(&key.key_id)) { (tenants::name(&key.name)) } }
                        td.mono { (text(&key.prefix_hint)) }
                        @if of_many {
                            td { a href=(paths::tenant(&key.tenant_id)) { (id(&key.tenant_id)) } }
                        }
                        td {
                            (Standing::of(key, now).tag())
                            @if !key.replaced_by_key_id.is_empty() { " " span.tag { "replaced" } }
                        }
                        td.mono { (text(&key.scopes.join(" "))) }
                        td { (timestamp(key.created_at.as_ref(), "")) }
                        td { (timestamp(key.expires_at.as_ref(), "never")) }
                        td { (timestamp(key.last_used_at.as_ref(), "not yet")) }
                    }
                }
            }
        ))
    }
}

#[cfg(test)]
mod tests {
    use prost_types::Timestamp;

    use super::*;

    #[test]
    fn standing_is_that_of_the_verdict() {
        let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
        let now = UnixMillis(10_000);
        let active = v1::ApiKey { enabled: true, expires_at: at(11), ..Default::default() };
        assert_eq!(Standing::of(&active, now), Standing::Active);
        let paused = v1::ApiKey { enabled: false, ..active.clone() };
        assert_eq!(Standing::of(&paused, now), Standing::Paused);
        let expired = v1::ApiKey { expires_at: at(10), ..paused };
        assert_eq!(Standing::of(&expired, now), Standing::Expired);
        let revoked = v1::ApiKey { revoked_at: at(1), ..expired };
        assert_eq!(Standing::of(&revoked, now), Standing::Revoked);
    }
}
