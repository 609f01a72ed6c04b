//! The remote engine: SQL over HTTP (the Hrana protocol), one stateless request per call.
//!
//! Transactions that are sent together are batches of one request on one stream: the server runs them one after the
//! other.
//!
//! Every request opens a stream, does all its work and closes it: no stream is parked with a baton, so nothing
//! expires while a replica idles, and no resource of the server waits for the client. See
//! <https://github.com/tursodatabase/libsql/blob/main/docs/HTTP_V2_SPEC.md>.

mod batch;
mod denial;
mod response;
mod row_counts;
mod token;
mod wire;

use std::{
    sync::{Arc, atomic::Ordering},
    task::Poll,
    time::{Duration, Instant},
};

use reqwest::{
    StatusCode, Url,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER},
};
use thiserror::Error;

use self::{
    batch::{primary_batch, transaction_batch},
    denial::Denial,
    row_counts::Statistics,
    token::TokenUse,
    wire::{PipelineRequest, Stmt, StreamRequest},
};
pub use self::{
    row_counts::RowCounts,
    token::{TokenError, TokenFile, TokenValidity},
};
use super::{
    client::observer::ServerAddress,
    engine::{Engine, Rows, Statement, Transaction, TransactionResult, require_rows},
};
use crate::domain::{
    known_database::read_route::ReplicationIndex,
    store::{Call, FailureKind, StoreError},
};

/// Maximum response size; a page of 500 keys is well below 1 MiB.
const MAX_RESPONSE_BYTES: usize = 8 * 1024 * 1024;
/// How often a response is polled for after its deadline.
const MAX_POLLS_AFTER_DEADLINE: usize = 4;
/// Maximum length of an error text in the log.
const MAX_ERROR_CHARS: usize = 200;

/// Connection settings of a remote database.
#[derive(Debug)]
pub struct RemoteConfig {
    /// `http://` or `https://`, with the path before `/v2/pipeline`, if any.
    pub url: Url,
    /// The token file; `None` for a server without authentication.
    pub token: Option<Arc<TokenFile>>,
    /// The proxy; `None` for a direct connection, whatever the environment says.
    pub proxy: Option<Url>,
    /// Timeout of a new connection.
    pub connect_timeout: Duration,
}

/// The HTTP client could not be built.
#[derive(Debug, Error)]
#[error("cannot set up the HTTP client of the database: {0}")]
pub struct HttpSetupError(reqwest::Error);

/// The remote engine.
#[derive(Debug)]
pub struct RemoteEngine {
    http: reqwest::Client,
    pipeline_url: Url,
    token: Option<Arc<TokenFile>>,
    rows: RowCounts,
    replication_index: ReplicationIndex,
}

impl RemoteEngine {
    /// The highest replication index that the server has reported; 0 if it reports none.
    #[must_use]
    pub fn replication_index(&self) -> &ReplicationIndex {
        &self.replication_index
    }

    /// The rows that the server has counted.
    #[must_use]
    pub fn row_counts(&self) -> &RowCounts {
        &self.rows
    }

    /// Returns the server's address.
    #[must_use]
    pub fn server_address(&self) -> Option<ServerAddress> {
        let host = self.pipeline_url.host_str()?.to_owned();
        Some(ServerAddress { host, port: self.pipeline_url.port_or_known_default() })
    }

    /// Creates the client; does not connect yet.
    ///
    /// # Errors
    /// When the TLS roots of the machine cannot be read.
    pub fn new(config: RemoteConfig) -> Result<Self, HttpSetupError> {
        // The first call installs the provider for the process; every caller installs the same one.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = reqwest::Client::builder()
            .connect_timeout(config.connect_timeout)
            .tcp_nodelay(true)
            .tcp_keepalive(Duration::from_secs(15))
            .http2_keep_alive_interval(Duration::from_secs(10))
            .http2_keep_alive_timeout(Duration::from_secs(2))
            .http2_keep_alive_while_idle(true)
            .pool_max_idle_per_host(64)
            // A redirect would send the token to its target.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("tenant-auth/", env!("CARGO_PKG_VERSION")))
            // Proxies of the environment and the system would see the token and every response.
            .no_proxy();
        let client = match config.proxy {
            Some(proxy) => client.proxy(reqwest::Proxy::all(proxy).map_err(HttpSetupError)?),
            None => client,
        };
        let http = client.build().map_err(HttpSetupError)?;
        let mut pipeline = config.url;
        let path = format!("{}/v2/pipeline", pipeline.path().trim_end_matches('/'));
        pipeline.set_path(&path);
        Ok(Self {
            http,
            pipeline_url: pipeline,
            token: config.token,
            rows: RowCounts::default(),
            replication_index: ReplicationIndex::default(),
        })
    }

