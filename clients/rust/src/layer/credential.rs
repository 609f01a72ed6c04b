//! Reads the credential of a request.

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};

use crate::{PresentedKey, key_query::MAX_KEY_LEN};

/// A repeated session id is rejected, because another component might read another of its values.
pub(crate) const SESSION_ID_HEADER: HeaderName = HeaderName::from_static("mcp-session-id");

pub(crate) enum Credential {
    None,
    /// There are several credentials; a parser must not choose between them.
    Ambiguous,
    /// The value cannot be a key.
    Malformed,
    Key(PresentedKey),
}

impl Credential {
    /// Reads the key from all of these headers: the same key in several of them is one credential.
    pub(crate) fn read(headers: &HeaderMap, names: &[HeaderName]) -> Self {
        let is_repeated = |name: &HeaderName| headers.get_all(name).iter().nth(1).is_some();
        if names.iter().chain([&AUTHORIZATION, &SESSION_ID_HEADER]).any(is_repeated) {
            return Self::Ambiguous;
        }
        let mut found = names.iter().filter_map(|name| presented(headers, name));
        let Some(key) = found.next() else {
            return Self::None;
        };
        if found.any(|other| other != key) {
            return Self::Ambiguous;
        }
        match str::from_utf8(key) {
            Ok(key) if key.len() <= MAX_KEY_LEN && key.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Self::Key(PresentedKey::new(key))
            }
            _ => Self::Malformed,
        }
    }
}

/// Returns what a header presents as a key; `None` if it is absent, empty, or `authorization` with another scheme.
fn presented<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    let text = headers.get(name).map(HeaderValue::as_bytes)?.trim_ascii();
    let key = if *name == AUTHORIZATION {
        let (scheme, key) = text.split_at(text.iter().position(|byte| *byte == b' ')?);
        if !scheme.eq_ignore_ascii_case(b"bearer") {
            return None;
        }
        key.trim_ascii()
    } else {
        text
    };
    (!key.is_empty()).then_some(key)
}
