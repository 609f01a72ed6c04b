//! Refuses requests that are not readable gRPC calls, with the reason.
//!
//! The libraries inside treat most of these as their own faults: they respond INTERNAL, or end a stream
//! without an error. So this layer checks the request body as it arrives. If the body is malformed, that
//! error decides the status of the call, whatever the libraries return.

use std::{
    error::Error,
    pin::Pin,
    sync::{Arc, OnceLock},
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::future::{Either, Ready, ready};
use http::{
    HeaderMap, HeaderValue, Method, Request, Response, StatusCode,
    header::{ALLOW, CONTENT_TYPE},
};
use http_body::{Body, Frame};
use pin_project_lite::pin_project;
use tonic::{Code, Status};
use tower::{Layer, Service};

use crate::grpc::{
    ApiError, MalformedRequest,
    context::RpcRecord,
    framing::{Framing, FramingRules},
};

type AnyError = Box<dyn Error + Send + Sync>;

/// Refuses requests that are not gRPC calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct RejectMalformedLayer;

impl<S> Layer<S> for RejectMalformedLayer {
    type Service = RejectMalformed<S>;

    fn layer(&self, inner: S) -> Self::Service {
        RejectMalformed { inner }
    }
}

/// The service of [`RejectMalformedLayer`].
#[derive(Clone, Debug)]
pub struct RejectMalformed<S> {
    inner: S,
}

impl<S, In> Service<Request<In>> for RejectMalformed<S>
where
    S: Service<Request<CheckedRequestBody<In>>, Response = Response<tonic::body::Body>>,
    In: Body<Data = Bytes>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<Ready<Result<S::Response, S::Error>>, CheckedFuture<S::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<In>) -> Self::Future {
        if let Err(error) = check_head(&request) {
            return Either::Left(ready(Ok(refusal_response(error))));
        }
        let record = request.extensions().get::<RpcRecord>().cloned();
        let body_end = Arc::new(BodyEnd { record, result: OnceLock::new(), refusal: OnceLock::new() });
        let framing = Framing::new(FramingRules::for_path(request.uri().path()));
        let request = request.map(|body| CheckedRequestBody { body, framing, end: Arc::clone(&body_end) });
        Either::Right(CheckedFuture { answer: self.inner.call(request), end: body_end })
    }
}

/// Checks the headers of a request.
fn check_head<B>(request: &Request<B>) -> Result<(), MalformedRequest> {
    if request.method() != Method::POST {
        return Err(MalformedRequest::Method(MalformedRequest::escaped_excerpt(
            request.method().as_str().as_bytes(),
        )));
    }
    match request.headers().get(CONTENT_TYPE) {
        Some(kind) if is_grpc_content_type(kind.as_bytes()) => {}
        Some(kind) => {
            return Err(MalformedRequest::ContentType(format!(
                "it is {}",
                MalformedRequest::escaped_excerpt(kind.as_bytes())
            )));
        }
        None => return Err(MalformedRequest::ContentType("it is missing".to_owned())),
    }
    match request.headers().get("grpc-encoding") {
        Some(encoding) if encoding != "identity" => {
            Err(MalformedRequest::Encoding(MalformedRequest::escaped_excerpt(encoding.as_bytes())))
        }
        _ => Ok(()),
    }
}

/// Accepts `application/grpc` and `application/grpc+proto`, with or without parameters; neither gRPC-Web nor
/// JSON.
fn is_grpc_content_type(kind: &[u8]) -> bool {
    let kind = kind.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
    kind.eq_ignore_ascii_case(b"application/grpc") || kind.eq_ignore_ascii_case(b"application/grpc+proto")
}

/// Creates the response to a malformed request. A client of another protocol gets an HTTP status and a text.
fn refusal_response(error: MalformedRequest) -> Response<tonic::body::Body> {
    let http = match error {
        MalformedRequest::Method(_) => Some(StatusCode::METHOD_NOT_ALLOWED),
        MalformedRequest::ContentType(_) => Some(StatusCode::UNSUPPORTED_MEDIA_TYPE),
        _ => None,
    };
    let text = format!("{error}\n");
    let mut response = Status::from(ApiError::from(error)).into_http();
    if let Some(http) = http {
        *response.status_mut() = http;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        if http == StatusCode::METHOD_NOT_ALLOWED {
            headers.insert(ALLOW, HeaderValue::from_static("POST"));
        }
        *response.body_mut() = tonic::body::Body::new(text);
    }
    response
}

/// The end of a request body, set once.
#[derive(Debug)]
struct BodyEnd {
    record: Option<RpcRecord>,
    result: OnceLock<Result<(), MalformedRequest>>,
    /// The status of an outer layer that refused a part of the body.
    refusal: OnceLock<Status>,
}

impl BodyEnd {
    fn fail(&self, error: MalformedRequest) -> AnyError {
        if let (MalformedRequest::TooLarge { .. }, Some(record)) = (&error, &self.record) {
            record.mark_message_too_large();
        }
        let _ = self.result.set(Err(error.clone()));
        Status::from(ApiError::from(error)).into()
    }