    /// Sends requests on a new stream, which runs them one after the other, and parses the response. A denied request
    /// has not been executed: it is repeated with another token, if there is one.
    async fn send<T: Denial>(
        &self,
        call: Call,
        access: TokenUse,
        requests: Vec<StreamRequest>,
        read: impl Fn(&[u8]) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let body = serde_json::to_vec(&PipelineRequest::new(requests)).map_err(|error| {
            StoreError::new(FailureKind::Internal, format!("cannot encode a request as JSON: {error}"))
        })?;
        let attempt = async |header: Option<&HeaderValue>| {
            let response = self.post(call, access, body.clone(), header).await?;
            read(&response)
        };
        let Some(token) = &self.token else { return attempt(None).await };
        let mut header = token.header_for(access);
        let mut outcome = attempt(Some(&header)).await;
        if outcome.is_denied()
            && let Some(other) = token.record_refused(access, &header)
        {
            header = other;
            outcome = attempt(Some(&header)).await;
            if outcome.is_denied() {
                token.record_refused(access, &header);
            }
        }
        if !outcome.is_refused() && outcome.is_ok() {
            token.record_accepted(access, &header);
        }
        outcome
    }

    fn record_statistics(&self, call: Call, statistics: Statistics) {
        self.rows.add(call.lane, statistics);
        self.replication_index.fetch_max(statistics.replication_index, Ordering::Relaxed);
    }

    async fn post(
        &self,
        call: Call,
        access: TokenUse,
        body: Vec<u8>,
        authorization: Option<&HeaderValue>,
    ) -> Result<Vec<u8>, StoreError> {
        if call.deadline <= Instant::now() {
            return Err(StoreError::new(
                FailureKind::TimedOut,
                "the deadline passed before the request was sent",
            ));
        }
        let mut request = self
            .http
            .post(self.pipeline_url.clone())
            .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
            .body(body);
        if let Some(authorization) = authorization {
            request = request.header(AUTHORIZATION, authorization);
        }
        let Some(response) = wait_until(call.deadline, send_request(request, access)).await else {
            return Err(StoreError::new(FailureKind::TimedOut, "no response before the deadline"));
        };
        response
    }
}

/// Sends a request and reads its response.
async fn send_request(request: reqwest::RequestBuilder, access: TokenUse) -> Result<Vec<u8>, StoreError> {
    let response = request.send().await.map_err(|error| transport_error(&error))?;
    let status = response.status();
    let retry_after = response
        .headers()
        .get(RETRY_AFTER)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map(Duration::from_secs);
    let body = read_body(response).await;
    if status.is_success() {
        return body;
    }
    let mut error = status_error(status, access, &body.unwrap_or_default());
    error.retry_after = retry_after;
    Err(error)
}

