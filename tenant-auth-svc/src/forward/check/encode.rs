//! Writes a `CheckResponse` from the bytes of the record, without a copy of it.

use bytes::Bytes;

use super::UndecidedAs;
use crate::{
    domain::{key::KeyRecord, key_headers::KeyHeaders, verdict::Source},
    forward::{
        door::{Admission, DoorRequest},
        identity::IdentityHeaders,
        refusal::{PROBLEM_CONTENT_TYPE, Refusal},
    },
    grpc::convert::wire::{encode_frame, put_bytes, put_field_header, put_message, put_number, put_text},
};

// Field numbers of CheckResponse.
const STATUS: u8 = 1;
const DENIED_RESPONSE: u8 = 2;
const OK_RESPONSE: u8 = 3;
const DYNAMIC_METADATA: u8 = 4;
const ERROR_RESPONSE: u8 = 5;
// Of OkHttpResponse and DeniedHttpResponse.
const HTTP_STATUS: u8 = 1;
const HEADERS: u8 = 2;
const BODY: u8 = 3;
const HEADERS_TO_REMOVE: u8 = 5;
// Of HeaderValueOption and HeaderValue.
const HEADER: u8 = 1;
const APPEND_ACTION: u8 = 3;
const KEEP_EMPTY_VALUE: u8 = 4;
const HEADER_KEY: u8 = 1;
const HEADER_VALUE: u8 = 2;
const OVERWRITE_IF_EXISTS_OR_ADD: i64 = 2;
// Of Struct, its entries, Value and ListValue.
const FIELDS: u8 = 1;
const ENTRY_KEY: u8 = 1;
const ENTRY_VALUE: u8 = 2;
const NUMBER_VALUE: u8 = 2;
const STRING_VALUE: u8 = 3;
const LIST_VALUE: u8 = 6;
const LIST_VALUES: u8 = 1;
/// `code` of the statuses of gRPC and of HTTP.
const CODE: u8 = 1;

/// The codes of gRPC in the status. Envoy only distinguishes OK from the others.
const PERMISSION_DENIED: i64 = 7;
const UNAVAILABLE: i64 = 14;
const UNAUTHENTICATED: i64 = 16;

/// Encodes the frame that admits a request: it sets the identity headers and removes the credential.
pub(super) fn admission(key_headers: &KeyHeaders, request: &DoorRequest<'_>, admission: &Admission) -> Bytes {
    encode_frame(|frame, _| {
        // OK, the default.
        put_field_header(STATUS, 0, frame);
        let (decision, principal) = match admission {
            Admission::Key { decision, principal } => (Some(decision), principal.as_deref()),
            Admission::Preflight => (None, None),
        };
        let known = decision.and_then(|decision| Some((decision.key.as_ref()?, decision.provenance.source)));
        let key_id = known.map(|(key, _)| key.key_id.unpack());
        let identity = match (known, &key_id) {
            (Some((key, source)), Some(key_id)) => IdentityHeaders::of(key, key_id, source, principal),
            _ => IdentityHeaders::default(),
        };
        put_message(OK_RESPONSE, frame, |response| {
            for (name, value) in identity.iter() {
                put_header(name, value, response);
            }
            for name in key_headers.carriers(request.carriers) {
                put_bytes(HEADERS_TO_REMOVE, name.as_bytes(), response);
            }
        });
        if let Some((key, source)) = known {
            put_message(DYNAMIC_METADATA, frame, |metadata| {
                put_metadata(key, source, request.route.cost, metadata)
            });
        }
    })
}

/// Encodes the frame that refuses a request.
pub(super) fn refusal(refusal: &Refusal, undecided_as: UndecidedAs) -> Bytes {
    encode_frame(|frame, _| {
        let status = refusal.status();
        let (code, is_undecided) = match status {
            401 => (UNAUTHENTICATED, false),
            503 => (UNAVAILABLE, true),
            _ => (PERMISSION_DENIED, false),
        };
        put_message(STATUS, frame, |message| put_number(CODE, code, message));
        let field = match undecided_as {
            UndecidedAs::ErrorResponse if is_undecided => ERROR_RESPONSE,
            UndecidedAs::ErrorResponse | UndecidedAs::DeniedResponse => DENIED_RESPONSE,
        };
        put_message(field, frame, |response| {
            put_message(HTTP_STATUS, response, |message| put_number(CODE, status.into(), message));
            put_header("content-type", PROBLEM_CONTENT_TYPE, response);
            put_header("cache-control", "no-store", response);
            if let Some(challenge) = refusal.challenge() {
                put_header("www-authenticate", &challenge, response);
            }
            if let Some(seconds) = refusal.retry_after() {
                put_header("retry-after", &seconds.to_string(), response);
            }
            put_text(BODY, &refusal.problem(), response);
        });
        put_message(DYNAMIC_METADATA, frame, |metadata| {
            put_metadata_text("code", refusal.code(), metadata);
            if let Refusal::Denied(decision) = refusal
                && let Some(key) = &decision.key
            {
                put_metadata_text("tenant_id", key.tenant.id.as_str(), metadata);
                put_metadata_text("key_id", key.key_id.unpack().as_str(), metadata);
            }
        });
    })
}

fn put_header(name: &str, value: &str, out: &mut Vec<u8>) {
    put_message(HEADERS, out, |option| {
        put_message(HEADER, option, |header| {
            put_text(HEADER_KEY, name, header);
            put_text(HEADER_VALUE, value, header);
        });
        put_number(APPEND_ACTION, OVERWRITE_IF_EXISTS_OR_ADD, option);
        put_number(KEEP_EMPTY_VALUE, 1, option);
    });
}

fn put_metadata(key: &KeyRecord, source: Source, cost: Option<u32>, out: &mut Vec<u8>) {
    put_metadata_text("tenant_id", key.tenant.id.as_str(), out);
    put_metadata_text("tenant_name", &key.tenant.name, out);
    put_metadata_text("plan", &key.tenant.plan, out);
    put_metadata_text("key_id", key.key_id.unpack().as_str(), out);
    put_metadata_text("source", source.as_str(), out);
    put_entry("scopes", out, |value| {
        put_message(LIST_VALUE, value, |list| {
            for scope in key.scopes.iter() {
                put_message(LIST_VALUES, list, |value| put_bytes(STRING_VALUE, scope.as_bytes(), value));
            }
        });
    });
    if let Some(cost) = cost {
        const SIXTY_FOUR_BIT: u8 = 1;
        put_entry("cost", out, |value| {
            value.push(NUMBER_VALUE << 3 | SIXTY_FOUR_BIT);
            value.extend_from_slice(&f64::from(cost).to_le_bytes());
        });
    }
}

fn put_metadata_text(name: &str, text: &str, out: &mut Vec<u8>) {
    put_entry(name, out, |value| put_bytes(STRING_VALUE, text.as_bytes(), value));
}

fn put_entry(name: &str, out: &mut Vec<u8>, put: impl FnOnce(&mut Vec<u8>)) {
    put_message(FIELDS, out, |entry| {
        put_text(ENTRY_KEY, name, entry);
        put_message(ENTRY_VALUE, entry, put);
    });
}
