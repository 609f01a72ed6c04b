//! Reads the parts of a `CheckRequest` that decide, in place: a message of Envoy has a kilobyte or two, nearly all of it
//! headers that do not matter here.

use std::{borrow::Cow, collections::BTreeMap};

use arrayvec::ArrayVec;
use prost::encoding::{WireType, decode_key, decode_varint};
use tenant_auth_proto::envoy::{
    config::core::v3::{HeaderValue, address::Address},
    service::auth::v3::{CheckRequest, attribute_context::HttpRequest},
};

use crate::{
    domain::{key_headers::KeyHeaders, network::ClientAddress},
    forward::{door::DoorRequest, route::Route},
    grpc::{ApiError, Violation},
};

/// More headers than this are read from the decoded message.
const MAX_HEADERS: usize = 64;
/// The same for settings of the route.
const MAX_SETTINGS: usize = 8;

/// The parts of a message.
#[derive(Default)]
struct Parts<'a> {
    address: &'a [u8],
    method: &'a [u8],
    headers: ArrayVec<(&'a [u8], &'a [u8]), MAX_HEADERS>,
    settings: ArrayVec<(&'a [u8], &'a [u8]), MAX_SETTINGS>,
}

/// Reads a message. `None` if it is invalid or unusual, so that it has to be decoded.
pub(super) fn parse<'a>(key_headers: &KeyHeaders, message: &'a [u8]) -> Option<DoorRequest<'a>> {
    let mut parts = Parts::default();
    each_field(message, |field, attributes| match field {
        1 => each_field(attributes, |field, value| match field {
            // source, its address, and the text of the address
            1 => nested(value, [1, 1, 2], &mut parts.address),
            // request, and its HTTP part
            4 => each_field(
                value,
                |field, http| if field == 2 { read_http(http, &mut parts) } else { Some(()) },
            ),
            10 => parts.settings.try_push(read_entry(value)?).ok(),
            _ => Some(()),
        }),
        _ => Some(()),
    })?;
    let text = |bytes| std::str::from_utf8(bytes).ok();
    let mut settings = ArrayVec::<_, MAX_SETTINGS>::new();
    for (setting, value) in &parts.settings {
        settings.push((Cow::Borrowed(text(setting)?), Cow::Borrowed(text(value)?)));
    }
    let route = Route::parse(settings.into_iter()).ok()?;
    let headers = || parts.headers.iter().copied();
    Some(DoorRequest::new(
        key_headers,
        text(parts.method)?,
        headers,
        route,
        client_address(text(parts.address)?),
    ))
}

/// Reads a decoded message.
///
/// # Errors
/// [`ApiError::Invalid`] if a setting of the route is invalid.
pub(super) fn of_message<'a>(
    key_headers: &KeyHeaders,
    message: &'a CheckRequest,
) -> Result<DoorRequest<'a>, ApiError> {
    let attributes = message.attributes.as_ref();
    // Sorted, so that the same mistake is always reported first.
    let settings: BTreeMap<_, _> =
        attributes.into_iter().flat_map(|attributes| &attributes.context_extensions).collect();
    let settings = settings.into_iter().map(|(setting, value)| (Cow::from(setting), Cow::from(value)));
    let route = Route::parse(settings).map_err(|invalid| {
        let field = format!("attributes.context_extensions[{}]", invalid.setting);
        ApiError::Invalid(vec![Violation { field, description: invalid.problem }])
    })?;
    let http = attributes.and_then(|attributes| attributes.request.as_ref()?.http.as_ref());
    let source =
        attributes.and_then(|attributes| attributes.source.as_ref()?.address.as_ref()?.address.as_ref());
    let address = source.and_then(|Address::SocketAddress(socket)| client_address(&socket.address));
    let method = http.map_or("", |http| &http.method);
    Ok(DoorRequest::new(key_headers, method, || http.into_iter().flat_map(headers), route, address))
}

fn headers(http: &HttpRequest) -> impl Iterator<Item = (&[u8], &[u8])> {
    let merged = http.headers.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    let raw = http.header_map.iter().flat_map(|map| &map.headers);
    merged.chain(raw.map(|HeaderValue { key, value, raw_value }| {
        (key.as_bytes(), if raw_value.is_empty() { value.as_bytes() } else { raw_value })
    }))
}

/// The address is that of a socket, or the path of one, which belongs to no network.
fn client_address(text: &str) -> Option<ClientAddress> {
    ClientAddress::parse(text).ok()
}

fn read_http<'a>(http: &'a [u8], parts: &mut Parts<'a>) -> Option<()> {
    each_field(http, |field, value| match field {
        2 => set_once(&mut parts.method, value),
        3 => parts.headers.try_push(read_entry(value)?).ok(),
        // header_map, and each of its headers
        13 => each_field(value, |field, header| match field {
            1 => {
                let (mut name, mut text, mut raw) = (&[][..], &[][..], &[][..]);
                each_field(header, |field, value| {
                    match field {
                        1 => name = value,
                        2 => text = value,
                        3 => raw = value,
                        _ => {}
                    }
                    Some(())
                })?;
                parts.headers.try_push((name, if raw.is_empty() { text } else { raw })).ok()
            }
            _ => Some(()),
        }),
        _ => Some(()),
    })
}

/// Reads an entry of a map.
fn read_entry(entry: &[u8]) -> Option<(&[u8], &[u8])> {
    let (mut key, mut value) = (&[][..], &[][..]);
    each_field(entry, |field, bytes| {
        match field {
            1 => key = bytes,
            2 => value = bytes,
            _ => {}
        }
        Some(())
    })?;
    Some((key, value))
}

/// Sets a field of a message in a message, by their numbers.
fn nested<'a, const N: usize>(message: &'a [u8], path: [u32; N], target: &mut &'a [u8]) -> Option<()> {
    fn descend<'a>(message: &'a [u8], path: &[u32], target: &mut &'a [u8]) -> Option<()> {
        let Some((first, rest)) = path.split_first() else { return set_once(target, message) };
        each_field(
            message,
            |field, value| if field == *first { descend(value, rest, target) } else { Some(()) },
        )
    }
    descend(message, &path, target)
}

/// A message that occurs twice is merged, which is left to the decoder.
fn set_once<'a>(target: &mut &'a [u8], value: &'a [u8]) -> Option<()> {
    if !target.is_empty() {
        return None;
    }
    *target = value;
    Some(())
}

/// Calls `read` with each length-delimited field, and skips the others. `None` if the message is invalid.
fn each_field<'a>(mut rest: &'a [u8], mut read: impl FnMut(u32, &'a [u8]) -> Option<()>) -> Option<()> {
    while !rest.is_empty() {
        let (field, wire) = decode_key(&mut rest).ok()?;
        match wire {
            WireType::LengthDelimited => {
                let len = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
                let (value, after) = rest.split_at_checked(len)?;
                rest = after;
                read(field, value)?;
            }
            WireType::Varint => drop(decode_varint(&mut rest).ok()?),
            WireType::SixtyFourBit => rest = rest.get(8..)?,
            WireType::ThirtyTwoBit => rest = rest.get(4..)?,
            WireType::StartGroup | WireType::EndGroup => return None,
        }
    }
    Some(())
}
