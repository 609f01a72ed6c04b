//! Reads the credential of a request.

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};

use crate::{PresentedKey, key_query::MAX_KEY_LEN};

/// A repeated session id is rejected, because another component might read another of its values.
const SESSION_ID_HEADER: &str = "mcp-session-id";

pub(super) enum Credential {
    None,
    /// There are several credentials; a parser must not choose between them.
    Ambiguous,
    /// The value cannot be a key.
    Malformed,
    Key(PresentedKey),
}

impl Credential {
    pub(super) fn read(headers: &HeaderMap, name: &HeaderName) -> Self {
        let is_repeated = |name: &HeaderName| headers.get_all(name).iter().nth(1).is_some();
        let session_id = HeaderName::from_static(SESSION_ID_HEADER);
        if [name, &AUTHORIZATION, &session_id].into_iter().any(is_repeated) {
            return Self::Ambiguous;
        }
        let Some(text) = headers.get(name).map(HeaderValue::as_bytes).map(<[u8]>::trim_ascii) else {
            return Self::None;
        };
        let key = if *name == AUTHORIZATION {
            match text.iter().position(|byte| *byte == b' ').map(|index| text.split_at(index)) {
                Some((scheme, key)) if scheme.eq_ignore_ascii_case(b"bearer") => key.trim_ascii(),
                _ => return Self::None,
            }
        } else {
            text
        };
        match str::from_utf8(key) {
            Ok("") => Self::None,
            Ok(key) if key.len() <= MAX_KEY_LEN && key.bytes().all(|byte| byte.is_ascii_graphic()) => {
                Self::Key(PresentedKey::new(key))
            }
            _ => Self::Malformed,
        }
    }
}
