//! Ids of keys in less memory, for records that are kept by the million.

use std::{fmt, sync::Arc};

use arrayvec::ArrayString;

use super::KeyId;

/// The prefix of ids that are generated here.
const PREFIX: &str = "key_";
/// Number of hexadecimal digits after it.
const DIGITS: usize = 32;

/// The id of a key in 24 bytes instead of 72. An id that was generated here is stored as the number that it shows, any
/// other as its text.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct PackedKeyId(Packed);

#[derive(Clone, PartialEq, Eq, Hash)]
enum Packed {
    Generated([u8; DIGITS / 2]),
    Other(Arc<str>),
}

impl PackedKeyId {
    /// Returns the id as it was before it was packed.
    #[must_use]
    pub fn unpack(&self) -> KeyId {
        let mut id = ArrayString::new();
        // The texts are those of an id, and hexadecimal digits are ASCII, so nothing here fails.
        match &self.0 {
            Packed::Generated(number) => {
                let mut digits = [0; DIGITS];
                let _ = hex::encode_to_slice(number, &mut digits);
                let _ = id.try_push_str(PREFIX);
                let _ = id.try_push_str(std::str::from_utf8(&digits).unwrap_or_default());
            }
            Packed::Other(text) => drop(id.try_push_str(text)),
        }
        KeyId(id)
    }

    /// Returns the memory that the id owns on the heap, in bytes.
    #[must_use]
    pub fn heap_bytes(&self) -> usize {
        match &self.0 {
            Packed::Generated(_) => 0,
            // The counts of references precede the text.
            Packed::Other(text) => 2 * size_of::<usize>() + text.len(),
        }
    }
}

impl From<&KeyId> for PackedKeyId {
    fn from(id: &KeyId) -> Self {
        let mut number = [0; DIGITS / 2];
        let digits = id.as_str().strip_prefix(PREFIX).unwrap_or_default();
        // Upper-case digits are another text.
        let is_number = !digits.bytes().any(|byte| byte.is_ascii_uppercase())
            && hex::decode_to_slice(digits, &mut number).is_ok();
        Self(if is_number { Packed::Generated(number) } else { Packed::Other(id.as_str().into()) })
    }
}

impl From<KeyId> for PackedKeyId {
    fn from(id: KeyId) -> Self {
        Self::from(&id)
    }
}

impl fmt::Display for PackedKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.unpack().fmt(f)
    }
}

impl fmt::Debug for PackedKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.unpack().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packed_id_is_the_same_id_in_24_bytes() {
        assert_eq!(size_of::<PackedKeyId>(), 24);
        let long = "x".repeat(super::super::MAX_ID_LEN);
        let ids = [
            KeyId::generate().as_str().to_owned(),
            format!("key_{}", "0".repeat(32)),
            format!("key_{}", "F".repeat(32)),
            format!("key_{}", "f".repeat(31)),
            format!("key_{}", "f".repeat(33)),
            format!("Key_{}", "f".repeat(32)),
            "key_".to_owned(),
            "imported-1".to_owned(),
            long,
        ];
        for text in &ids {
            let id = KeyId::parse(text).unwrap();
            assert_eq!(PackedKeyId::from(&id).unpack(), id);
        }
        let packed: std::collections::HashSet<_> =
            ids.iter().map(|text| PackedKeyId::from(KeyId::parse(text).unwrap())).collect();
        assert_eq!(packed.len(), ids.len(), "different ids stay different");
        let heap = |text: &str| PackedKeyId::from(KeyId::parse(text).unwrap()).heap_bytes();
        assert_eq!((heap(&ids[0]), heap("imported-1")), (0, 26));
    }
}
