//! Parses requests of `Consume` in place.

use prost::encoding::{WireType, decode_key, decode_varint};

use super::request_view::{RequestView, decode_fields};
use crate::domain::{
    limit::{Cost, Costs},
    usage::UsageMetric,
};

// The fields of ConsumeRequest. A request with a consume_id waits for a commit.
const CREDENTIAL_FIELD: u32 = 1;
const COSTS_FIELD: u32 = 2;
/// `key` of LimitCredential.
const KEY_FIELD: u32 = 1;
// The fields of Cost.
const METRIC_FIELD: u32 = 1;
const AMOUNT_FIELD: u32 = 2;

/// One `ConsumeRequest` about a key.
#[derive(Debug)]
pub(super) struct ConsumeView<'a> {
    pub(super) query: RequestView<'a>,
    pub(super) costs: Costs,
}

impl<'a> ConsumeView<'a> {
    /// Parses a `ConsumeRequest`. `None` if a field is invalid or unknown to this parser.
    pub(super) fn parse(message: &'a [u8]) -> Option<Self> {
        let (mut query, mut costs) = (None, Costs::new());
        for field in decode_fields(message) {
            match field? {
                (CREDENTIAL_FIELD, credential) if query.is_none() => query = Some(parse_key(credential)?),
                (COSTS_FIELD, cost) => {
                    let cost = parse_cost(cost)?;
                    if costs.iter().any(|known: &Cost| known.metric == cost.metric) {
                        return None;
                    }
                    costs.try_push(cost).ok()?;
                }
                _ => return None,
            }
        }
        (!costs.is_empty()).then_some(Self { query: query?, costs })
    }
}

fn parse_key(credential: &[u8]) -> Option<RequestView<'_>> {
    let mut fields = decode_fields(credential);
    match (fields.next()??, fields.next()) {
        ((KEY_FIELD, key), None) => RequestView::parse(key),
        _ => None,
    }
}

fn parse_cost(mut message: &[u8]) -> Option<Cost> {
    let (mut metric, mut amount) = (None, 0);
    while !message.is_empty() {
        match decode_key(&mut message).ok()? {
            (METRIC_FIELD, WireType::LengthDelimited) => {
                let len = usize::try_from(decode_varint(&mut message).ok()?).ok()?;
                let (text, rest) = message.split_at_checked(len)?;
                metric = Some(UsageMetric::parse(std::str::from_utf8(text).ok()?).ok()?);
                message = rest;
            }
            (AMOUNT_FIELD, WireType::Varint) => amount = decode_varint(&mut message).ok()?,
            _ => return None,
        }
    }
    (1..=Cost::MAX.get()).contains(&amount).then_some(Cost { metric: metric?, amount })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use prost::Message as _;
    use tenant_auth_proto::v1;

    use super::*;
    use crate::{
        domain::{key::KeyHash, limit::consume::Credential},
        grpc::convert::parse_consume_for_tests,
    };

    fn agrees_with_prost(message: &[u8]) -> bool {
        let Some(view) = ConsumeView::parse(message) else { return true };
        let parsed = v1::ConsumeRequest::decode(message).ok().and_then(parse_consume_for_tests);
        parsed.is_some_and(|parsed| {
            let Credential::Key(query) = &parsed.credential else { return false };
            KeyHash::of(view.query.key) == KeyHash::of(&query.key)
                && view.query.required_scopes == query.required_scopes
                && view.costs == parsed.costs
                && parsed.id.is_none()
        })
    }

    proptest! {
        #[test]
        fn parsed_request_equals_that_of_prost(
            key in "\\PC{0,40}",
            metrics in proptest::collection::vec("[a-c.]{1,3}", 0..5),
            amount in -1..3_i64,
            consume_id in "|[a-z]{1,4}",
        ) {
            let key = v1::ValidateKeyRequest { key, ..Default::default() };
            let request = v1::ConsumeRequest {
                credential: Some(v1::LimitCredential { credential: Some(v1::limit_credential::Credential::Key(key)) }),
                costs: metrics.into_iter().map(|metric| v1::Cost { metric, amount }).collect(),
                consume_id,
            };
            let message = request.encode_to_vec();
            prop_assert!(agrees_with_prost(&message));
            let is_plain = request.consume_id.is_empty() && parse_consume_for_tests(request).is_some();
            prop_assert_eq!(ConsumeView::parse(&message).is_some(), is_plain);
        }

        #[test]
        fn arbitrary_bytes_parse_only_if_prost_parses_them(
            message in proptest::collection::vec(prop_oneof![Just(10_u8), Just(18), Just(16), 0..8_u8, any::<u8>()], 0..32),
        ) {
            prop_assert!(agrees_with_prost(&message));
        }
    }
}
