//! The person that sends a request.

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    response::{IntoResponse, Redirect, Response},
};
use http::{HeaderMap, Method, header::COOKIE, request::Parts};
use url::form_urlencoded;

use super::{Console, logins::Login, rpc::PersonalRpc};
use crate::{
    domain::access::{CONSOLE_ROLES, Caller, Role, Roles},
    middleware::identify::PresentedCredential,
};

/// The name of the login cookie. Browsers accept the prefix only from this host, for all paths, over a secure connection or
/// from the same machine.
pub(super) const COOKIE_NAME: &str = "__Host-tenant-auth";
/// The name of the person where nobody has to log in.
pub(super) const ANYONE: &str = "anyone on this machine";

const CHANGERS: Roles = Roles::of(&[Role::Operator]);

/// The person that sends a request, and what they may do.
#[derive(Clone, Debug)]
pub(super) struct Person {
    /// The name of the caller; `None` if the service has no callers file, so that everyone may do everything.
    pub(super) name: Option<Arc<str>>,
    /// Whether the person may make changes.
    pub(super) may_change: bool,
    /// What each of the person's forms must contain.
    pub(super) form_token: String,
    /// Calls the RPCs as this person.
    pub(super) rpc: PersonalRpc,
}

impl Console {
    /// Returns the person of a request; `None` if they have to log in.
    pub(super) fn person(&self, parts: &Parts) -> Option<Person> {
        let rpc = |credential| PersonalRpc {
            rpc: self.parts.rpc.clone(),
            credential,
            peer: parts.extensions.get().cloned(),
        };
        let callers = self.parts.callers.load();
        let Some(callers) = callers.as_deref() else {
            let form_token = self.shared_form_token.to_string();
            return Some(Person { name: None, may_change: true, form_token, rpc: rpc(None) });
        };
        let Login { token, form_token } = self.logins.find(login_id(&parts.headers)?)?;
        let caller = callers.by_token_hash(token).filter(|caller| may_log_in(caller))?;
        Some(Person {
            name: Some(Arc::clone(&caller.name)),
            may_change: caller.roles.intersects(CHANGERS),
            form_token,
            rpc: rpc(Some(PresentedCredential::Token(token))),
        })
    }

    /// Whether the person of an earlier request may still read. It does not count as a use of their login.
    pub(super) fn is_logged_in(&self, parts: &Parts) -> bool {
        let callers = self.parts.callers.load();
        let Some(callers) = callers.as_deref() else { return true };
        let token = login_id(&parts.headers).and_then(|id| self.logins.peek(id));
        token.and_then(|token| callers.by_token_hash(token)).is_some_and(|caller| may_log_in(caller))
    }
}

/// Whether a caller may log in.
pub(super) fn may_log_in(caller: &Caller) -> bool {
    caller.roles.intersects(CONSOLE_ROLES)
}

/// Returns the id in the login cookie.
pub(super) fn login_id(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|value| value.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, _)| *name == COOKIE_NAME).map(|(_, id)| id)
}

impl FromRequestParts<Arc<Console>> for Person {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, console: &Arc<Console>) -> Result<Self, Response> {
        console.person(parts).ok_or_else(|| {
            // A page is shown after the login; a form would have to be filled in again.
            let target = parts.uri.path_and_query().map_or("/", |target| target.as_str());
            let target = if parts.method == Method::GET { target } else { "/" };
            let query = form_urlencoded::Serializer::new(String::new()).append_pair("to", target).finish();
            Redirect::to(&format!("/login?{query}")).into_response()
        })
    }
}
