//! Limits a panic to the RPC that caused it.
//!
//! No code on the path of a request is meant to panic. If a defect causes a panic, only its caller gets
//! INTERNAL; the replica keeps its cache and its other requests.

use std::any::Any;

use http::Response;
use tonic::{Status, body::Body};
use tower_http::catch_panic::{CatchPanicLayer, ResponseForPanic};

use crate::grpc::ApiError;

/// Creates the response of a handler that panicked.
#[derive(Clone, Copy, Debug)]
pub struct PanicResponder;

impl ResponseForPanic for PanicResponder {
    type ResponseBody = Body;

    fn response_for_panic(&mut self, panic: Box<dyn Any + Send>) -> Response<Body> {
        // The panic message is not logged: it may quote request data. The panic hook has logged the location.
        let kind = if panic.is::<&str>() || panic.is::<String>() { "message" } else { "value" };
        tracing::error!(panic_with = kind, "request handler panicked, answered INTERNAL");
        Status::from(ApiError::Panicked).into_http()
    }
}

/// Catches panics of all inner layers and of the handler.
#[must_use]
pub fn layer() -> CatchPanicLayer<PanicResponder> {
    CatchPanicLayer::custom(PanicResponder)
}
