//! Peppers: secrets outside the database, without which the digests in a stolen copy of it are unusable.

use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use thiserror::Error;
use zeroize::Zeroizing;

use super::hash::{KeyHash, StoredHash};

/// The name of a pepper, stored with each digest made with it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PepperId(Box<str>);

impl PepperId {
    /// Returns the id as text.
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

/// The peppers of a replica. Keys are looked up with each of them and without a pepper. New digests are made
/// with the issuing pepper, if there is one.
///
/// All replicas must know a pepper before one of them issues with it, because a replica treats a key that it
/// cannot find as unknown. So a pepper is first added as `accept`. It issues once every replica accepts it,
/// and is accepted again until no live key uses it. Two peppers at a time are enough for that.
#[derive(Default)]
pub struct Peppers {
    accepted: Vec<Pepper>,
    /// Index of the issuing pepper; `None` if digests are made without a pepper.
    issuing: Option<usize>,
    /// The file they were read from, for error messages about a missing pepper.
    file: Option<Box<str>>,
}

/// Why a pepper file was rejected. It never contains a secret.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum InvalidPepper {
    /// A line has an invalid form.
    #[error(
        "line {0}: must be `issue <id> <secret>`, `accept <id> <secret>` or `issue none`, the id of 1 to 32 characters of \
         A-Z a-z 0-9 _ -"
    )]
    InvalidLine(usize),
    /// The secret is too easy to guess.
    #[error("line {0}: the secret must have at least 32 characters")]
    SecretTooShort(usize),
    /// Two lines have the same id.
    #[error("two lines have the id {0}")]
    DuplicateId(PepperId),
    /// There is no pepper, or there are more than two.
    #[error("must contain one pepper, or two during a rotation")]
    WrongCount,
    /// No line specifies the pepper of new keys.
    #[error(
        "no line specifies the pepper of new keys: begin the line of that pepper with `issue`, the other line with \
         `accept`; while no pepper issues yet, add the line `issue none`"
    )]
    NoIssuer,
    /// Several lines specify the pepper of new keys.
    #[error(
        "line {0}: an earlier line begins with `issue`: exactly one line must, the others begin with `accept`"
    )]
    MultipleIssuers(usize),
}

/// A parsed line of a pepper file.
enum PepperLine {
    Issue(Pepper),
    IssueNone,
    Accept(Pepper),
}

impl Peppers {
    /// Parses the lines of a file. Empty lines and lines that start with `#` are skipped. A single pepper may
    /// be given without the keyword; it issues.
    ///
    /// # Errors
    /// When there are not one or two peppers, not exactly one line issues, or a line is invalid.
    pub fn parse(text: &str) -> Result<Self, InvalidPepper> {
        let lines: Vec<(usize, &str)> = text
            .lines()
            .enumerate()
            .map(|(index, line)| (index + 1, line.trim()))
            .filter(|(_, line)| !line.is_empty() && !line.starts_with('#'))
            .collect();
        if let [(number, line)] = lines[..]
            && let [id, secret] = line.split_whitespace().collect::<Vec<_>>()[..]
            && !is_keyword(id)
        {
            return Ok(Self {
                accepted: vec![Pepper::new(number, id, secret)?],
                issuing: Some(0),
                file: None,
            });
        }
        let mut peppers = Self::default();
        let mut has_issuer = false;
        for (number, line) in lines {
            let (pepper, is_issuing) = match PepperLine::parse(number, line)? {
                PepperLine::Issue(pepper) => (Some(pepper), true),
                PepperLine::IssueNone => (None, true),
                PepperLine::Accept(pepper) => (Some(pepper), false),
            };
            if is_issuing && std::mem::replace(&mut has_issuer, true) {
                return Err(InvalidPepper::MultipleIssuers(number));
            }
            let Some(pepper) = pepper else { continue };
            if peppers.ids().any(|id| *id == pepper.id) {
                return Err(InvalidPepper::DuplicateId(pepper.id));
            }
            if is_issuing {
                peppers.issuing = Some(peppers.accepted.len());
            }
            peppers.accepted.push(pepper);
        }
        if !(1..=2).contains(&peppers.accepted.len()) {
            return Err(InvalidPepper::WrongCount);
        }
        if has_issuer { Ok(peppers) } else { Err(InvalidPepper::NoIssuer) }
    }

