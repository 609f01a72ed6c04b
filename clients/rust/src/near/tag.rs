//! Keyed hashes that identify keys and sessions in the near-cache, so that it contains no plaintext.

use std::hash::{BuildHasher, Hash, Hasher};

use siphasher::sip128::{Hasher128 as _, SipHasher13};

use crate::Error;

/// 128 bits that identify one key or session within this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(u64, u64);

/// Computes tags with SipHash-1-3-128, a keyed hash, with random secrets drawn at start.
///
/// If two texts had the same tag, the holder of one would get the answer about the other. An attacker would
/// have to find such a pair without the secrets and without seeing any tag, since tags never leave this
/// process. The best known internal collision of this hash succeeds with a probability of 2^-167 (Dobraunig,
/// Mendel and Schläffer, 2014), which is worse than a blind guess: a guess hits one of ten thousand entries
/// with 2^-114 per attempt. A keyed SHA-256 or BLAKE3 would add no security here and take at least four times
/// as long, which is more than the rest of a cache hit.
#[derive(Clone, Copy)]
pub(crate) struct Tagger {
    keys: SipHasher13,
    sessions: SipHasher13,
}

impl Tagger {
    pub(crate) fn new() -> Result<Self, Error> {
        let random = || {
            getrandom::u64().map_err(|_| Error::Setup {
                message: "the random generator of this machine failed".to_owned(),
            })
        };
        Ok(Self {
            keys: SipHasher13::new_with_keys(random()?, random()?),
            sessions: SipHasher13::new_with_keys(random()?, random()?),
        })
    }

    pub(crate) fn key(&self, key: &str) -> Tag {
        let hash = self.keys.hash(key.as_bytes());
        Tag(hash.h1, hash.h2)
    }

    pub(crate) fn session(&self, session_id: &str, key: Option<&str>) -> Tag {
        let mut hasher = self.sessions;
        // The length distinguishes ("ab", "c") from ("a", "bc").
        hasher.write_u64(session_id.len() as u64);
        hasher.write(session_id.as_bytes());
        hasher.write(key.unwrap_or_default().as_bytes());
        let hash = hasher.finish128();
        Tag(hash.h1, hash.h2)
    }
}

impl Hash for Tag {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// Tags are already random: the first half serves as the hash.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct TagHasher(u64);

impl BuildHasher for TagHasher {
    type Hasher = Self;

    fn build_hasher(&self) -> Self {
        *self
    }
}

impl Hasher for TagHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_inputs_have_different_tags() {
        let tagger = Tagger::new().unwrap();
        let tags = [
            tagger.key("a"),
            tagger.key("b"),
            tagger.session("a", None),
            tagger.session("a", Some("b")),
            tagger.session("ab", None),
            tagger.session("", Some("ab")),
        ];
        for (index, tag) in tags.iter().enumerate() {
            assert!(!tags[..index].contains(tag), "{index}");
        }
        assert_eq!(tagger.key("a"), tagger.key("a"));
    }

    #[test]
    fn tags_differ_between_taggers() {
        assert_ne!(Tagger::new().unwrap().key("a"), Tagger::new().unwrap().key("a"));
    }
}
