//! Parses requests in place: key and scopes borrow from the bytes of the request.

use arrayvec::ArrayVec;
use prost::encoding::{WireType, decode_key, decode_varint};

use crate::domain::{key::BorrowedKey, network::ClientAddress, scope::ScopeSet};

// The fields of ValidateKeyRequest.
const KEY_FIELD: u32 = 1;
const REQUIRED_SCOPES_FIELD: u32 = 2;
const CLIENT_ADDRESS_FIELD: u32 = 4;
/// `requests` of BatchValidateKeysRequest.
const REQUESTS_FIELD: u32 = 1;

/// One `ValidateKeyRequest`.
#[derive(Debug)]
pub(super) struct RequestView<'a> {
    pub(super) key: BorrowedKey<'a>,
    pub(super) required_scopes: ScopeSet,
    pub(super) client_address: Option<ClientAddress>,
}

impl<'a> RequestView<'a> {
    /// Parses a `ValidateKeyRequest`. `None` if a field is invalid or unknown to this parser.
    pub(super) fn parse(message: &'a [u8]) -> Option<Self> {
        let (mut key, mut address) = ("", "");
        let mut scopes = ArrayVec::<_, { ScopeSet::MAX_SCOPES }>::new();
        for field in decode_fields(message) {
            let (field, bytes) = field?;
            let text = std::str::from_utf8(bytes).ok()?;
            match field {
                KEY_FIELD => key = text,
                REQUIRED_SCOPES_FIELD => scopes.try_push(text).ok()?,
                CLIENT_ADDRESS_FIELD => address = text,
                _ => return None,
            }
        }
        let required_scopes = ScopeSet::parse(&mut scopes).ok()?;
        let client_address = match address {
            "" => None,
            text => Some(ClientAddress::parse(text).ok()?),
        };
        (!key.is_empty()).then_some(Self { key: BorrowedKey::new(key), required_scopes, client_address })
    }
}

/// Parses a `BatchValidateKeysRequest`.
pub(super) fn parse_batch(message: &[u8]) -> impl Iterator<Item = Option<RequestView<'_>>> {
    decode_fields(message).map(|field| {
        let (field, bytes) = field?;
        if field == REQUESTS_FIELD { RequestView::parse(bytes) } else { None }
    })
}

/// Iterates over the fields of a message that holds only strings and messages. `None` at the first error, and
/// from there on for ever.
pub(super) fn decode_fields(mut rest: &[u8]) -> impl Iterator<Item = Option<(u32, &[u8])>> {
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
    use crate::{domain::key::KeyHash, grpc::convert::parse_key_query};

    pub(super) fn agrees_with_prost(message: &[u8]) -> bool {
        let view = RequestView::parse(message);
        let query =
            v1::ValidateKeyRequest::decode(message).ok().and_then(|request| parse_key_query(request).ok());
        match (view, query) {
            (Some(view), Some(query)) => {
                KeyHash::of(view.key) == KeyHash::of(&query.key)
                    && view.required_scopes == query.required_scopes
                    && view.client_address == query.client_address
            }
            // The middleware stack handles what this parser rejects.
            (None, _) => true,
            (Some(_), None) => false,
        }
    }

    proptest! {
        #[test]
        fn parsed_query_equals_that_of_prost(
            key in "\\PC{0,40}",
            required_scopes in proptest::collection::vec("[a-z:]{1,20}", 0..40),
            client_address in "|192\\.0\\.2\\.[0-9]{1,3}|\\[2001:db8::[0-9a-g]{1,5}\\]:443",
        ) {
            let is_address = client_address.is_empty() || ClientAddress::parse(&client_address).is_ok();
            let message = v1::ValidateKeyRequest {
                key: key.clone(),
                required_scopes: required_scopes.clone(),
                client_address,
            }
            .encode_to_vec();
            prop_assert!(agrees_with_prost(&message));
            let is_right = !key.is_empty() && required_scopes.len() <= ScopeSet::MAX_SCOPES && is_address;
            prop_assert_eq!(RequestView::parse(&message).is_some(), is_right);
        }

        #[test]
        fn arbitrary_bytes_parse_only_if_prost_parses_them(
            message in proptest::collection::vec(prop_oneof![Just(10_u8), Just(18), Just(34), 0..8_u8, any::<u8>()], 0..24),
        ) {
            prop_assert!(agrees_with_prost(&message));
            let nested = [&[10, u8::try_from(message.len()).unwrap()][..], &message].concat();
            let batch: Option<Vec<_>> = parse_batch(&nested).collect();
            prop_assert_eq!(batch.is_some(), RequestView::parse(&message).is_some());
        }
    }
}
