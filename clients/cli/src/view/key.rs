//! The views of keys.

use serde::Serialize;
use tenant_auth_client::{IssuedKey, PresentedKey, RotatedKey, proto};

use super::{non_empty, to_moment, to_text};
use crate::{
    output::{self, Item, View},
    time::Moment,
};

#[derive(Debug, Serialize)]
pub(crate) struct KeyView {
    pub(crate) key_id: String,
    tenant_id: String,
    name: Option<String>,
    prefix_hint: Option<String>,
    scopes: Vec<String>,
    allowed_networks: Vec<String>,
    created_at: Option<Moment>,
    pub(super) expires_at: Option<Moment>,
    pub(super) revoked_at: Option<Moment>,
    pub(super) revoke_reason: Option<String>,
    pub(super) disabled_at: Option<Moment>,
    last_used_at: Option<Moment>,
    replaced_by_key_id: Option<String>,
    pub(super) pepper_id: Option<String>,
    etag: String,
}

impl KeyView {
    pub(crate) fn new(key: proto::ApiKey) -> Self {
        Self {
            key_id: key.key_id,
            tenant_id: key.tenant_id,
            name: non_empty(key.name),
            prefix_hint: non_empty(key.prefix_hint),
            scopes: key.scopes,
            allowed_networks: key.allowed_networks,
            created_at: to_moment(key.created_at),
            expires_at: to_moment(key.expires_at),
            revoked_at: to_moment(key.revoked_at),
            revoke_reason: non_empty(key.revoke_reason),
            disabled_at: to_moment(key.disabled_at),
            last_used_at: to_moment(key.last_used_at),
            replaced_by_key_id: non_empty(key.replaced_by_key_id),
            pepper_id: non_empty(key.pepper_id),
            etag: key.etag,
        }
    }

    pub(super) fn tenant_id(&self) -> &str {
        &self.tenant_id
    }

    /// Returns the state by the clock of this machine; the service uses its own clock.
    fn state(&self, now: Moment) -> &'static str {
        if self.revoked_at.is_some() {
            "revoked"
        } else if self.expires_at.is_some_and(|expires_at| expires_at <= now) {
            "expired"
        } else if self.disabled_at.is_some() {
            "disabled"
        } else if self.replaced_by_key_id.is_some() {
            "replaced"
        } else {
            "active"
        }
    }

    pub(super) fn rows(&self) -> Vec<(&'static str, String)> {
        let now = Moment::now();
        let expires_at = self.expires_at.map(|expires_at| expires_at.with_relative_time(now));
        vec![
            ("key", self.key_id.clone()),
            ("tenant", self.tenant_id.clone()),
            ("name", to_text(self.name.as_ref())),
            ("prefix", to_text(self.prefix_hint.as_ref())),
            ("scopes", self.scopes.join(" ")),
            ("networks", self.allowed_networks.join(" ")),
            ("state", self.state(now).to_owned()),
            ("created", to_text(self.created_at)),
            ("expires", expires_at.unwrap_or_else(|| "never".to_owned())),
            ("revoked", to_text(self.revoked_at)),
            ("reason", to_text(self.revoke_reason.as_ref())),
            ("disabled", to_text(self.disabled_at)),
            ("last used", to_text(self.last_used_at)),
            ("replaced by", to_text(self.replaced_by_key_id.as_ref())),
        ]
    }
}

impl View for KeyView {
    fn text(&self) -> String {
        output::details(&self.rows())
    }
}

impl Item for KeyView {
    const LIST: &'static str = "keys";
    const HEADER: &'static [&'static str] =
        &["KEY", "NAME", "PREFIX", "SCOPES", "STATE", "EXPIRES", "LAST USED"];

    fn row(&self) -> Vec<String> {
        vec![
            self.key_id.clone(),
            to_text(self.name.as_ref()),
            to_text(self.prefix_hint.as_ref()),
            self.scopes.join(" "),
            self.state(Moment::now()).to_owned(),
            to_text(self.expires_at),
            to_text(self.last_used_at),
        ]
    }
}

