//! What a page says when a call has failed.

use std::fmt;

use axum::response::{IntoResponse, Response};
use http::StatusCode;
use maud::{Markup, html};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use super::{
    html::{Place, page},
    person::Person,
};

/// Why a page, or a part of it, cannot be shown.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    status: StatusCode,
    title: &'static str,
    message: String,
    /// Machine-readable, as in the errors of the RPCs.
    reason: Option<String>,
}

impl Failure {
    /// A failure of the console itself.
    pub(super) fn new(status: StatusCode, message: &str) -> Self {
        Self { status, title: title(status), message: message.to_owned(), reason: None }
    }

    /// The HTTP status of the page.
    pub(super) fn status(&self) -> StatusCode {
        self.status
    }

    /// A note for the place of what is missing.
    pub(super) fn note(&self) -> Markup {
        html! { section.note.failed role="alert" { h2 { (self.title) } (self.explanation()) } }
    }

    fn explanation(&self) -> Markup {
        html! {
            p { (self.message) }
            @if let Some(reason) = &self.reason { p.reason { code { (reason) } } }
        }
    }

    /// A page that has only the note.
    pub(super) fn page(&self, person: &Person) -> Response {
        let content = html! {
            section.note.failed role="alert" { h1 { (self.title) } (self.explanation()) }
        };
        (self.status, page(person, Place::Elsewhere, self.title, &content)).into_response()
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.title, self.message)
    }
}

impl From<Status> for Failure {
    fn from(error: Status) -> Self {
        let status = match error.code() {
            Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
            Code::NotFound => StatusCode::NOT_FOUND,
            Code::AlreadyExists | Code::FailedPrecondition | Code::Aborted => StatusCode::CONFLICT,
            Code::PermissionDenied | Code::Unauthenticated => StatusCode::FORBIDDEN,
            Code::ResourceExhausted => StatusCode::TOO_MANY_REQUESTS,
            Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let fields = error.get_details_bad_request().map(|details| details.field_violations);
        let fields = fields.unwrap_or_default().into_iter();
        let fields: Vec<_> = fields.map(|field| format!("{}: {}", field.field, field.description)).collect();
        let message = if fields.is_empty() { error.message().to_owned() } else { fields.join("; ") };
        let reason = error.get_details_error_info().map(|info| info.reason);
        Self { status, title: title(status), message, reason }
    }
}

fn title(status: StatusCode) -> &'static str {
    match status {
        StatusCode::BAD_REQUEST | StatusCode::PAYLOAD_TOO_LARGE => "That is not valid",
        StatusCode::NOT_FOUND => "There is no such thing",
        StatusCode::CONFLICT => "That is not possible now",
        StatusCode::FORBIDDEN => "Not permitted",
        StatusCode::TOO_MANY_REQUESTS => "Too much at once",
        StatusCode::SERVICE_UNAVAILABLE => "The database does not answer",
        _ => "Something is wrong with this replica",
    }
}
