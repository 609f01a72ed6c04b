//! Keeps a panic to the RPC that caused it.
//!
//! Nothing on a request's path is meant to panic. If a defect does, one caller gets INTERNAL, and the replica keeps
//! its memory and everybody else's requests.

use std::any::Any;

use http::Response;
use tonic::{Status, body::Body};
use tower_http::catch_panic::{CatchPanicLayer, ResponseForPanic};

use crate::grpc::ApiError;

/// Answers for a handler that panicked.
#[derive(Clone, Copy, Debug)]
pub struct PanicResponder;

impl ResponseForPanic for PanicResponder {
    type ResponseBody = Body;

    fn response_for_panic(&mut self, panic: Box<dyn Any + Send>) -> Response<Body> {
        // The panic's own text stays out: it may quote what it choked on. The hook has told where it happened.
        let kind = if panic.is::<&str>() || panic.is::<String>() { "message" } else { "value" };
        tracing::error!(panic_with = kind, "a request met a defect and was answered INTERNAL");
        Status::from(ApiError::Panicked).into_http()
    }
}

/// Catches panics of everything inside.
#[must_use]
pub fn layer() -> CatchPanicLayer<PanicResponder> {
    CatchPanicLayer::custom(PanicResponder)
}