/// A key in a list of several tenants.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(crate) struct KeyWithTenantView(KeyView);

impl KeyWithTenantView {
    pub(crate) fn new(key: proto::ApiKey) -> Self {
        Self(KeyView::new(key))
    }
}

impl Item for KeyWithTenantView {
    const LIST: &'static str = KeyView::LIST;
    const HEADER: &'static [&'static str] =
        &["KEY", "TENANT", "NAME", "PREFIX", "SCOPES", "STATE", "EXPIRES", "LAST USED"];

    fn row(&self) -> Vec<String> {
        let mut row = self.0.row();
        row.insert(1, self.0.tenant_id.clone());
        row
    }
}

/// A new key: with [`RotatedView`], the only view that contains a plaintext.
#[derive(Serialize)]
pub(crate) struct IssuedView<'a> {
    key: KeyView,
    plaintext: &'a str,
}

impl<'a> IssuedView<'a> {
    pub(crate) fn new(issued: &'a IssuedKey) -> Self {
        let key = KeyView::new(issued.key.clone());
        Self { key, plaintext: issued.plaintext.expose() }
    }
}

impl View for IssuedView<'_> {
    fn text(&self) -> String {
        let mut rows = self.key.rows();
        rows.push(("plaintext", self.plaintext.to_owned()));
        output::details(&rows)
    }
}

/// The successor of a rotated key.
#[derive(Serialize)]
pub(crate) struct RotatedView<'a> {
    key: KeyView,
    plaintext: &'a str,
    replaced: KeyView,
}

impl<'a> RotatedView<'a> {
    pub(crate) fn new(rotated: &'a RotatedKey) -> Self {
        Self {
            key: KeyView::new(rotated.key.clone()),
            plaintext: PresentedKey::expose(&rotated.plaintext),
            replaced: KeyView::new(rotated.replaced.clone()),
        }
    }
}

impl View for RotatedView<'_> {
    fn text(&self) -> String {
        let old_expiry =
            self.replaced.expires_at.map(|expires_at| expires_at.with_relative_time(Moment::now()));
        let mut rows = self.key.rows();
        rows.push(("replaces", self.replaced.key_id.clone()));
        rows.push(("old key expires", to_text(old_expiry)));
        rows.push(("plaintext", self.plaintext.to_owned()));
        output::details(&rows)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(change: impl FnOnce(&mut KeyView)) -> KeyView {
        let mut key = KeyView::new(proto::ApiKey { key_id: "key_1".to_owned(), ..Default::default() });
        change(&mut key);
        key
    }

    #[test]
    fn key_state_shows_the_most_severe() {
        let now = crate::time::parse_moment("2030-01-31T00:00:00Z").unwrap();
        assert_eq!(key(|_| {}).state(now), "active");
        assert_eq!(key(|key| key.expires_at = Some(now)).state(now), "expired");
        let replaced = key(|key| key.replaced_by_key_id = Some("key_2".to_owned()));
        assert_eq!(replaced.state(now), "replaced");
        let disabled = key(|key| {
            key.replaced_by_key_id = Some("key_2".to_owned());
            key.disabled_at = Some(now);
        });
        assert_eq!(disabled.state(now), "disabled");
        let revoked = key(|key| {
            key.expires_at = Some(now);
            key.revoked_at = Some(now);
        });
        assert_eq!(revoked.state(now), "revoked");
    }

    #[test]
    fn out_of_range_expiry_is_not_shown_as_never() {
        let expiring_at = |seconds| proto::ApiKey {
            expires_at: Some(prost_types::Timestamp { seconds, nanos: 0 }),
            ..Default::default()
        };
        let moments = [0, i64::MAX, 253_402_300_799];
        let shown = ["1970-01-01T00:00:00Z", "@9223372036854775807", "9999-12-31T23:59:59Z"];
        for (seconds, shown) in moments.into_iter().zip(shown) {
            assert_eq!(KeyView::new(expiring_at(seconds)).row()[5], shown);
        }
    }
}
