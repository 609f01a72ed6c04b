//! Questions read where they lie, in the bytes of a request: nothing of them is copied.

use arrayvec::ArrayVec;
use prost::encoding::{WireType, decode_key, decode_varint};

use crate::domain::{key::BorrowedKey, scope::ScopeSet};

// The fields of ValidateKeyRequest.
const KEY: u32 = 1;
const REQUIRED_SCOPES: u32 = 2;
/// `requests` of BatchValidateKeysRequest.
const REQUESTS: u32 = 1;

/// One question.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) key: BorrowedKey<'a>,
    pub(super) required_scopes: ScopeSet,
}

impl<'a> Asked<'a> {
    /// Reads a `ValidateKeyRequest`. `None` if anything in it is wrong, or unknown here.
    pub(super) fn read(message: &'a [u8]) -> Option<Self> {
        let mut key = "";
        let mut scopes = ArrayVec::<_, { ScopeSet::MAX_SCOPES }>::new();
        for field in fields(message) {
            let (field, bytes) = field?;
            let text = std::str::from_utf8(bytes).ok()?;
            match field {
                KEY => key = text,
                REQUIRED_SCOPES => scopes.try_push(text).ok()?,
                _ => return None,
            }
        }
        let required_scopes = ScopeSet::parse(&mut scopes).ok()?;
        (!key.is_empty()).then_some(Self { key: BorrowedKey::new(key), required_scopes })
    }
}

/// Reads a `BatchValidateKeysRequest`.
pub(super) fn batch(message: &[u8]) -> impl Iterator<Item = Option<Asked<'_>>> {
    fields(message).map(|field| {
        let (field, bytes) = field?;
        if field == REQUESTS { Asked::read(bytes) } else { None }
    })
}

/// The fields of a message that holds texts and messages only; `None` where it goes wrong, and for ever from there.
fn fields(mut rest: &[u8]) -> impl Iterator<Item = Option<(u32, &[u8])>> {
    std::iter::from_fn(move || {
        (!rest.is_empty()).then(|| {
            let (field, wire) = decode_key(&mut rest).ok()?;
            let len = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
            let (bytes, after) = rest.split_at_checked(len).filter(|_| wire == WireType::LengthDelimited)?;
            rest = after;
            Some((field, bytes))
        })
    })
}

#[cfg(test)]
mod fuzz;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;
    use tenant_auth_proto::v1;

    use super::*;
    use crate::{domain::key::KeyHash, grpc::convert::question};

    pub(super) fn is_read_alike(message: &[u8]) -> bool {
        let asked = Asked::read(message);
        let read = v1::ValidateKeyRequest::decode(message).ok().and_then(|request| question(request).ok());
        match (asked, read) {
            (Some(asked), Some(read)) => {
                KeyHash::of(asked.key) == KeyHash::of(&read.key)
                    && asked.required_scopes == read.required_scopes
            }
            // What is not read here goes the ordinary way.
            (None, _) => true,
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_what_prost_reads(
            key in "\\PC{0,40}",
            required_scopes in proptest::collection::vec("[a-z:]{1,20}", 0..40),
        ) {
            let message = v1::ValidateKeyRequest { key: key.clone(), required_scopes: required_scopes.clone() }.encode_to_vec();
            prop_assert!(is_read_alike(&message));
            let is_right = !key.is_empty() && required_scopes.len() <= ScopeSet::MAX_SCOPES;
            prop_assert_eq!(Asked::read(&message).is_some(), is_right);
        }

        #[test]
        fn bytes_without_sense_are_no_question_that_prost_would_not_read(
            message in proptest::collection::vec(prop_oneof![Just(10_u8), Just(18), 0..8_u8, any::<u8>()], 0..24),
        ) {
            prop_assert!(is_read_alike(&message));
            let nested = [&[10, u8::try_from(message.len()).unwrap()][..], &message].concat();
            let batch: Option<Vec<_>> = batch(&nested).collect();
            prop_assert_eq!(batch.is_some(), Asked::read(&message).is_some());
        }
    }
}