/// Waits for a future until a deadline. A response that has arrived by then counts: a lagging process finds it in the
/// socket, and one poll each of the I/O driver, the connection's task and this task delivers it.
async fn wait_until<T>(deadline: Instant, outcome: impl Future<Output = T>) -> Option<T> {
    let mut outcome = std::pin::pin!(outcome);
    if let Ok(outcome) = tokio::time::timeout_at(deadline.into(), outcome.as_mut()).await {
        return Some(outcome);
    }
    for _ in 0..MAX_POLLS_AFTER_DEADLINE {
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
            false => StreamRequest::Execute { stmt: Stmt::new(&statement) },
        };
        let access = if statement.at_primary { TokenUse::Write } else { TokenUse::Read };
        let read = |body: &[u8]| {
            let (rows, billed) = response::parse_rows(body)?;
            self.record_statistics(call, billed);
            require_rows(rows)
        };
        self.send(call, access, vec![request], read).await
    }

    async fn transactions(&self, call: Call, transactions: Vec<Transaction>) -> Vec<TransactionResult> {
        let batch = |statements: &Transaction| StreamRequest::Batch { batch: transaction_batch(statements) };
        let sizes: Vec<usize> = transactions.iter().map(Vec::len).collect();
        let requests = transactions.iter().map(batch).collect();
        let read = |body: &[u8]| {
            let (outcomes, billed) = response::parse_transactions(body, &sizes)?;
            self.record_statistics(call, billed);
            Ok(outcomes)
        };
        match self.send(call, TokenUse::Write, requests, read).await {
            Ok(outcomes) => outcomes,
            Err(error) => sizes.iter().map(|_| Err(error.clone())).collect(),
        }
    }
}

async fn read_body(mut response: reqwest::Response) -> Result<Vec<u8>, StoreError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(|error| transport_error(&error))? {
        if body.len() + chunk.len() > MAX_RESPONSE_BYTES {
            return Err(StoreError::new(FailureKind::InvalidResponse, "the response is larger than 8 MiB"));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

fn transport_error(error: &reqwest::Error) -> StoreError {
    let kind = if error.is_timeout() {
        FailureKind::TimedOut
    } else if error.is_builder() {
        FailureKind::Internal
    } else {
        FailureKind::Unreachable
    };
    // Without the URL, which adds nothing and may contain credentials.
    StoreError::new(kind, error_chain(error))
}

/// Describes an error with its causes; the outermost one alone only says "error sending request".
fn error_chain(error: &reqwest::Error) -> String {
    let mut text = String::from("the HTTP request failed");
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

fn status_error(status: StatusCode, access: TokenUse, body: &[u8]) -> StoreError {
    let kind = match (status, access) {
        (StatusCode::FORBIDDEN, TokenUse::Write) => FailureKind::ReadOnly,
        (status, _) => status_failure_kind(status),
    };
    StoreError::new(kind, format!("HTTP {}: {}", status.as_u16(), response::excerpt(body)))
}

fn status_failure_kind(status: StatusCode) -> FailureKind {
    match status {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => FailureKind::Denied,
        StatusCode::PAYMENT_REQUIRED => FailureKind::Blocked,
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED => FailureKind::SchemaMissing,
        StatusCode::TOO_MANY_REQUESTS => FailureKind::Throttled,
        StatusCode::REQUEST_TIMEOUT | StatusCode::GATEWAY_TIMEOUT => FailureKind::TimedOut,
        _ if status.is_server_error() => FailureKind::Unreachable,
        // The request of this client is at fault.
        _ if status.is_client_error() => FailureKind::Internal,
        // A redirect, for example: the server that responds is not the database.
        _ => FailureKind::InvalidResponse,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn http_status_decides_failure_kind() {
        let refused = |code: u16, access| status_error(StatusCode::from_u16(code).unwrap(), access, b"").kind;
        let kind = |code| refused(code, TokenUse::Read);
        assert_eq!(refused(403, TokenUse::Write), FailureKind::ReadOnly);
        assert_eq!(refused(401, TokenUse::Write), FailureKind::Denied);
        assert_eq!(kind(402), FailureKind::Blocked);
        assert_eq!(kind(401), FailureKind::Denied);
        assert_eq!(kind(403), FailureKind::Denied);
        assert_eq!(kind(404), FailureKind::SchemaMissing);
        assert_eq!(kind(429), FailureKind::Throttled);
        assert_eq!(kind(503), FailureKind::Unreachable);
        assert_eq!(kind(302), FailureKind::InvalidResponse);
        assert_eq!(kind(400), FailureKind::Internal);
    }
}