    /// Sets the file that the peppers were read from.
    #[must_use]
    pub fn with_file(self, path: &str) -> Self {
        Self { file: Some(path.into()), ..self }
    }

    /// Returns the file that the peppers were read from.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// Returns the digest to store for a key.
    #[must_use]
    pub fn stored_hash(&self, hash: &KeyHash) -> StoredHash {
        let issuing = self.issuing.and_then(|index| self.accepted.get(index));
        issuing.map_or_else(|| unpeppered(hash), |pepper| pepper.digest(hash))
    }

    /// Returns all digests that a key may be stored under: one per pepper, and the plain one.
    pub fn candidates(&self, hash: &KeyHash) -> impl Iterator<Item = StoredHash> {
        self.accepted.iter().map(|pepper| pepper.digest(hash)).chain([unpeppered(hash)])
    }

    /// Returns the number of digests from [`Self::candidates`]: 1 to 3, the same for every key.
    #[must_use]
    pub fn candidate_count(&self) -> usize {
        1 + self.accepted.len()
    }

    /// Returns the digest of a fixed text for each pepper. It distinguishes two secrets with the same id.
    pub fn fingerprints(&self) -> impl Iterator<Item = (&PepperId, [u8; 32])> {
        let text = KeyHash::from_bytes(*b"tenant-auth: a pepper's check v1");
        self.accepted.iter().map(move |pepper| (&pepper.id, pepper.digest(&text).digest))
    }

    /// Returns the ids of the peppers.
    pub fn ids(&self) -> impl Iterator<Item = &PepperId> {
        self.accepted.iter().map(|pepper| &pepper.id)
    }
}

/// Whether a text is a keyword, and so not an id.
fn is_keyword(text: &str) -> bool {
    matches!(text, "issue" | "accept" | "none")
}

impl PepperLine {
    fn parse(number: usize, line: &str) -> Result<Self, InvalidPepper> {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["issue", "none"] => Ok(Self::IssueNone),
            ["issue", id, secret] => Ok(Self::Issue(Pepper::new(number, id, secret)?)),
            ["accept", id, secret] => Ok(Self::Accept(Pepper::new(number, id, secret)?)),
            // Two peppers without a keyword: neither issues.
            [id, secret] if !is_keyword(id) => {
                Pepper::new(number, id, secret).and(Err(InvalidPepper::NoIssuer))
            }
            _ => Err(InvalidPepper::InvalidLine(number)),
        }
    }
}

impl Pepper {
    fn new(number: usize, id: &str, secret: &str) -> Result<Self, InvalidPepper> {
        let id_fits = (1..=32).contains(&id.len())
            && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-');
        if !id_fits || is_keyword(id) {
            return Err(InvalidPepper::InvalidLine(number));
        }
        if secret.len() < 32 {
            return Err(InvalidPepper::SecretTooShort(number));
        }
        Ok(Self { id: PepperId(id.into()), secret: Zeroizing::new(secret.as_bytes().to_vec()) })
    }

    /// Computes the HMAC of the key's SHA-256 and not of the key. So the digests of imported keys, whose
    /// plaintext is unavailable, get a pepper too, and a cached key can be looked up again without its
    /// plaintext.
    fn digest(&self, hash: &KeyHash) -> StoredHash {
        #[expect(clippy::expect_used, reason = "HMAC takes keys of any length")]
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.secret).expect("any length is fine");
        mac.update(hash.as_bytes());
        StoredHash { digest: mac.finalize().into_bytes().into(), pepper: Some(self.id.clone()) }
    }
}

