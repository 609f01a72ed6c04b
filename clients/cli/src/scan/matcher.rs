//! Finds the keys in a piece of memory.

use aho_corasick::{AhoCorasick, BuildError, Input, MatchKind};
use sha2::{Digest as _, Sha256};

use super::layout::{KeyLayout, MAX_OWN_KEY_LEN};

/// Bytes per character: in ASCII and UTF-8, and in UTF-16 of either byte order.
const STRIDES: [usize; 2] = [1, 2];
/// Length of the longest key in any encoding.
pub(super) const MAX_SPAN: usize = 2 * MAX_OWN_KEY_LEN - 1;

/// A key, without its text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoundKey {
    /// The characters that may be shown.
    pub(crate) hint: String,
    /// The SHA-256 of the key.
    pub(crate) sha256: [u8; 32],
}

/// A key in a piece of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Match {
    /// Position of the first byte.
    pub(super) start: usize,
    /// Position after the last byte.
    pub(super) end: usize,
    pub(super) key: FoundKey,
}

/// Finds keys with the given layouts.
///
/// Neither the byte before a key nor the one after it matters. A key often touches other letters (`\nta_…`
/// in JSON, `%22ta_…` in a URL, two keys in a row), and its checksum leaves one look-alike in four billion.
#[derive(Debug)]
pub(crate) struct Matcher {
    layouts: Vec<KeyLayout>,
    /// Finds the first characters of a key in any encoding.
    leads: AhoCorasick,
}

impl Matcher {
    /// # Errors
    /// When there are far more layouts than a command line can have.
    pub(crate) fn new(mut layouts: Vec<KeyLayout>) -> Result<Self, BuildError> {
        // A layout that is given twice finds each key once.
        layouts.sort_by(|one, other| one.lead().cmp(other.lead()));
        layouts.dedup();
        let leads = layouts.iter().flat_map(|layout| STRIDES.map(|stride| encode(layout.lead(), stride)));
        let leads = AhoCorasick::builder().match_kind(MatchKind::LeftmostFirst).build(leads)?;
        Ok(Self { layouts, leads })
    }

    /// Calls `found` for each key that ends after `seen`, in the order of their starts.
    ///
    /// # Errors
    /// Those of `found`.
    pub(super) fn search<E>(
        &self,
        bytes: &[u8],
        seen: usize,
        mut found: impl FnMut(Match) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut from = 0;
        while let Some(lead) = self.leads.find(Input::new(bytes).range(from..)) {
            let start = lead.start();
            for layout in &self.layouts {
                for stride in STRIDES {
                    match key_at(layout, stride, bytes, start) {
                        Some(found_here) if found_here.end > seen => found(found_here)?,
                        _ => {}
                    }
                }
            }
            // By one byte: a lead may be the end of another one, such as `a_` of `ta_`.
            from = start + 1;
        }
        Ok(())
    }

    /// Returns a name without the keys in it, and these keys.
    pub(super) fn redact(&self, name: &str) -> (String, Vec<FoundKey>) {
        let (mut text, mut keys, mut copied) = (String::with_capacity(name.len()), Vec::new(), 0);
        let found: Result<(), std::convert::Infallible> = self.search(name.as_bytes(), 0, |found| {
            // A match consists of whole ASCII characters, so both ends are at a character.
            text += name.get(copied..found.start).unwrap_or_default();
            text += &found.key.hint;
            text.push('…');
            copied = found.end.max(copied);
            keys.push(found.key);
            Ok(())
        });
        let Ok(()) = found;
        text += name.get(copied..).unwrap_or_default();
        (text, keys)
    }
}

/// Returns the bytes between the first and the last byte of an ASCII text that are not zero.
fn encode(text: &str, stride: usize) -> Vec<u8> {
    let mut bytes: Vec<u8> = text.bytes().flat_map(|byte| [byte, 0].into_iter().take(stride)).collect();
    // The zero after the last character of little-endian text is not part of big-endian text.
    bytes.truncate((text.len() - 1) * stride + 1);
    bytes
}

