//! The remote engine: SQL over HTTP (the Hrana protocol), one stateless request per call.
//!
//! Transactions that are sent together are batches of one request on one stream: the server runs them one after the other.
//!
//! Every request opens a stream, does all its work and closes it: no baton is kept, so nothing can expire while a
//! replica idles, and nothing on the server waits for us. See
//! <https://github.com/tursodatabase/libsql/blob/main/docs/HTTP_V2_SPEC.md>.

mod answer;
mod denial;
mod token;
mod wire;

use std::{
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use reqwest::{
    StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
};
use thiserror::Error;

pub use self::token::{TokenError, TokenFile, TokenValidity};
use self::{
    denial::Denial,
    token::Access,
    wire::{Batch, Condition, PipelineRequest, Stmt, StreamRequest},
};
use super::engine::{Engine, Outcome, Rows, Statement, Transaction, some_rows};
use crate::domain::store::{Call, FailureKind, StoreError};

/// The largest answer that is read; a page of 500 keys is well below 1 MiB.
const MAX_ANSWER: usize = 8 * 1024 * 1024;
/// How often an answer is looked for when its time is over.
const LAST_LOOKS: usize = 4;
/// How much of an error's text goes into the log.
const MAX_ERROR_TEXT: usize = 200;

/// How to reach a remote database.
#[derive(Debug)]
pub struct RemoteConfig {
    /// `http://` or `https://`, and the path in front of `/v2/pipeline`, if any.
    pub url: Url,
    /// Where the token is; `None` for a server without one.
    pub token: Option<Arc<TokenFile>>,
    /// The proxy to go through; `None` for none, whatever the environment says.
    pub proxy: Option<Url>,
    /// How long a new connection may take.
    pub connect_timeout: Duration,
}

/// The HTTP client could not be built.
#[derive(Debug, Error)]
#[error("cannot set up HTTP to the database: {0}")]
pub struct SetupError(reqwest::Error);

/// The remote engine.
#[derive(Debug)]
pub struct RemoteEngine {
    http: reqwest::Client,
    pipeline: Url,
    token: Option<Arc<TokenFile>>,
}

impl RemoteEngine {
    /// Prepares a client; connects to nothing yet.
    ///
    /// # Errors
    /// When the TLS roots of the machine cannot be read.
    pub fn new(config: RemoteConfig) -> Result<Self, SetupError> {
        // Whoever comes first decides for the process; both choices would be ours.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(config.connect_timeout)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(15))
            .http2_keep_alive_interval(Duration::from_secs(10))
            .http2_keep_alive_timeout(Duration::from_secs(2))
            .http2_keep_alive_while_idle(true)
            .pool_max_idle_per_host(64)
            // A redirect would carry the token to wherever it points.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("tenant-auth/", env!("CARGO_PKG_VERSION")))
            // Those of the environment and of the system would be given the token, and every answer.
            .no_proxy();
        let client = match config.proxy {
            Some(proxy) => client.proxy(reqwest::Proxy::all(proxy).map_err(SetupError)?),
            None => client,
        };
        let http = client.build().map_err(SetupError)?;
        let mut pipeline = config.url;
        let path = format!("{}/v2/pipeline", pipeline.path().trim_end_matches('/'));
        pipeline.set_path(&path);
        Ok(Self { http, pipeline, token: config.token })
    }

    /// Sends requests on a stream of their own, to be run one after the other, and reads the answer to them. What is denied has
    /// not been done: it is asked for again with another token, if there is one.
    async fn send<T: Denial>(
        &self,
        call: Call,
        access: Access,
        requests: Vec<StreamRequest>,
        read: impl Fn(&[u8]) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let body = serde_json::to_vec(&PipelineRequest::of(requests)).map_err(|error| {
            StoreError::new(FailureKind::Broken, format!("a request is no JSON: {error}"))
        })?;
        let ask = async |header: Option<&HeaderValue>| {
            let answer = self.post(call, access, body.clone(), header).await?;
            read(&answer)
        };
        let Some(token) = &self.token else { return ask(None).await };
        let mut header = token.first(access);
        let mut outcome = ask(Some(&header)).await;
        if outcome.is_denied()
            && let Some(other) = token.refuse(access, &header)
        {
            header = other;
            outcome = ask(Some(&header)).await;
            if outcome.is_denied() {
                token.refuse(access, &header);
            }
        }
        if !outcome.is_refused() && outcome.is_ok() {
            token.accepted(access, &header);
        }
        outcome
    }

    async fn post(
        &self,
        call: Call,
        access: Access,
        body: Vec<u8>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Vec<u8>, StoreError> {
        if call.deadline <= Instant::now() {
            return Err(StoreError::new(FailureKind::TimedOut, "no time was left to ask"));
        }
        let mut request = self
            .http
            .post(self.pipeline.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(body);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let Some(answer) = within(call.deadline, ask(request, access)).await else {
            return Err(StoreError::new(FailureKind::TimedOut, "no answer in time"));
        };
        answer
    }
}

/// Sends a request, and reads its answer.
async fn ask(request: reqwest::RequestBuilder, access: Access) -> Result<Vec<u8>, StoreError> {
    let response = request.send().await.map_err(|error| transport_error(&error))?;
    let status = response.status();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let body = read(response).await;
    if status.is_success() {
        return body;
    }
    let mut error = refusal(status, access, &body.unwrap_or_default());
    error.retry_after = retry_after;
    Err(error)
}

/// Waits for an outcome until a moment. One that lies there by then counts: a process that was late itself finds the answer in
/// the socket, and it takes a turn of the driver, one of the connection's task and one of this to have it here.
async fn within<T>(deadline: Instant, outcome: impl Future<Output = T>) -> Option<T> {
    let mut outcome = std::pin::pin!(outcome);
    if let Ok(outcome) = tokio::time::timeout_at(deadline.into(), outcome.as_mut()).await {
        return Some(outcome);
    }
    for _ in 0..LAST_LOOKS {
        tokio::task::yield_now().await;
        if let Poll::Ready(outcome) = futures::poll!(outcome.as_mut()) {
            return Some(outcome);
        }
    }
    None
}

impl Engine for RemoteEngine {
    async fn query(&self, call: Call, statement: Statement) -> Result<Rows, StoreError> {
        let request = match statement.at_primary {
            true => StreamRequest::Batch { batch: primary_batch(&statement) },
            false => StreamRequest::Execute { stmt: Stmt::of(&statement) },
        };
        let access = if statement.at_primary { Access::Write } else { Access::Read };
        self.send(call, access, vec![request], |body| answer::rows(body).and_then(some_rows)).await
    }

    async fn transactions(&self, call: Call, transactions: Vec<Transaction>) -> Vec<Outcome> {
        let batch = |statements: &Transaction| StreamRequest::Batch { batch: transaction_batch(statements) };
        let sizes: Vec<usize> = transactions.iter().map(Vec::len).collect();
        let requests = transactions.iter().map(batch).collect();
        let read = |body: &[u8]| answer::transactions(body, &sizes);
        match self.send(call, Access::Write, requests, read).await {
            Ok(outcomes) => outcomes,
            Err(error) => sizes.iter().map(|_| Err(error.clone())).collect(),
        }
    }
}

/// `BEGIN IMMEDIATE`, the statements, `COMMIT`, each only if the one before succeeded; and `ROLLBACK` if the
/// transaction began but did not commit. A pipeline without conditions would carry on after an error.
fn transaction_batch(statements: &[Statement]) -> Batch {
    let mut batch = Batch::default();
    batch.push(None, Stmt::bare("BEGIN IMMEDIATE"));
    for statement in statements {
        let before = batch.last();
        batch.push(Some(Condition::ok(before)), Stmt::of(statement));
    }
    let before = batch.last();
    batch.push(Some(Condition::ok(before)), Stmt::bare("COMMIT"));
    let commit = batch.last();
    let began_in_vain = Condition::all([Condition::ok(0), Condition::not(Condition::ok(commit))]);
    batch.push(Some(began_in_vain), Stmt::bare("ROLLBACK"));
    batch
}

/// The statement, and a change that never happens: a copy passes on to its primary what may change something, as a whole. Nothing is
/// locked there, since the change does not begin.
fn primary_batch(statement: &Statement) -> Batch {
    let mut batch = Batch::default();
    batch.push(None, Stmt::of(statement));
    let failed = Condition::not(Condition::ok(0));
    batch.push(Some(failed), Stmt::bare("UPDATE heartbeat SET beat = beat WHERE only = 0"));
    batch
}

async fn read(mut response: reqwest::Response) -> Result<Vec<u8>, StoreError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| transport_error(&error))? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err(StoreError::new(FailureKind::Garbled, "the answer is longer than 8 MiB"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn transport_error(error: &reqwest::Error) -> StoreError {
    let kind = if error.is_timeout() {
        FailureKind::TimedOut
    } else if error.is_builder() {
        FailureKind::Broken
    } else {
        FailureKind::Unreachable
    };
    // Without the URL: it says nothing new, and some put credentials into theirs.
    StoreError::new(kind, chain(error))
}

/// An error with its causes; the outermost alone says little more than "error sending request".
fn chain(error: &reqwest::Error) -> String {
    let mut text = String::from("the HTTP request failed");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn refusal(status: StatusCode, access: Access, body: &[u8]) -> StoreError {
    let kind = match (status, access) {
        (StatusCode::FORBIDDEN, Access::Write) => FailureKind::ReadOnly,
        (status, _) => kind_of(status),
    };
    StoreError::new(kind, format!("HTTP {}: {}", status.as_u16(), answer::excerpt(body)))
}

fn kind_of(status: StatusCode) -> FailureKind {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => FailureKind::Denied,
        StatusCode::PAYMENT_REQUIRED => FailureKind::Blocked,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => FailureKind::Misplaced,
        StatusCode::TOO_MANY_REQUESTS => FailureKind::Throttled,
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => FailureKind::TimedOut,
        _ if status.is_server_error() => FailureKind::Unreachable,
        // Our own request is at fault.
        _ if status.is_client_error() => FailureKind::Broken,
        // A redirect, say: whatever answers there is not the database.
        _ => FailureKind::Garbled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_sorted_by_what_to_do() {
        let refused = |code: u16, access| refusal(StatusCode::from_u16(code).unwrap(), access, b"").kind;
        let kind = |code| refused(code, Access::Read);
        assert_eq!(refused(403, Access::Write), FailureKind::ReadOnly);
        assert_eq!(refused(401, Access::Write), FailureKind::Denied);
        assert_eq!(kind(402), FailureKind::Blocked);
        assert_eq!(kind(401), FailureKind::Denied);
        assert_eq!(kind(403), FailureKind::Denied);
        assert_eq!(kind(404), FailureKind::Misplaced);
        assert_eq!(kind(429), FailureKind::Throttled);
        assert_eq!(kind(503), FailureKind::Unreachable);
        assert_eq!(kind(302), FailureKind::Garbled);
        assert_eq!(kind(400), FailureKind::Broken);
    }

    #[test]
    fn each_step_waits_for_the_one_before() {
        let statements = [Statement::new("INSERT"), Statement::new("SELECT")];
        let batch = serde_json::to_value(transaction_batch(&statements)).unwrap();
        let conditions: Vec<_> =
            batch["steps"].as_array().unwrap().iter().map(|step| step["condition"].to_string()).collect();
        assert_eq!(conditions[0], "null");
        assert_eq!(conditions[1], r#"{"step":0,"type":"ok"}"#);
        assert_eq!(conditions[3], r#"{"step":2,"type":"ok"}"#);
        assert_eq!(
            conditions[4],
            r#"{"conds":[{"step":0,"type":"ok"},{"cond":{"step":3,"type":"ok"},"type":"not"}],"type":"and"}"#
        );
    }
}
