//! A page of parts that are read at the same time: a part that cannot be read leaves the others as they are.

use axum::response::{IntoResponse as _, Response};
use http::StatusCode;
use maud::{Markup, html};
use prost::Message as _;
use tonic::{Code, Status};

use super::{
    failure::Failure,
    html::{Place, page},
    person::Person,
};

/// What an RPC returned.
pub(super) type Answer<T> = Result<T, Failure>;

/// Returns the message of a response.
pub(super) fn answer<T>(outcome: Result<tonic::Response<T>, Status>) -> Answer<T> {
    Ok(outcome.map_err(Failure::from)?.into_inner())
}

/// The failure of a part of a response.
pub(super) fn failure(error: &tonic_types::Status) -> Failure {
    let details = error.encode_to_vec();
    Status::with_details(Code::from(error.code), error.message.clone(), details.into()).into()
}

/// A part of a page, with its heading.
pub(super) struct Part {
    id: &'static str,
    title: &'static str,
    content: Answer<Markup>,
}

impl Part {
    /// A part that shows what an RPC returned.
    pub(super) fn new<T>(
        id: &'static str,
        title: &'static str,
        read: Answer<T>,
        show: impl FnOnce(T) -> Markup,
    ) -> Self {
        Self { id, title, content: read.map(show) }
    }
}

/// The parts, one below the other. If `subject_failed`, the page has a note already: parts that failed as well are only named.
pub(super) fn show_all(parts: Vec<Part>, subject_failed: bool) -> Markup {
    let is_quiet = |part: &&Part| subject_failed && part.content.is_err();
    let missing: Vec<_> = parts.iter().filter(is_quiet).map(|part| part.title).collect();
    html! {
        @for Part { id, title, content } in &parts {
            @match content {
                Ok(content) => section #(id) { h2 { (title) } (content) },
                Err(failure) if !subject_failed => section #(id) { h2 { (title) } (failure.note()) },
                Err(_) => {},
            }
        }
        @if !missing.is_empty() { p.empty { "Not known now either: " (missing.join(", ")) "." } }
    }
}

/// A page about a subject that could not be read.
pub(super) fn failed(
    person: &Person,
    place: Place,
    title: &str,
    failure: &Failure,
    rest: &Markup,
) -> Response {
    let content = html! { h1 { (title) } (failure.note()) (rest) };
    (failure.status(), page(person, place, title, &content)).into_response()
}

/// A page of tenants and keys.
pub(super) fn found(person: &Person, status: StatusCode, title: &str, content: &Markup) -> Response {
    (status, page(person, Place::Tenants, title, content)).into_response()
}
