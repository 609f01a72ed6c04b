//! Keys and tenants that are denied by a file, whatever the database says, and though it says nothing at all.

use std::{
    collections::HashSet,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use arc_swap::ArcSwap;
use thiserror::Error;

use super::{
    id::{KeyId, TenantId},
    key::{KeyHash, Peppers},
    store::StoredDigest,
    verdict::Verdict,
};

/// What is denied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DenyList {
    keys: HashSet<KeyId>,
    tenants: HashSet<TenantId>,
    hashes: HashSet<KeyHash>,
}

/// A line of a deny list that says nothing that can be denied. It is not shown: somebody may have put a key there.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("line {0}: must be a key id (`key_…`), `tenant:<id>` or `sha256:<64 hexadecimal digits>`")]
pub struct InvalidDenyLine(usize);

/// How many entries of each kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DenyCounts {
    /// Keys by id.
    pub keys: usize,
    /// Tenants.
    pub tenants: usize,
    /// Keys by SHA-256.
    pub hashes: usize,
}

impl DenyCounts {
    /// All of them.
    #[must_use]
    pub fn total(self) -> usize {
        self.keys + self.tenants + self.hashes
    }
}

impl DenyList {
    /// Reads one entry a line. What follows a `#` is a comment; empty lines are skipped.
    ///
    /// # Errors
    /// [`InvalidDenyLine`] for the first line that is wrong: half a list is none.
    pub fn parse(text: &str) -> Result<Self, InvalidDenyLine> {
        let mut list = Self::default();
        for (index, line) in text.lines().enumerate() {
            let entry = line.split('#').next().unwrap_or_default().trim();
            if !entry.is_empty() && list.add(entry).is_none() {
                return Err(InvalidDenyLine(index + 1));
            }
        }
        Ok(list)
    }

    fn add(&mut self, entry: &str) -> Option<()> {
        if let Some(id) = entry.strip_prefix("tenant:") {
            self.tenants.insert(TenantId::parse(id).ok()?);
        } else if let Some(digits) = entry.strip_prefix("sha256:") {
            let mut hash = [0; 32];
            hex::decode_to_slice(digits, &mut hash).ok()?;
            self.hashes.insert(KeyHash::from_bytes(hash));
        } else {
            // All ids of keys are ours. A key itself, put here by mistake, must not pass for one.
            entry.strip_prefix("key_").filter(|rest| !rest.is_empty())?;
            self.keys.insert(KeyId::parse(entry).ok()?);
        }
        Some(())
    }

    /// How many entries there are.
    #[must_use]
    pub fn counts(&self) -> DenyCounts {
        DenyCounts { keys: self.keys.len(), tenants: self.tenants.len(), hashes: self.hashes.len() }
    }

    fn is_empty(&self) -> bool {
        self.counts() == DenyCounts::default()
    }

    /// How many entries of this one are not in another.
    fn count_missing_from(&self, other: &Self) -> usize {
        self.keys.difference(&other.keys).count()
            + self.tenants.difference(&other.tenants).count()
            + self.hashes.difference(&other.hashes).count()
    }
}

/// The deny list in force. It is asked about every answer; while it is empty, which is nearly always, that is one read of a
/// flag that nobody writes.
#[derive(Debug, Default)]
pub struct ActiveDenyList {
    is_nonempty: AtomicBool,
    list: ArcSwap<DenyList>,
}

impl ActiveDenyList {
    /// Puts another list in force; how many entries are new, and how many are gone.
    pub fn replace(&self, list: DenyList) -> (usize, usize) {
        let any = !list.is_empty();
        let list = Arc::new(list);
        let before = self.list.swap(Arc::clone(&list));
        // After the list: whoever sees the flag sees what it is about.
        self.is_nonempty.store(any, Ordering::Release);
        (list.count_missing_from(&before), before.count_missing_from(&list))
    }

    /// How many entries are in force.
    #[must_use]
    pub fn counts(&self) -> DenyCounts {
        self.list.load().counts()
    }

    /// Whether a key is denied by its hash: nothing has to be known of it.
    #[must_use]
    pub fn is_hash_denied(&self, hash: &KeyHash) -> bool {
        self.is_nonempty.load(Ordering::Acquire) && self.list.load().hashes.contains(hash)
    }

    /// Whether a key is denied by its id.
    #[must_use]
    pub fn is_key_denied(&self, key: &KeyId) -> bool {
        self.is_nonempty.load(Ordering::Acquire) && self.list.load().keys.contains(key)
    }

    /// Whether a key is denied by its hash, of which only the digest under which it is stored is known.
    #[must_use]
    pub fn is_digest_denied(&self, digest: &StoredDigest, peppers: &Peppers) -> bool {
        let is_it = |hash: &KeyHash| peppers.candidates(hash).any(|stored| stored.digest == *digest);
        self.is_nonempty.load(Ordering::Acquire) && self.list.load().hashes.iter().any(is_it)
    }

    /// The verdict on a key of a tenant that is denied; `None` if neither is.
    #[must_use]
    pub fn verdict(&self, key: &KeyId, tenant: &TenantId) -> Option<Verdict> {
        if !self.is_nonempty.load(Ordering::Acquire) {
            return None;
        }
        let list = self.list.load();
        if list.keys.contains(key) {
            Some(Verdict::Revoked)
        } else {
            list.tenants.contains(tenant).then_some(Verdict::TenantSuspended)
        }
    }
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use super::*;

    fn list(text: &str) -> DenyList {
        DenyList::parse(text).unwrap()
    }

    #[test]
    fn deny_list_is_parsed_with_comments() {
        let (key, hash) = (KeyId::generate(), "ab".repeat(32));
        let text = format!("# incident 7\n\n{key}  # stolen\n tenant:acme\nsha256:{hash}\n{key}\n");
        assert_eq!(list(&text).counts(), DenyCounts { keys: 1, tenants: 1, hashes: 1 });
        assert_eq!(list("").counts(), DenyCounts::default());
    }

    #[test]
    fn invalid_line_is_numbered_and_not_shown() {
        for bad in
            ["acme", "tenant:", "tenant:a b", "sha256:ab", "ta_secretsecretsecret", "key_", "SHA256:00"]
        {
            let refused = DenyList::parse(&format!("tenant:acme\n{bad}")).unwrap_err();
            assert_eq!(refused, InvalidDenyLine(2), "{bad}");
            assert!(!refused.to_string().contains("secret"));
        }
    }

    #[test]
    fn replaced_deny_list_applies_at_once() {
        let (key, tenant) = (KeyId::generate(), TenantId::parse("acme").unwrap());
        let hash = KeyHash::from_bytes([0xab; 32]);
        let denied = ActiveDenyList::default();
        assert_eq!((denied.verdict(&key, &tenant), denied.is_hash_denied(&hash)), (None, false));
        let whole = format!("{key}\ntenant:acme\nsha256:{}", "ab".repeat(32));
        assert_eq!(denied.replace(list(&whole)), (3, 0));
        assert_eq!(denied.verdict(&key, &TenantId::parse("other").unwrap()), Some(Verdict::Revoked));
        assert_eq!(denied.verdict(&KeyId::generate(), &tenant), Some(Verdict::TenantSuspended));
        assert!(denied.is_hash_denied(&hash) && !denied.is_hash_denied(&KeyHash::from_bytes([1; 32])));
        assert_eq!(denied.replace(list("tenant:other")), (1, 3));
        assert_eq!(denied.replace(list("")), (0, 1));
        assert_eq!((denied.verdict(&key, &tenant), denied.is_hash_denied(&hash)), (None, false));
    }
}
