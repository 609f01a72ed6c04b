//! Fuzz tests: this parser and prost agree on every request that this parser accepts.

use prost::Message as _;
use tenant_auth_proto::v1;
use tenant_auth_testkit::fuzz::Language;

use super::{tests::agrees_with_prost, *};
use crate::{
    domain::key::KeyHash,
    grpc::convert::{MAX_BATCH_KEYS, parse_key_query_batch},
};

/// Seeds: a key with scopes, a batch of two keys, and fields that no version has.
const LANGUAGE: Language = Language {
    seeds: &[
        b"\x0a\x0bta_some_key\x12\x0borders:read\x12\x0corders:write",
        b"\x0a\x08somekey1",
        b"\x0a\x18\x0a\x09ta_a_key1\x12\x0borders:read\x0a\x04\x0a\x02k2",
        b"\x0a\x02k1\x1a\x01x\x20\x07",
        b"\x0a\x02k1\x22\x09192.0.2.1",
        b"\x0a\x02k1\x22\x15[2001:db8::7%eth0]:443",
        b"",
    ],
    words: &[
        b"\x0a",
        b"\x12",
        b"\x0a\x00",
        b"\x12\x01a",
        b"\x0a\x80\x01",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x08",
        b"\x0b",
        b"\x0d",
        b"\x80",
        b"\xc3\x28",
        b"\x8a\x00\x02k3",
        b"\x22\x00",
        b"::ffff:192.0.2.1",
    ],
};

#[test]
fn fuzzed_query_equals_that_of_prost() {
    LANGUAGE.check(|message| assert!(agrees_with_prost(message), "{message:02x?}"));
}

#[test]
fn fuzzed_batch_equals_that_of_prost() {
    LANGUAGE.check(|message| {
        let Some(views) = parse_batch(message).collect::<Option<Vec<_>>>() else { return };
        // The caller of `parse_batch` checks the number of entries.
        if !(1..=MAX_BATCH_KEYS).contains(&views.len()) {
            return;
        }
        let request = v1::BatchValidateKeysRequest::decode(message).unwrap();
        let Ok(queries) = parse_key_query_batch(request) else { panic!("{message:02x?}") };
        let (queries, _) = queries.into_parts();
        assert_eq!(views.len(), queries.len());
        for (view, query) in views.iter().zip(&queries) {
            assert_eq!(KeyHash::of(view.key), KeyHash::of(&query.key));
            assert_eq!(view.required_scopes, query.required_scopes);
            assert_eq!(view.client_address, query.client_address);
        }
    });
}
