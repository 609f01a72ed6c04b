//! Peppers: secrets kept outside the database, so that a stolen copy of it is no list of usable digests.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

use super::hash::{KeyHash, StoredHash};

/// A pepper's name, written beside every digest made with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PepperId(Box<str>);

impl PepperId {
    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PepperId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A named secret of at least 32 bytes.
pub struct Pepper {
    id: PepperId,
    secret: Zeroizing<Vec<u8>>,
}

/// The peppers in force: the first is used for new digests, the second only to find older ones.
///
/// Two are enough to rotate: put the new one first and keep the old one until no live key is left under it. Digests
/// without a pepper are found as well, so a pepper can be introduced at any time.
#[derive(Default)]
pub struct Peppers {
    current: Option<Pepper>,
    previous: Option<Pepper>,
}

/// Why a pepper file was refused. Never holds a secret.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidPepper {
    /// Not of the form `<id> <secret>`.
    #[error("line {0}: must be `<id> <secret>`, the id of 1 to 32 characters of A-Z a-z 0-9 _ -")]
    Form(usize),
    /// The secret is too easy to guess.
    #[error("line {0}: the secret must have at least 32 characters")]
    Short(usize),
    /// Both lines have one id.
    #[error("both lines have the id {0}")]
    SameId(PepperId),
    /// No line, or more than two.
    #[error("must hold one line, or two during a rotation (the new pepper first)")]
    Lines,
}

impl Peppers {
    /// Reads `<id> <secret>` lines; empty lines and those that start with `#` are skipped.
    ///
    /// # Errors
    /// When there are not one or two such lines, or one of them is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidPepper> {
        let mut lines = text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .map(|(number, line)| Pepper::parse(number, line));
        let current = lines.next().ok_or(InvalidPepper::Lines)??;
        let previous = lines.next().transpose()?;
        if lines.next().is_some() {
            return Err(InvalidPepper::Lines);
        }
        if previous.as_ref().is_some_and(|previous| previous.id == current.id) {
            return Err(InvalidPepper::SameId(current.id));
        }
        Ok(Self { current: Some(current), previous })
    }

    /// The digest to store for a key.
    #[must_use]
    pub fn stored(&self, hash: &KeyHash) -> StoredHash {
        self.current.as_ref().map_or_else(|| plain(hash), |pepper| pepper.digest(hash))
    }

    /// Every digest under which a key may be stored: the current pepper's, the previous one's, and the plain one.
    pub fn candidates(&self, hash: &KeyHash) -> impl Iterator<Item = StoredHash> {
        let peppered = [&self.current, &self.previous].into_iter().flatten();
        peppered.map(|pepper| pepper.digest(hash)).chain([plain(hash)])
    }

    /// How many digests [`Self::candidates`] gives: 1 to 3, the same for every key.
    #[must_use]
    pub fn candidate_count(&self) -> usize {
        1 + usize::from(self.current.is_some()) + usize::from(self.previous.is_some())
    }

    /// The names of the peppers in force.
    pub fn ids(&self) -> impl Iterator<Item = &PepperId> {
        [&self.current, &self.previous].into_iter().flatten().map(|pepper| &pepper.id)
    }
}

impl Pepper {
    fn parse(number: usize, line: &str) -> Result<Self, InvalidPepper> {
        let (id, secret) = line.split_once(char::is_whitespace).ok_or(InvalidPepper::Form(number))?;
        let secret = secret.trim();
        let id_fits = (1..=32).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if !id_fits || secret.contains(char::is_whitespace) {
            return Err(InvalidPepper::Form(number));
        }
        if secret.len() < 32 {
            return Err(InvalidPepper::Short(number));
        }
        Ok(Self { id: PepperId(id.into()), secret: Zeroizing::new(secret.as_bytes().to_vec()) })
    }

    /// HMAC over the key's SHA-256 rather than over the key, so that the digests of imported keys, whose plaintext
    /// nobody has, get a pepper too, and so that a cached key is looked up again without its plaintext.
    fn digest(&self, hash: &KeyHash) -> StoredHash {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("any length is fine");
        mac.update(hash.as_bytes());
        StoredHash { digest: mac.finalize().into_bytes().into(), pepper: Some(self.id.clone()) }
    }
}

fn plain(hash: &KeyHash) -> StoredHash {
    StoredHash { digest: *hash.as_bytes(), pepper: None }
}

impl fmt::Debug for Pepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pepper").field("id", &self.id).finish_non_exhaustive()
    }
}

impl fmt::Debug for Peppers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.ids()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "2025 oooooooooooooooooooooooooooooooo";
    const NEW: &str = "2026 nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn";

    fn hash() -> KeyHash {
        KeyHash::from_bytes([7; 32])
    }

    #[test]
    fn without_a_pepper_the_digest_is_the_hash() {
        let peppers = Peppers::default();
        assert_eq!(peppers.stored(&hash()), plain(&hash()));
        assert_eq!(peppers.candidates(&hash()).collect::<Vec<_>>(), [plain(&hash())]);
    }

    #[test]
    fn a_rotation_finds_digests_of_the_old_the_new_and_no_pepper() {
        let before = Peppers::parse(OLD).unwrap();
        let during = Peppers::parse(&format!("# rotating\n{NEW}\n{OLD}\n")).unwrap();
        let after = Peppers::parse(NEW).unwrap();

        let stored = before.stored(&hash());
        assert!(during.candidates(&hash()).any(|candidate| candidate == stored));
        assert!(!after.candidates(&hash()).any(|candidate| candidate == stored));
        assert!(during.candidates(&hash()).any(|candidate| candidate == plain(&hash())));
        assert_eq!(during.stored(&hash()), after.stored(&hash()));
        assert_eq!(during.candidates(&hash()).count(), during.candidate_count());
    }

    #[test]
    fn refusals_name_the_line_and_no_secret() {
        let refused = |text: &str| Peppers::parse(text).unwrap_err();
        assert_eq!(refused(""), InvalidPepper::Lines);
        assert_eq!(refused("onlyone"), InvalidPepper::Form(1));
        assert_eq!(refused("2026 short"), InvalidPepper::Short(1));
        assert_eq!(refused(&format!("{NEW}\n2025 short")), InvalidPepper::Short(2));
        assert_eq!(refused(&format!("{NEW}\n{OLD}\n{OLD}")), InvalidPepper::Lines);
        assert!(matches!(refused(&format!("{NEW}\n{NEW}")), InvalidPepper::SameId(_)));
        assert_eq!(refused("a b cccccccccccccccccccccccccccccccccc"), InvalidPepper::Form(1));
    }

    #[test]
    fn debug_shows_ids_only() {
        let peppers = Peppers::parse(NEW).unwrap();
        assert!(!format!("{peppers:?}").contains("nnn"));
    }
}
