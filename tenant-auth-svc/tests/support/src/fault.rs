//! Fault injection.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

/// A fault of a pipeline request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The response is delayed by this time.
    Latency(Duration),
    /// There is no response until the plan changes; then the request is handled normally.
    Hang,
    /// The statements are executed; the response is sent only when the plan changes. It may be out of date by
    /// then.
    HangAfterExecute,
    /// The connection is reset before anything is executed.
    ResetBeforeExecute,
    /// The statements are executed; the connection is reset in the middle of the response body.
    ResetMidBody,
    /// The statements are executed and committed; the connection is reset without a response.
    ResetAfterCommit,
    /// An HTTP status with a body; nothing is executed.
    Status {
        /// The status code.
        code: u16,
        /// The body's content type.
        content_type: &'static str,
        /// The body.
        body: Vec<u8>,
        /// `Retry-After`, in seconds.
        retry_after: Option<u64>,
    },
    /// The response is cut in half: valid HTTP, invalid JSON.
    TruncatedJson,
    /// A well-formed response in which every statement returned no rows.
    MissingRows,
    /// Every statement fails with this SQL error; the HTTP status is 200.
    Sql {
        /// The code, such as `SQLITE_BUSY`.
        code: &'static str,
        /// The message.
        message: &'static str,
    },
}

impl Fault {
    fn status(code: u16, content_type: &'static str, body: impl Into<Vec<u8>>) -> Self {
        Self::Status { code, content_type, body: body.into(), retry_after: None }
    }

    /// The response to a wrong or missing token.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::status(401, "application/json", r#"{"error":"Unauthorized: `The JWT is invalid`"}"#)
    }

    /// The response to a token without permission.
    #[must_use]
    pub fn forbidden() -> Self {
        Self::status(403, "application/json", r#"{"error":"Forbidden"}"#)
    }

    /// The response for a database that does not exist.
    #[must_use]
    pub fn namespace_not_found() -> Self {
        Self::status(404, "application/json", r#"{"error":"Namespace `gone` doesn't exist"}"#)
    }

    /// The response of a rate limit.
    #[must_use]
    pub fn too_many_requests(retry_after: u64) -> Self {
        Self::Status {
            code: 429,
            content_type: "application/json",
            body: br#"{"error":"Too many concurrent requests"}"#.to_vec(),
            retry_after: Some(retry_after),
        }
    }

    /// The response of an edge proxy without an origin.
    #[must_use]
    pub fn service_unavailable() -> Self {
        Self::status(503, "text/html", "<html><body><h1>503 Service Unavailable</h1></body></html>")
    }

    /// A web page with a success status, as from a captive portal.
    #[must_use]
    pub fn html_ok() -> Self {
        Self::status(200, "text/html", "<!doctype html><title>Welcome</title><p>Please log in.")
    }

    /// An error whose body is not text.
    #[must_use]
    pub fn binary_error() -> Self {
        Self::status(500, "application/octet-stream", vec![0xff, 0xfe, 0x00, 0x80, 0x1b, 0x5b])
    }

    /// The response of a suspended database.
    #[must_use]
    pub fn blocked() -> Self {
        Self::Sql { code: "BLOCKED", message: "Operation was blocked: the database is suspended" }
    }

    /// The response of a database that another client has locked.
    #[must_use]
    pub fn locked() -> Self {
        Self::Sql { code: "SQLITE_BUSY", message: "SQLite error: database is locked" }
    }
}

/// The faults that apply from now on. Clones share the plan.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    state: Arc<Mutex<FaultState>>,
    /// Incremented by every change of the plan, which releases hanging requests.
    generation: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct FaultState {
    fault: Option<Fault>,
    /// Number of requests that it still applies to; `None` for all.
    remaining: Option<u64>,
    scope: FaultScope,
}

/// The requests that a fault applies to.
#[derive(Clone, Debug, Default)]
enum FaultScope {
    #[default]
    All,
    /// Requests whose SQL contains this text.
    Containing(String),
    Reads,
    Writes,
}

impl FaultScope {
    fn includes(&self, body: &str) -> bool {
        // The service writes only in transactions; a lone statement may also write, in tests that bypass the
        // service. A batch without a transaction reads; a read on the primary is one with a write that never
        // runs.
        let is_batch = || body.contains(r#""type":"batch""#);
        let changes = |verb: &str| body.contains(&format!(r#""sql":"{verb} "#));
        let lone_change = || !is_batch() && ["INSERT", "UPDATE", "DELETE"].into_iter().any(changes);
        let writes = || body.contains("BEGIN IMMEDIATE") || lone_change();
        match self {
            Self::All => true,
            Self::Containing(text) => body.contains(text),
            Self::Reads => !writes(),
            Self::Writes => writes(),
        }
    }
}

impl FaultPlan {
    pub(crate) fn new() -> Self {
        Self { state: Arc::default(), generation: watch::Sender::new(0) }
    }

    /// Applies a fault to every request until the plan changes.
    pub fn set(&self, fault: Fault) {
        self.change(FaultState { fault: Some(fault), ..FaultState::default() });
    }

    /// Applies a fault to the next `count` requests; later requests are handled normally.
    pub fn set_for(&self, count: u64, fault: Fault) {
        self.change(FaultState { fault: Some(fault), remaining: Some(count), scope: FaultScope::All });
    }

    /// Applies a fault to the next `count` requests whose SQL contains `text`.
    pub fn set_where(&self, text: &str, count: u64, fault: Fault) {
        self.change(FaultState {
            fault: Some(fault),
            remaining: Some(count),
            scope: FaultScope::Containing(text.to_owned()),
        });
    }

    /// Applies a fault to every request that writes, and to no other.
    pub fn set_writes(&self, fault: Fault) {
        self.change(FaultState { fault: Some(fault), remaining: None, scope: FaultScope::Writes });
    }

    /// Applies a fault to every request that only reads.
    pub fn set_reads(&self, fault: Fault) {
        self.change(FaultState { fault: Some(fault), remaining: None, scope: FaultScope::Reads });
    }

    /// Removes all faults.
    pub fn clear(&self) {
        self.change(FaultState::default());
    }

    fn change(&self, state: FaultState) {
        let mut current = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *current = state;
        // Sent under the lock: requests that got the previous plan are notified, and requests that get the
        // new one are not.
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// Returns the fault for the request with this body, and a signal for the next change of the plan.
    pub(crate) fn next_fault(&self, body: &str) -> (Option<Fault>, PlanChange) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let change = PlanChange(self.generation.subscribe());
        (Self::take_fault(&mut state, body), change)
    }

    fn take_fault(state: &mut FaultState, body: &str) -> Option<Fault> {
        if !state.scope.includes(body) || state.remaining == Some(0) {
            return None;
        }
        if let Some(left) = &mut state.remaining {
            *left -= 1;
        }
        state.fault.clone()
    }
}

/// Signals the next change of the plan.
pub(crate) struct PlanChange(watch::Receiver<u64>);

impl PlanChange {
    /// Waits for the change.
    pub(crate) async fn wait(&mut self) {
        // The sender lives as long as the server.
        let _ = self.0.changed().await;
    }
}
