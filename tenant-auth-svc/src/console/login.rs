//! The login with a caller's token, and the logout.

use std::sync::Arc;

use axum::{
    Form,
    extract::{Query, State},
    response::{IntoResponse as _, Redirect, Response},
};
use http::{
    HeaderMap, StatusCode,
    header::{CACHE_CONTROL, SET_COOKIE},
};
use maud::{Markup, html};
use serde::Deserialize;
use zeroize::Zeroizing;

use super::{
    Console,
    change::Question,
    html::document,
    logins::MAX_AGE,
    person::{COOKIE_NAME, login_id, may_log_in},
};
use crate::{domain::access::TokenHash, transport::Peer};

/// Where to go after the login.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Target {
    to: Option<String>,
}

/// What a person enters.
#[derive(Deserialize)]
pub(super) struct Credentials {
    token: Zeroizing<String>,
    to: Option<String>,
}

/// Fields of a form that has none of its own.
#[derive(Debug, Deserialize)]
pub(super) struct NoFields {}

pub(super) async fn form(State(console): State<Arc<Console>>, Query(target): Query<Target>) -> Response {
    match console.parts.callers.load().is_some() {
        true => login_page(StatusCode::OK, None, &local_path(target.to)),
        false => Redirect::to("/").into_response(),
    }
}

pub(super) async fn log_in(
    State(console): State<Arc<Console>>,
    peer: Option<axum::Extension<Peer>>,
    headers: HeaderMap,
    Form(credentials): Form<Credentials>,
) -> Response {
    let to = local_path(credentials.to);
    let token = TokenHash::of(credentials.token.trim());
    let callers = console.parts.callers.load();
    let Some(callers) = callers.as_deref() else { return Redirect::to("/").into_response() };
    let caller = callers.by_token_hash(token);
    let address = peer.map(|peer| peer.address.ip().to_string()).unwrap_or_default();
    let refusal = match caller {
        None => "No caller has this token.",
        Some(caller) if !may_log_in(caller) => {
            "This caller may not use the console: it needs the role viewer or operator in the callers file."
        }
        Some(caller) => {
            let Some(id) = console.logins.begin(token) else {
                let message = "The operating system has no randomness: try again.";
                return login_page(StatusCode::SERVICE_UNAVAILABLE, Some(message), &to);
            };
            // Another person at this browser was logged in until now.
            if let Some(former) = login_id(&headers) {
                console.logins.end(former);
            }
            tracing::info!(caller = &*caller.name, address, "console login");
            let cookie = Zeroizing::new(cookie(&id, MAX_AGE.as_secs()));
            return ([(SET_COOKIE, cookie.as_str())], Redirect::to(&to)).into_response();
        }
    };
    tracing::warn!(caller = caller.map(|caller| &*caller.name), address, "console login refused");
    login_page(StatusCode::FORBIDDEN, Some(refusal), &to)
}

pub(super) async fn log_out(
    State(console): State<Arc<Console>>,
    headers: HeaderMap,
    Question { person, .. }: Question<NoFields>,
) -> Response {
    if let Some(id) = login_id(&headers) {
        console.logins.end(id);
    }
    tracing::info!(caller = person.name.as_deref(), "console logout");
    ([(SET_COOKIE, cookie("", 0))], Redirect::to("/login")).into_response()
}

fn cookie(id: &str, max_age: u64) -> String {
    format!("{COOKIE_NAME}={id}; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age={max_age}")
}

/// Returns the path if it is one of this host, or else that of the overview.
fn local_path(to: Option<String>) -> String {
    let is_local = |path: &String| {
        let second = path.as_bytes().get(1);
        path.starts_with('/')
            && !matches!(second, Some(b'/' | b'\\'))
            && path.bytes().all(|byte| byte.is_ascii_graphic())
    };
    to.filter(is_local).unwrap_or_else(|| "/".to_owned())
}

fn login_page(status: StatusCode, refusal: Option<&str>, to: &str) -> Response {
    let content: Markup = html! {
        section.login {
            h1 { "Log in" }
            p { "With the token of a caller that has the role " code { "viewer" } " or " code { "operator" } "." }
            @if let Some(refusal) = refusal { p.failed role="alert" #refusal { (refusal) } }
            form method="post" action="/login" {
                input type="hidden" name="to" value=(to);
                label for="token" { "Token" }
                input #token type="password" name="token" autocomplete="current-password" spellcheck="false"
                    required autofocus aria-describedby=[refusal.map(|_| "refusal")];
                button.primary { "Log in" }
            }
        }
    };
    (status, [(CACHE_CONTROL, "no-store")], document("Log in", None, &content)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn login_leads_only_to_own_pages() {
        let path = |to: &str| local_path(Some(to.to_owned()));
        assert_eq!(path("/tenants?after=x"), "/tenants?after=x");
        for elsewhere in ["", "//evil.example", "/\\evil.example", "https://evil.example", "/a\r\nb", "a"] {
            assert_eq!(path(elsewhere), "/", "{elsewhere:?}");
        }
        assert_eq!(local_path(None), "/");
    }
}
