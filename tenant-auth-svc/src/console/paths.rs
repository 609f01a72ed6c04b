//! The addresses of pages.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use url::form_urlencoded;

/// What an id may contain is not encoded, so that addresses can be read.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'_').remove(b'-').remove(b'.');

/// The page of a tenant.
pub(super) fn tenant(id: &str) -> String {
    format!("/tenants/{}", segment(id))
}

/// The page of a key.
pub(super) fn key(id: &str) -> String {
    format!("/keys/{}", segment(id))
}

/// A path with parameters; those without a value are left out.
pub(super) fn with_query(path: &str, parameters: &[(&str, &str)]) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    query.extend_pairs(parameters.iter().filter(|(_, value)| !value.is_empty()));
    let query = query.finish();
    if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
}

fn segment(id: &str) -> String {
    // Browsers resolve such a segment away.
    match id {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        id => utf8_percent_encode(id, ESCAPED).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_stay_one_segment_of_a_path() {
        assert_eq!(tenant("ten_0a-B"), "/tenants/ten_0a-B");
        assert_eq!(key("a/../b?c#d\"<é"), "/keys/a%2F..%2Fb%3Fc%23d%22%3C%C3%A9");
        assert_eq!(key(".."), "/keys/%2E%2E");
    }

    #[test]
    fn empty_parameters_are_left_out() {
        assert_eq!(with_query("/tenants", &[("after", "")]), "/tenants");
        assert_eq!(with_query("/a", &[("x", "1 &"), ("y", ""), ("z", "2")]), "/a?x=1+%26&z=2");
    }
}
