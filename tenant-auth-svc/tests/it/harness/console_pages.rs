//! A database with a tenant, and a console for people of each role.

use tenant_auth_proto::v1;
use tenant_auth_svc::domain::access::Role;
use tonic::Request;

use super::{
    TestDatabase, TestService,
    callers::CallersFile,
    console::{Browser, start_with_people, token_of},
};

/// Names as nobody may enter them: only SQL writes them.
pub(crate) const HOSTILE_NAMES: [&str; 5] = [
    "<script>alert(1)</script>",
    "\"><img src=x onerror=alert(1)>",
    "</title></textarea><svg onload=alert(1)>",
    "\u{202e}evil\u{2066}",
    "شركة",
];

/// A console over a database to which another replica writes.
pub(crate) struct Pages {
    pub(crate) database: TestDatabase,
    /// Has no callers file.
    pub(crate) writer: TestService,
    pub(crate) service: TestService,
    pub(crate) viewer: Browser,
    pub(crate) operator: Browser,
    _callers: CallersFile,
}

impl Pages {
    pub(crate) async fn start() -> Self {
        let database = TestDatabase::test_server().await;
        let writer = TestService::start(&database).await;
        let (callers, service) =
            start_with_people(&database, &[Role::Viewer, Role::Operator, Role::Validator]).await;
        let viewer = Browser::logged_in(&service, Role::Viewer).await;
        let operator = Browser::logged_in(&service, Role::Operator).await;
        Self { database, writer, service, viewer, operator, _callers: callers }
    }

    /// Validates a key at the replica with the console, which remembers it then.
    pub(crate) async fn remember(&self, key: &str) {
        let message = v1::ValidateKeyRequest { key: key.to_owned(), ..Default::default() };
        let mut request = Request::new(message);
        let token = format!("Bearer {}", token_of(Role::Validator));
        request.metadata_mut().insert("authorization", token.parse().unwrap());
        self.service.validation().validate_key(request).await.unwrap();
    }

    /// Changes the database as no RPC does.
    pub(crate) fn execute(&self, sql: &str) {
        self.database.server().execute(sql).unwrap();
    }
}

/// Writes a text into SQL.
pub(crate) fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// Asserts that a page contains a text only as text.
#[track_caller]
pub(crate) fn assert_inert(page: &str) {
    for active in ["<script>", "<img", "<svg onload", "onerror=alert(1)>\"", "</title></textarea>"] {
        assert!(!page.contains(active), "{active}: {page}");
    }
}

/// Returns the values of an attribute, in the order of the page.
pub(crate) fn attributes<'a>(page: &'a str, name: &str) -> Vec<&'a str> {
    let begin = format!(" {name}=\"");
    page.split(&begin).skip(1).filter_map(|rest| rest.split_once('"')).map(|(value, _)| value).collect()
}
