//! A change that a person asks for with a form.

use std::sync::Arc;

use axum::{
    body::Bytes,
    extract::{FromRequest, FromRequestParts as _, Request},
    response::{IntoResponse as _, Response},
};
use http::StatusCode;
use serde::de::DeserializeOwned;
use url::form_urlencoded;

use super::{Console, failure::Failure, person::Person};
use crate::domain::access::TokenHash;

/// The name of the field with the form token.
pub(super) const FORM_TOKEN_FIELD: &str = "form_token";

/// The fields of a form, and the person that sent it: one that may make changes, from a page of this console.
#[derive(Debug)]
pub(super) struct Change<T> {
    pub(super) person: Person,
    pub(super) fields: T,
}

/// The same for a form that changes nothing: everyone who has logged in may send it.
#[derive(Debug)]
pub(super) struct Question<T> {
    pub(super) person: Person,
    pub(super) fields: T,
}

impl<T: DeserializeOwned> FromRequest<Arc<Console>> for Question<T> {
    type Rejection = Response;

    async fn from_request(request: Request, console: &Arc<Console>) -> Result<Self, Response> {
        let (mut parts, body) = request.into_parts();
        let person = Person::from_request_parts(&mut parts, console).await?;
        let refuse = |status, message: &str| Failure::new(status, message).page(&person).into_response();
        let body = Bytes::from_request(Request::from_parts(parts, body), console).await;
        let body = body.map_err(|error| refuse(error.status(), "The form is too large."))?;
        let sent = form_urlencoded::parse(&body).find(|(name, _)| name == FORM_TOKEN_FIELD);
        let is_own = sent.is_some_and(|(_, token)| is_equal(&token, &person.form_token));
        if !is_own {
            let message = "The form does not come from a page of this login. Open the page again, and send the form from there.";
            return Err(refuse(StatusCode::FORBIDDEN, message));
        }
        match serde_html_form::from_bytes(&body) {
            Ok(fields) => Ok(Self { person, fields }),
            Err(error) => Err(refuse(StatusCode::BAD_REQUEST, &format!("The form cannot be read: {error}."))),
        }
    }
}

impl<T: DeserializeOwned> FromRequest<Arc<Console>> for Change<T> {
    type Rejection = Response;

    async fn from_request(request: Request, console: &Arc<Console>) -> Result<Self, Response> {
        let Question { person, fields } = Question::from_request(request, console).await?;
        if !person.may_change {
            let message = "You may read everything and change nothing: changes need the role operator.";
            return Err(Failure::new(StatusCode::FORBIDDEN, message).page(&person).into_response());
        }
        Ok(Self { person, fields })
    }
}

/// Compares the hashes, so that the time that it takes reveals nothing about the token.
fn is_equal(sent: &str, expected: &str) -> bool {
    TokenHash::of(sent) == TokenHash::of(expected)
}