    /// Handles an error of the body: a refusal by another layer, or the caller disconnected.
    fn interrupt(&self, error: AnyError) -> AnyError {
        match error.downcast::<Status>() {
            Ok(status) if status.code() == Code::ResourceExhausted => {
                let _ = self.refusal.set((*status).clone());
                let _ = self.result.set(Err(MalformedRequest::Interrupted));
                status
            }
            _ => self.fail(MalformedRequest::Interrupted),
        }
    }

    fn error_status(&self) -> Option<Status> {
        if let Some(refused) = self.refusal.get() {
            return Some(refused.clone());
        }
        let error = self.result.get()?.as_ref().err()?;
        Some(Status::from(ApiError::from(error.clone())))
    }
}

pin_project! {
    /// A request body that is checked as it arrives.
    pub struct CheckedRequestBody<B> {
        #[pin]
        body: B,
        framing: Framing,
        end: Arc<BodyEnd>,
    }
}

impl<B> Body for CheckedRequestBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<AnyError>,
{
    type Data = Bytes;
    type Error = AnyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, AnyError>>> {
        let this = self.project();
        if this.end.result.get().is_some() {
            return Poll::Ready(None);
        }
        let checked = match ready!(this.body.poll_frame(cx)) {
            Some(Ok(frame)) => {
                let checked = frame.data_ref().map_or(Ok(()), |data| this.framing.feed(data));
                if let Some(record) = &this.end.record {
                    record.add_received_messages(this.framing.take_complete());
                }
                checked.map(|()| Some(frame))
            }
            Some(Err(error)) => return Poll::Ready(Some(Err(this.end.interrupt(error.into())))),
            None => this.framing.finish().map(|()| None),
        };
        Poll::Ready(match checked {
            Ok(Some(frame)) => Some(Ok(frame)),
            Ok(None) => {
                let _ = this.end.result.set(Ok(()));
                None
            }
            Err(error) => Some(Err(this.end.fail(error))),
        })
    }

    // `is_end_stream` keeps its default, false: an empty body must be read to be refused.
}

pin_project! {
    /// The future of [`RejectMalformed`].
    pub struct CheckedFuture<F> {
        #[pin]
        answer: F,
        end: Arc<BodyEnd>,
    }
}

impl<F, E> Future for CheckedFuture<F>
where
    F: Future<Output = Result<Response<tonic::body::Body>, E>>,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.answer.poll(cx))?;
        if let Some(status) = this.end.error_status().or_else(|| undecodable_status(response.headers())) {
            return Poll::Ready(Ok(status.into_http()));
        }
        // The body has ended, so there are no more errors; or the call has already failed.
        if this.end.result.get().is_some() || response.headers().contains_key(Status::GRPC_STATUS) {
            return Poll::Ready(Ok(response));
        }
        let body_end = Arc::clone(this.end);
        Poll::Ready(Ok(
            response.map(|body| tonic::body::Body::new(CheckedResponseBody { body, end: body_end }))
        ))
    }
}

/// Returns the status of an undecodable message, if a library responded INTERNAL to it. INTERNAL of this
/// service has details, and library errors about messages begin with the prefix of prost's errors.
fn undecodable_status(answer: &HeaderMap) -> Option<Status> {
    if Code::from_bytes(answer.get(Status::GRPC_STATUS)?.as_bytes()) != Code::Internal
        || answer.contains_key(Status::GRPC_STATUS_DETAILS)
    {
        return None;
    }
    let status = Status::from_header_map(answer)?;
    let why = status.message().strip_prefix("failed to decode Protobuf message: ")?;
    Some(Status::from(ApiError::from(MalformedRequest::UndecodableMessage(why.to_owned()))))
}

pin_project! {
    /// The response of a call whose request body has not ended.
    struct CheckedResponseBody {
        #[pin]
        body: tonic::body::Body,
        end: Arc<BodyEnd>,
    }
}

impl Body for CheckedResponseBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(cx));
        let Some(Ok(trailers)) = frame.as_ref().map(|frame| frame.as_ref().map(Frame::trailers_ref)) else {
            return Poll::Ready(frame);
        };
        let other =
            trailers.and_then(|trailers| this.end.error_status().or_else(|| undecodable_status(trailers)));
        Poll::Ready(match other {
            Some(status) => {
                let mut trailers = HeaderMap::new();
                // Fails only if the status does not fit into a header, which none of ours does.
                Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers)))
            }
            None => frame,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_grpc_protobuf_content_types_are_accepted() {
        for good in ["application/grpc", "application/grpc+proto", "Application/gRPC ; charset=utf-8"] {
            assert!(is_grpc_content_type(good.as_bytes()), "{good}");
        }
        for bad in
            ["", "application/json", "application/grpc-web+proto", "application/grpc+json", "text/plain"]
        {
            assert!(!is_grpc_content_type(bad.as_bytes()), "{bad}");
        }
    }

    #[test]
    fn excerpt_is_short_and_escaped() {
        let excerpt =
            MalformedRequest::escaped_excerpt(format!("\u{1b}[31m\u{202e}{}", "x".repeat(15_000)).as_bytes());
        assert!(excerpt.starts_with("\\u{1b}[31m\\u{202e}xx") && excerpt.len() < 100, "{excerpt}");
    }
}
