//! Responses instead of the service's.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use bytes::{BufMut as _, Bytes, BytesMut};
use futures::stream;
use http::{HeaderMap, HeaderValue, Response};
use http_body_util::{BodyExt as _, Empty, StreamBody, combinators::BoxBody};
use hyper::body::Frame;
use prost::Message as _;
use tenant_auth_proto::v1::ValidateKeyResponse;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

use super::{infallible_error, lock};
use crate::case::{Disturbance, FakeAnswer};

pub(super) type Body = BoxBody<Bytes, hyper::Error>;

/// The response to a call instead of the service's.
pub(super) enum Replacement {
    Silence,
    Response(Response<Body>),
}

/// The active disturbances, by method.
#[derive(Debug, Default)]
pub(super) struct Disturbances(Mutex<BTreeMap<String, Disturbance>>);

impl Disturbances {
    /// Sets a disturbance, which replaces the previous one of the method.
    pub(super) fn add(&self, disturbance: Disturbance) {
        lock(&self.0).insert(disturbance.method.clone(), disturbance);
    }

    /// Returns the response to a call of the method.
    pub(super) fn replacement_for(&self, method: &str) -> Option<Replacement> {
        let mut all = lock(&self.0);
        let disturbance = all.get_mut(method)?;
        if let Some(left) = &mut disturbance.times {
            *left = left.checked_sub(1)?;
        }
        Some(match &disturbance.with {
            FakeAnswer::Silence => Replacement::Silence,
            FakeAnswer::Status { code, retry_after_ms } => {
                let mut details = ErrorDetails::new();
                if let Some(millis) = retry_after_ms {
                    details.set_retry_info(Some(Duration::from_millis(*millis)));
                }
                let status = Status::with_error_details(Code::from_i32(*code), "disturbed", details);
                let (parts, ()) = status.into_http::<()>().into_parts();
                Replacement::Response(Response::from_parts(
                    parts,
                    Empty::new().map_err(infallible_error).boxed(),
                ))
            }
            FakeAnswer::Verdict(verdict) => Replacement::Response(verdict_response(*verdict)),
        })
    }
}

/// Returns a complete response in gRPC framing.
fn verdict_response(verdict: i32) -> Response<Body> {
    let message = ValidateKeyResponse { verdict, ..Default::default() }.encode_to_vec();
    let mut framed = BytesMut::new();
    // Not compressed.
    framed.put_u8(0);
    framed.put_u32(u32::try_from(message.len()).unwrap_or_default());
    framed.extend_from_slice(&message);
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from_static("0"));
    let frames = [Ok(Frame::data(framed.freeze())), Ok(Frame::trailers(trailers))];
    let mut response = Response::new(StreamBody::new(stream::iter(frames)).boxed());
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}
