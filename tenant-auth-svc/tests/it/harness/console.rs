//! Requests to the console, as a browser sends them.

use std::net::SocketAddr;

use tenant_auth_svc::{
    config::Settings,
    domain::{access::Role, clock::SystemClock},
};
use url::form_urlencoded;

use super::{
    TestDatabase, TestService,
    callers::CallersFile,
    http::{HttpAnswer, http_exchange},
};

/// The token of the caller with a role.
pub(crate) fn token_of(role: Role) -> String {
    format!("tac_console-{}", role.as_str())
}

/// Returns the settings of a service with a console.
pub(crate) fn with_console(settings: Settings) -> Settings {
    settings.with_flag("TENANT_AUTH_CONSOLE_LISTEN", Some("127.0.0.1:0".to_owned()))
}

/// Starts a service with a console where nobody has to log in.
pub(crate) async fn start_with_console(database: &TestDatabase) -> TestService {
    TestService::start_with(with_console(database.settings()), SystemClock::shared()).await
}

/// A callers file with a caller named after each of these roles, and a service with a console for them.
pub(crate) async fn start_with_people(database: &TestDatabase, roles: &[Role]) -> (CallersFile, TestService) {
    let file = people(roles);
    let settings = with_console(file.settings(database));
    let service = TestService::start_with(settings, SystemClock::shared()).await;
    (file, service)
}

/// A callers file with a caller named after each of these roles.
pub(crate) fn people(roles: &[Role]) -> CallersFile {
    let tokens: Vec<_> = roles.iter().map(|role| token_of(*role)).collect();
    let tokens: Vec<_> = tokens.iter().map(|token| [&**token]).collect();
    let callers = roles.iter().zip(&tokens).map(|(role, tokens)| (role.as_str(), *role, &tokens[..]));
    CallersFile::new(&callers.collect::<Vec<_>>())
}

/// A browser with at most one cookie.
pub(crate) struct Browser {
    pub(crate) address: SocketAddr,
    pub(crate) cookie: Option<String>,
    origin: String,
}

impl Browser {
    /// Opens a browser that has not logged in.
    pub(crate) fn new(service: &TestService) -> Self {
        let address = service.running.console_address().unwrap();
        Self { address, cookie: None, origin: format!("http://{address}") }
    }

    /// Opens a browser and logs in with the token of a role.
    pub(crate) async fn logged_in(service: &TestService, role: Role) -> Self {
        let mut browser = Self::new(service);
        let answer = browser.log_in(&token_of(role)).await;
        assert_eq!(answer.status, 303, "{}", answer.body);
        browser
    }

    /// Sends the login form and keeps the cookie.
    pub(crate) async fn log_in(&mut self, token: &str) -> HttpAnswer {
        let answer = self.post_raw("/login", &[("token", token)], &self.same_origin()).await;
        if let Some(cookie) = answer.header("set-cookie") {
            // The harness lowers the case of headers, and browsers compare names exactly.
            let pair = cookie.split(';').next().unwrap();
            self.cookie = Some(pair.replace("__host-", "__Host-"));
        }
        answer
    }

    /// Follows a link.
    pub(crate) async fn get(&self, path: &str) -> HttpAnswer {
        self.request(&format!("GET {path}"), &[], "").await
    }

    /// Follows a link to a page that must be there.
    pub(crate) async fn page(&self, path: &str) -> String {
        let answer = self.get(path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        answer.body
    }

    /// Sends a form of a page, with the form token of that page.
    pub(crate) async fn submit(&self, page: &str, path: &str, fields: &[(&str, &str)]) -> HttpAnswer {
        let token = form_token(&self.get(page).await.body);
        let mut fields = fields.to_vec();
        fields.push(("form_token", &token));
        self.post_raw(path, &fields, &self.same_origin()).await
    }

    /// Sends a form exactly as given.
    pub(crate) async fn post_raw(
        &self,
        path: &str,
        fields: &[(&str, &str)],
        headers: &[(&str, &str)],
    ) -> HttpAnswer {
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let mut headers = headers.to_vec();
        headers.push(("content-type", "application/x-www-form-urlencoded"));
        self.request(&format!("POST {path}"), &headers, &body).await
    }

    /// The headers by which a browser says that a form comes from this host.
    pub(crate) fn same_origin(&self) -> [(&str, &str); 2] {
        [("origin", &self.origin), ("sec-fetch-site", "same-origin")]
    }

    async fn request(&self, request: &str, headers: &[(&str, &str)], body: &str) -> HttpAnswer {
        let host = self.address.to_string();
        let mut headers = headers.to_vec();
        if !headers.iter().any(|(name, _)| *name == "host") {
            headers.push(("host", &host));
        }
        if let Some(cookie) = &self.cookie {
            headers.push(("cookie", cookie));
        }
        http_exchange(self.address, request, &headers, body).await.unwrap()
    }
}

/// Returns the form token of a page.
pub(crate) fn form_token(page: &str) -> String {
    let (_, rest) = page.split_once("name=\"form_token\" value=\"").expect("the page must have a form");
    rest.split_once('"').unwrap().0.to_owned()
}
