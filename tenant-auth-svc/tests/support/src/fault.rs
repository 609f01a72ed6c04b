//! Misbehaviour by switch.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

/// What goes wrong with a pipeline request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The answer comes this much later.
    Latency(Duration),
    /// No answer comes until the plan changes; then the request is answered as if nothing had been.
    Hang,
    /// The statements ran; their answer comes only when the plan changes. What it says may be out of date by then.
    HangAfterExecute,
    /// The connection is reset before anything ran.
    ResetBeforeExecute,
    /// The statements ran; the connection is reset in the middle of the answer's body.
    ResetMidBody,
    /// The statements ran and committed; the connection is reset without an answer.
    ResetAfterCommit,
    /// An HTTP status with a body, and nothing runs.
    Status {
        /// The status code.
        code: u16,
        /// The body's type.
        content_type: &'static str,
        /// The body.
        body: Vec<u8>,
        /// `Retry-After`, in seconds.
        retry_after: Option<u64>,
    },
    /// The answer is cut in half: well-formed HTTP, broken JSON.
    TruncatedJson,
    /// A well-formed answer in which every statement gave no rows.
    MissingRows,
    /// Every statement fails with this SQL error; the status is 200.
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

    /// As to a wrong or missing token.
    #[must_use]
    pub fn unauthorized() -> Self {
        Self::status(401, "application/json", r#"{"error":"Unauthorized: `The JWT is invalid`"}"#)
    }

    /// As to a token that may not.
    #[must_use]
    pub fn forbidden() -> Self {
        Self::status(403, "application/json", r#"{"error":"Forbidden"}"#)
    }

    /// As to a database that is not there.
    #[must_use]
    pub fn namespace_not_found() -> Self {
        Self::status(404, "application/json", r#"{"error":"Namespace `gone` doesn't exist"}"#)
    }

    /// As from a rate limit.
    #[must_use]
    pub fn too_many_requests(retry_after: u64) -> Self {
        Self::Status {
            code: 429,
            content_type: "application/json",
            body: br#"{"error":"Too many concurrent requests"}"#.to_vec(),
            retry_after: Some(retry_after),
        }
    }

    /// As from an edge without an origin.
    #[must_use]
    pub fn service_unavailable() -> Self {
        Self::status(503, "text/html", "<html><body><h1>503 Service Unavailable</h1></body></html>")
    }

    /// A web page with a status of success, as from a captive portal.
    #[must_use]
    pub fn html_ok() -> Self {
        Self::status(200, "text/html", "<!doctype html><title>Welcome</title><p>Please log in.")
    }

    /// An error whose body is no text at all.
    #[must_use]
    pub fn binary_error() -> Self {
        Self::status(500, "application/octet-stream", vec![0xff, 0xfe, 0x00, 0x80, 0x1b, 0x5b])
    }

    /// As from a database that was suspended.
    #[must_use]
    pub fn blocked() -> Self {
        Self::Sql { code: "BLOCKED", message: "Operation was blocked: the database is suspended" }
    }

    /// As from a database that somebody else has locked.
    #[must_use]
    pub fn locked() -> Self {
        Self::Sql { code: "SQLITE_BUSY", message: "SQLite error: database is locked" }
    }
}

/// What goes wrong from now on. Clones share it.
#[derive(Clone, Debug)]
pub struct FaultPlan {
    state: Arc<Mutex<FaultState>>,
    /// Raised by every change: what hangs goes on.
    generation: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct FaultState {
    fault: Option<Fault>,
    /// How many requests it still applies to; `None` for all.
    remaining: Option<u64>,
    scope: FaultScope,
}

/// Which requests a fault applies to.
#[derive(Clone, Debug, Default)]
enum FaultScope {
    #[default]
    All,
    /// Those whose SQL holds this text.
    Containing(String),
    Reads,
    Writes,
}

impl FaultScope {
    fn includes(&self, body: &str) -> bool {
        // What the service changes is a transaction; by hand, a lone statement may change something too. A batch without a
        // transaction reads: its primary is asked by one, with a change that never happens.
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

    /// Every request meets this, until the plan changes.
    pub fn set(&self, fault: Fault) {
        self.change(FaultState { fault: Some(fault), ..FaultState::default() });
    }

    /// The next `count` requests meet this, the ones after them nothing.
    pub fn set_for(&self, count: u64, fault: Fault) {
        self.change(FaultState { fault: Some(fault), remaining: Some(count), scope: FaultScope::All });
    }

    /// The next `count` requests whose SQL holds `text` meet this.
    pub fn set_where(&self, text: &str, count: u64, fault: Fault) {
        self.change(FaultState {
            fault: Some(fault),
            remaining: Some(count),
            scope: FaultScope::Containing(text.to_owned()),
        });
    }

    /// Every request that changes something meets this, and no other.
    pub fn set_writes(&self, fault: Fault) {
        self.change(FaultState { fault: Some(fault), remaining: None, scope: FaultScope::Writes });
    }

    /// Every request that only reads meets this.
    pub fn set_reads(&self, fault: Fault) {
        self.change(FaultState { fault: Some(fault), remaining: None, scope: FaultScope::Reads });
    }

    /// Everything is well again.
    pub fn clear(&self) {
        self.change(FaultState::default());
    }

    fn change(&self, state: FaultState) {
        let mut current = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        *current = state;
        // Under the lock: whoever met the plan before is told, and nobody who meets the new one.
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// What the request with this body meets, and what tells when the plan changes after that.
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

/// Tells when the plan changes.
pub(crate) struct PlanChange(watch::Receiver<u64>);

impl PlanChange {
    /// Waits until it has.
    pub(crate) async fn wait(&mut self) {
        // The sender lives as long as the server.
        let _ = self.0.changed().await;
    }
}
