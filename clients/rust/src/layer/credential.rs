//! What a request shows.

use http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};

use crate::{PresentedKey, question::MAX_KEY_LEN};

/// Whoever reads it later must not read another one than somebody before.
const SESSION_ID_HEADER: &str = "mcp-session-id";

pub(super) enum Credential {
    None,
    /// Several: which one counts is not for a parser to choose.
    Ambiguous,
    /// Something that no key looks like.
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
            match text.iter().position(|byte| *byte == b' ').map(|place| text.split_at(place)) {
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