fn unpeppered(hash: &KeyHash) -> StoredHash {
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
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "2025 oooooooooooooooooooooooooooooooo";
    const NEW: &str = "2026 nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn";

    fn hash() -> KeyHash {
        KeyHash::from_bytes([7; 32])
    }

    #[test]
    fn digest_without_pepper_is_the_key_hash() {
        let peppers = Peppers::default();
        assert_eq!(peppers.stored_hash(&hash()), unpeppered(&hash()));
        assert_eq!(peppers.candidates(&hash()).collect::<Vec<_>>(), [unpeppered(&hash())]);
    }

    #[test]
    fn rotation_steps_find_keys_issued_by_other_replicas() {
        let steps = [
            OLD.to_owned(),
            format!("# rotating\nissue {OLD}\naccept {NEW}\n"),
            format!("accept {OLD}\nissue {NEW}"),
            format!("issue {NEW}"),
        ];
        let steps = steps.map(|text| Peppers::parse(&text).unwrap());
        let finds = |replica: &Peppers, issuer: &Peppers| {
            let stored = issuer.stored_hash(&hash());
            replica.candidates(&hash()).any(|candidate| candidate == stored)
        };
        for (before, after) in steps.iter().zip(&steps[1..]) {
            assert!(finds(before, after), "{before:?} {after:?}");
            assert!(after.candidates(&hash()).any(|candidate| candidate == unpeppered(&hash())));
            assert_eq!(after.candidates(&hash()).count(), after.candidate_count());
        }
        assert!(finds(&steps[1], &steps[0]) && finds(&steps[2], &steps[1]));
        assert!(!finds(&steps[3], &steps[0]), "the old pepper is removed once no live key uses it");
        assert!(!finds(&steps[0], &steps[2]), "the intermediate step is necessary");
    }

    #[test]
    fn first_pepper_is_accepted_before_it_issues() {
        let accepted = Peppers::parse(&format!("issue none\naccept {NEW}")).unwrap();
        assert_eq!(accepted.stored_hash(&hash()), unpeppered(&hash()));
        let issuing = Peppers::parse(&format!("issue {NEW}")).unwrap();
        assert!(accepted.candidates(&hash()).any(|candidate| candidate == issuing.stored_hash(&hash())));
        assert_eq!(issuing.stored_hash(&hash()), Peppers::parse(NEW).unwrap().stored_hash(&hash()));
    }

    #[test]
    fn errors_name_the_line_and_no_secret() {
        let error = |text: &str| Peppers::parse(text).unwrap_err();
        assert_eq!(error(""), InvalidPepper::WrongCount);
        assert_eq!(error("issue none"), InvalidPepper::WrongCount);
        assert_eq!(error("onlyone"), InvalidPepper::InvalidLine(1));
        assert_eq!(error("2026 short"), InvalidPepper::SecretTooShort(1));
        assert_eq!(error(&format!("issue {NEW}\naccept 2025 short")), InvalidPepper::SecretTooShort(2));
        assert_eq!(error(&format!("{NEW}\n{OLD}")), InvalidPepper::NoIssuer);
        assert_eq!(error(&format!("accept {NEW}")), InvalidPepper::NoIssuer);
        assert_eq!(error(&format!("issue {NEW}\nissue {OLD}")), InvalidPepper::MultipleIssuers(2));
        assert_eq!(error(&format!("issue none\nissue {OLD}")), InvalidPepper::MultipleIssuers(2));
        assert!(matches!(error(&format!("issue {NEW}\naccept {NEW}")), InvalidPepper::DuplicateId(_)));
        let third = OLD.replace("2025", "2024");
        assert_eq!(error(&format!("issue {NEW}\naccept {OLD}\naccept {third}")), InvalidPepper::WrongCount);
        for text in ["a b cccccccccccccccccccccccccccccccccc", "accept 2026", "issue none none"] {
            assert_eq!(error(text), InvalidPepper::InvalidLine(1), "{text}");
        }
        for secret in ["nnnn", "oooo"] {
            assert!(!error(&format!("{NEW}\n{OLD}")).to_string().contains(secret));
        }
    }

    #[test]
    fn debug_shows_pepper_ids_only() {
        let peppers = Peppers::parse(NEW).unwrap();
        assert!(!format!("{peppers:?}").contains("nnn"));
    }
}
