use proptest::{collection::vec, option, prelude::*, sample::select};
use tenant_auth_proto::envoy::{
    config::core::v3::{Address, HeaderMap, HeaderValue, SocketAddress, address},
    service::auth::v3::{
        AttributeContext, CheckRequest,
        attribute_context::{HttpRequest, Peer, Request},
    },
};

use super::view;
use crate::{
    domain::{
        key::KeyHash,
        key_headers::{Credential, KeyHeaders},
    },
    forward::door::DoorRequest,
};

/// Everything that decides about a request.
fn content(request: &DoorRequest<'_>) -> impl PartialEq + std::fmt::Debug + use<> {
    let credential = match request.credential {
        Credential::Absent => ("absent", None),
        Credential::Ambiguous => ("ambiguous", None),
        Credential::Malformed => ("malformed", None),
        Credential::Key(key) => ("key", Some(KeyHash::of(key))),
    };
    let route = &request.route;
    let settings = (route.required_scopes.clone(), route.audience.as_deref().map(str::to_owned), route.cost);
    let preflight = (request.is_preflight, route.admits_preflight);
    (credential, request.carriers, settings, preflight, request.client_address)
}

/// Whether the parser in place reads what the decoder reads, or leaves the message to it.
fn agrees_with_prost(message: &[u8]) -> bool {
    let key_headers = KeyHeaders::parse("authorization,x-api-key").unwrap();
    let Some(parsed) = view::parse(&key_headers, message) else { return true };
    // The decoder refuses text that is not UTF-8 in any header; the parser reads only the headers that matter.
    let Ok(decoded) = <CheckRequest as prost::Message>::decode(message) else { return true };
    view::of_message(&key_headers, &decoded).is_ok_and(|request| content(&request) == content(&parsed))
}

fn headers() -> impl Strategy<Value = Vec<(String, String)>> {
    let names =
        select(vec!["authorization", "x-api-key", "origin", "access-control-request-method", "accept"]);
    let values = prop_oneof![
        "Bearer [a-z]{8}",
        "Basic [a-z]{4}",
        "bearer  [a-z]{8},Bearer [a-z]{8}",
        "[a-z]{8}",
        "\\PC{0,20}",
    ];
    // Unique names: a map has no others.
    vec((names, values), 0..6).prop_map(|pairs| {
        let unique: std::collections::BTreeMap<_, _> = pairs.into_iter().collect();
        unique.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    })
}

prop_compose! {
    fn requests()(
        headers in headers(),
        is_raw in any::<bool>(),
        settings in vec((select(vec!["scopes", "audience", "cost", "preflight", "scope"]), "[a-z]{1,5}|3|pass"), 0..3),
        address in option::of(select(vec!["192.0.2.7", "2001:db8::1", "/run/envoy.sock", ""])),
        method in select(vec!["GET", "OPTIONS", ""]),
    ) -> CheckRequest {
        let mut http = HttpRequest { method: method.to_owned(), id: "id".to_owned(), ..HttpRequest::default() };
        if is_raw {
            let header = |(key, value): (String, String)| HeaderValue {
                key,
                raw_value: value.into_bytes(),
                ..HeaderValue::default()
            };
            http.header_map = Some(HeaderMap { headers: headers.into_iter().map(header).collect() });
        } else {
            http.headers = headers.into_iter().collect();
        }
        let socket = |text: &str| SocketAddress {
            address: text.to_owned(),
            port_specifier: Some(tenant_auth_proto::envoy::config::core::v3::socket_address::PortSpecifier::PortValue(443)),
        };
        let source = |text| Peer { address: Some(Address { address: Some(address::Address::SocketAddress(socket(text))) }) };
        CheckRequest {
            attributes: Some(AttributeContext {
                source: address.map(source),
                request: Some(Request { http: Some(http) }),
                context_extensions: settings.into_iter().map(|(s, v)| (s.to_owned(), v)).collect(),
            }),
        }
    }
}

proptest! {
    #[test]
    fn parsed_request_equals_that_of_prost(request in requests()) {
        let message = prost::Message::encode_to_vec(&request);
        prop_assert!(agrees_with_prost(&message));
        // Only an invalid route is left to the decoder.
        let key_headers = KeyHeaders::parse("authorization,x-api-key").unwrap();
        let is_valid = view::of_message(&key_headers, &request).is_ok();
        prop_assert_eq!(view::parse(&key_headers, &message).is_some(), is_valid);
    }

    #[test]
    fn cut_or_changed_bytes_parse_only_as_prost_parses_them(
        request in requests(),
        cut in any::<proptest::sample::Index>(),
        change in option::of((any::<proptest::sample::Index>(), any::<u8>())),
    ) {
        let mut message = prost::Message::encode_to_vec(&request);
        if let Some((place, byte)) = change {
            let place = place.index(message.len());
            message[place] = byte;
        } else {
            message.truncate(cut.index(message.len()));
        }
        // A changed byte may make a map have one name twice, of which only one counts: the parser then is stricter.
        let key_headers = KeyHeaders::parse("authorization,x-api-key").unwrap();
        let is_stricter = view::parse(&key_headers, &message)
            .is_some_and(|parsed| matches!(parsed.credential, Credential::Ambiguous));
        prop_assert!(is_stricter || agrees_with_prost(&message));
    }
}
