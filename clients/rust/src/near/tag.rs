//! By what a key or session is found in memory without being kept there.

use std::hash::{BuildHasher, Hash, Hasher};

use siphasher::sip128::{Hasher128 as _, SipHasher13};

use crate::Error;

/// 128 bits that stand for one key or session, for this process alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tag(u64, u64);

/// Makes tags with SipHash-1-3-128, a keyed hash, under two secrets drawn when the process starts.
///
/// Two texts with one tag would give one's holder what is known about the other. Whoever wants such a pair has to find it
/// without the secrets and without ever seeing a tag, which never leaves this process. The best way known to make this
/// hash collide inside works with a chance of 2^-167 (Dobraunig, Mendel and Schläffer, 2014): worse than guessing blindly,
/// which hits one of ten thousand entries with 2^-114 a try. A keyed SHA-256 or BLAKE3 would say no more and take four
/// times as long or longer, which is more than the rest of a hit.
#[derive(Clone, Copy)]
pub(crate) struct Tagger {
    keys: SipHasher13,
    sessions: SipHasher13,
}

impl Tagger {
    pub(crate) fn new() -> Result<Self, Error> {
        let random = || {
            getrandom::u64()
                .map_err(|_| Error::Setup { message: "this machine has no randomness".to_owned() })
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
        // The length keeps "ab" with "c" apart from "a" with "bc".
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

/// Tags are random already: their first half is their hash.
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
        for (place, tag) in tags.iter().enumerate() {
            assert!(!tags[..place].contains(tag), "{place}");
        }
        assert_eq!(tagger.key("a"), tagger.key("a"));
    }

    #[test]
    fn tags_differ_between_taggers() {
        assert_ne!(Tagger::new().unwrap().key("a"), Tagger::new().unwrap().key("a"));
    }
}