fn key_at(layout: &KeyLayout, stride: usize, bytes: &[u8], start: usize) -> Option<Match> {
    let len = layout.key_len();
    let end = start + (len - 1) * stride + 1;
    let span = bytes.get(start..end)?;
    let mut copy = [0; MAX_OWN_KEY_LEN];
    let key = if stride == 1 {
        span
    } else {
        let copy = &mut copy[..len];
        for (place, unit) in copy.iter_mut().zip(span.chunks(stride)) {
            if unit.iter().skip(1).any(|byte| *byte != 0) {
                return None;
            }
            *place = unit[0];
        }
        copy
    };
    if layout.check(key) != Some(Ok(())) {
        return None;
    }
    // A key that passed the check is ASCII.
    let hint = String::from_utf8_lossy(&key[..layout.hint_len()]).into_owned();
    Some(Match { start, end, key: FoundKey { hint, sha256: Sha256::digest(key).into() } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scan::testing::{find_all, generate_key, matcher};

    #[test]
    fn key_is_found_between_any_characters() {
        let key = generate_key("ta");
        for (before, after) in [
            ("", ""),
            ("\"", "\","),
            ("key=", "&x=1"),
            ("https%3A%2F%2Fhost%2F%3Fk%3D", "%26x"),
            ("data_", "_old"),
            ("\\n", "\\n"),
            ("\0\x01\u{fffd}", "\0"),
            ("ta_", "7"),
            ("ta_ta_t", "ta_"),
        ] {
            let text = format!("{before}{key}{after}");
            let found = find_all(&matcher(&["ta"]), text.as_bytes());
            assert_eq!(found.len(), 1, "{before:?} {after:?}");
            assert_eq!(found[0].start, before.len());
            assert_eq!(found[0].key.hint, key[..7]);
            assert_eq!(found[0].key.sha256, <[u8; 32]>::from(Sha256::digest(key.as_bytes())));
        }
    }

    #[test]
    fn keys_in_a_row_are_both_found() {
        let (one, two) = (generate_key("ta"), generate_key("ta"));
        let found = find_all(&matcher(&["ta"]), format!("{one}{two}").as_bytes());
        assert_eq!(found.iter().map(|found| found.start).collect::<Vec<_>>(), [0, one.len()]);
    }

    #[test]
    fn key_is_found_in_utf_16_of_either_byte_order() {
        let key = generate_key("acme_live");
        for offset in 0..3 {
            let mut little = vec![b'x'; offset];
            little.extend(key.encode_utf16().flat_map(u16::to_le_bytes));
            let mut big = vec![b'x'; offset];
            big.extend(key.encode_utf16().flat_map(u16::to_be_bytes));
            let matcher = matcher(&["acme_live"]);
            assert_eq!(find_all(&matcher, &little)[0].start, offset);
            assert_eq!(find_all(&matcher, &big)[0].start, offset + 1);
            // Another letter than ASCII between two digits: no key.
            little[offset + 41] = 1;
            assert_eq!(find_all(&matcher, &little), []);
        }
    }

    #[test]
    fn prefixes_that_overlap_are_told_apart() {
        let matcher = matcher(&["a", "ta", "ta_live", "ta"]);
        for prefix in ["a", "ta", "ta_live"] {
            let key = generate_key(prefix);
            let found = find_all(&matcher, format!("t{key}").as_bytes());
            assert_eq!(found.len(), 1, "{prefix}");
            assert_eq!(found[0].key.hint, key[..prefix.len() + 5]);
        }
    }

    #[test]
    fn changed_or_cut_key_is_not_found() {
        let key = generate_key("ta");
        let matcher = matcher(&["ta"]);
        let wrong = if key.ends_with('0') { "1" } else { "0" };
        for text in [
            &key[1..],
            &key[..key.len() - 1],
            &format!("{}{wrong}", &key[..key.len() - 1]),
            &format!("{}x{}", &key[..20], &key[20..]),
            &format!("{}-{}", &key[..20], &key[21..]),
            &key.to_uppercase(),
            &generate_key("tb"),
        ] {
            assert_eq!(find_all(&matcher, text.as_bytes()), []);
        }
    }

    #[test]
    fn redacted_name_shows_only_hints() {
        let (one, two) = (generate_key("ta"), generate_key("ta"));
        let (name, keys) = matcher(&["ta"]).redact(&format!("über-{one}{two}.txt"));
        assert_eq!(name, format!("über-{}…{}….txt", &one[..7], &two[..7]));
        assert_eq!(keys.len(), 2);
        assert_eq!(matcher(&["ta"]).redact("plain.txt"), ("plain.txt".to_owned(), Vec::new()));
    }
}
