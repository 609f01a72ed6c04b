//! The identity of an admitted request, in headers for the upstream.
//!
//! Each answer has every header of one fixed list, empty where it does not apply, so that a proxy that copies the list
//! overwrites whatever a customer has sent under these names. All together stay below 2 KiB.

use std::borrow::Cow;

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

use crate::domain::{id::KeyId, key::KeyRecord, verdict::Source};

/// The names of all headers, in the order of their values.
pub(super) const IDENTITY_HEADERS: [&str; 9] = [
    "x-tenant-id",
    "x-tenant-name",
    "x-tenant-plan",
    "x-tenant-key-id",
    "x-tenant-scopes",
    "x-tenant-scopes-omitted",
    "x-tenant-expires-at",
    "x-tenant-source",
    "x-tenant-principal",
];
/// The place of the scopes in the list.
const SCOPES: usize = 4;

/// Maximum size of all headers together, in bytes: names, values, and four bytes for each line.
pub(super) const MAX_IDENTITY_BYTES: usize = 2_047;
/// Bytes of a line beyond its name and its value.
const LINE_OVERHEAD: usize = 4;
/// Maximum length of the name of the tenant, encoded, in bytes. It is only for display, so it may be cut.
const MAX_NAME_LEN: usize = 128;
/// The same for its plan.
const MAX_PLAN_LEN: usize = 96;
/// Maximum length of the scopes, in bytes.
const MAX_SCOPES_LEN: usize = 1_024;

/// A header contains printable ASCII; all else is percent-encoded, and the percent sign itself.
const ENCODED: &AsciiSet = &CONTROLS.add(b'%');

/// The values of the headers.
#[derive(Debug, Default)]
pub(super) struct IdentityHeaders<'a>([Cow<'a, str>; IDENTITY_HEADERS.len()]);

impl<'a> IdentityHeaders<'a> {
    /// Returns the values for a key and its id, with its principal token if one was signed.
    pub(super) fn of(
        key: &'a KeyRecord,
        key_id: &'a KeyId,
        source: Source,
        principal: Option<&'a str>,
    ) -> Self {
        let expires_at = key.expires_at.get().map_or(Cow::Borrowed(""), |at| {
            let since_epoch = std::time::Duration::from_millis(u64::try_from(at.0).unwrap_or_default());
            let time = std::time::UNIX_EPOCH + since_epoch;
            humantime::format_rfc3339_millis(time).to_string().into()
        });
        let mut headers = Self([
            key.tenant.id.as_str().into(),
            encode(&key.tenant.name, MAX_NAME_LEN),
            encode(&key.tenant.plan, MAX_PLAN_LEN),
            key_id.as_str().into(),
            "".into(),
            "".into(),
            expires_at,
            source.as_str().into(),
            principal.unwrap_or_default().into(),
        ]);
        // The number of omitted scopes has at most two digits.
        let left = MAX_IDENTITY_BYTES.saturating_sub(headers.size() + 2).min(MAX_SCOPES_LEN);
        let (scopes, omitted) = key.scopes.leading(left);
        headers.0[SCOPES] = scopes.into();
        if omitted > 0 {
            headers.0[SCOPES + 1] = omitted.to_string().into();
        }
        headers
    }

    /// Iterates over names and values.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'static str, &str)> {
        IDENTITY_HEADERS.into_iter().zip(self.0.iter().map(|value| &**value))
    }

    fn size(&self) -> usize {
        self.iter().map(|(name, value)| name.len() + value.len() + LINE_OVERHEAD).sum()
    }
}

/// Encodes a text, and cuts it between two characters if it is too long.
fn encode(text: &str, max_len: usize) -> Cow<'_, str> {
    let encoded: Cow<'_, str> = utf8_percent_encode(text, ENCODED).into();
    if encoded.len() <= max_len {
        return encoded;
    }
    let mut cut = String::with_capacity(max_len);
    for character in text.chars() {
        let mut utf8 = [0; 4];
        let encoded = utf8_percent_encode(character.encode_utf8(&mut utf8), ENCODED);
        let before = cut.len();
        cut.extend(encoded);
        if cut.len() > max_len {
            cut.truncate(before);
            break;
        }
    }
    // A proxy may remove a space at the end of a value.
    cut.truncate(cut.trim_end().len());
    cut.into()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::{
        clock::{OptionalMillis, UnixMillis},
        id::{KeyId, TenantId},
        network::AllowedNetworks,
        scope::{Scope, ScopeSet},
        tenant::{TenantSnapshot, TenantStatus},
    };

    fn key(name: &str, plan: &str, id: &str, scopes: &[String], expires_at: Option<i64>) -> KeyRecord {
        KeyRecord {
            key_id: KeyId::parse(id).unwrap().into(),
            tenant: TenantSnapshot {
                id: TenantId::parse(id).unwrap(),
                name: name.into(),
                plan: plan.into(),
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
        }
    }

    #[test]
    fn identity_has_every_header() {
        let scopes = ["a:r".to_owned(), "b:w".to_owned()];
        let key = key("Caf\u{e9} 100%", "pro", "id-1", &scopes, Some(1_790_000_000_123));
        let key_id = key.key_id.unpack();
        let headers = IdentityHeaders::of(&key, &key_id, Source::Stale, Some("a.b.c"));
        let values: Vec<_> = headers.iter().map(|(_, value)| value.to_owned()).collect();
        let expected = [
            "id-1",
            "Caf%C3%A9 100%25",
            "pro",
            "id-1",
            "a:r b:w",
            "",
            "2026-09-21T14:13:20.123Z",
            "stale",
            "a.b.c",
        ];
        assert_eq!(values, expected);
        assert!(IdentityHeaders::default().iter().all(|(_, value)| value.is_empty()));
    }

    #[test]
    fn long_name_is_cut_between_characters() {
        assert_eq!(encode(&"\u{1f600}".repeat(64), 128), "%F0%9F%98%80".repeat(10));
        assert_eq!(encode(&"x".repeat(200), 128), "x".repeat(128));
        assert_eq!(encode(&format!("{}  y", "x".repeat(126)), 128), "x".repeat(126));
    }

    proptest! {
        /// The longest of everything: names, ids, scopes, and the longest token (see `principal`).
        #[test]
        fn identity_headers_stay_below_two_kib(
            name in "\\PC{0,64}",
            plan in "\\PC{0,32}",
            id_len in 1..=64_usize,
            scope_len in 3..=64_usize,
            count in 0..=32_usize,
            token_len in 0..=1_473_usize,
            expires_at in proptest::option::of(0..UnixMillis::MAX.0),
        ) {
            let scopes: Vec<_> = (0..count).map(|n| format!("{n:02}{}", "x".repeat(scope_len - 2))).collect();
            let (id, token) = ("i".repeat(id_len), "t".repeat(token_len));
            let key = key(&name, &plan, &id, &scopes, expires_at);
            let key_id = key.key_id.unpack();
            let headers = IdentityHeaders::of(&key, &key_id, Source::Refreshing, Some(&token));
            prop_assert!(headers.size() <= MAX_IDENTITY_BYTES, "{} bytes", headers.size());
            let visible = |value: &str| value.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
            prop_assert!(headers.iter().all(|(_, value)| visible(value)));
            let given = headers.0[SCOPES].split_ascii_whitespace().count();
            let omitted: usize = headers.0[SCOPES + 1].parse().unwrap_or(0);
            prop_assert_eq!(given + omitted, count);
        }
    }
}
