//! Writes one log line per RPC when it ends: when the last byte is sent, or when the caller disconnects. Of
//! many similar lines, the log writes some and the number of the others.

use std::time::Instant;

use http::Request;
use tonic::Code;

use super::{
    metrics::{UNKNOWN_RPC, is_routine, rpc_name},
    rpc_observer::RpcObserver,
    trace::TraceId,
};
use crate::{
    grpc::{
        MalformedRequest, code,
        context::{CallerLabel, RequestId, RpcRecord},
        denials::{self, DenialLog},
    },
    telemetry::logging::RPC_TARGET,
};

/// An excerpt of the path of an RPC that does not exist. Callers invent paths, which may be as long as the request headers.
fn unknown_path_excerpt(path: &str) -> Option<String> {
    (rpc_name(path) == UNKNOWN_RPC).then(|| MalformedRequest::escaped_excerpt(path.as_bytes()))
}

/// The log line of one RPC.
#[derive(Debug)]
pub struct AccessLogLine {
    rpc: &'static str,
    /// The beginning of the path, if the RPC does not exist.
    path: Option<String>,
    request_id: Option<RequestId>,
    caller: Option<CallerLabel>,
    trace_id: Option<TraceId>,
    record: RpcRecord,
    started: Instant,
}

/// `tracing` needs a constant level at each event.
macro_rules! event {
    ($level:ident, $line:ident, $code:expr) => {{
        let verdict = $line.record.verdict();
        let decisions = $line.record.decisions();
        tracing::$level!(
            target: RPC_TARGET,
            // The macro accepts no dot in the first name.
            request_id = $line.request_id.as_ref().map(|id| &*id.0),
            rpc.method = $line.rpc,
            rpc.method_original = $line.path,
            caller = $line.caller.as_ref().map(|caller| &*caller.0),
            trace_id = $line.trace_id.map(|TraceId { trace, .. }| tracing::field::display(trace)),
            span_id = $line.trace_id.and_then(|TraceId { span, .. }| span).map(tracing::field::display),
            rpc.response.status_code = code::canonical_name($code.unwrap_or(Code::Cancelled)),
            // The names of older conventions, which dashboards still use.
            rpc.service = $line.rpc.split_once('/').map(|(service, _)| service),
            rpc.grpc.status_code = $code.unwrap_or(Code::Cancelled) as i32,
            // Dropped before its trailers: the caller disconnected.
            client_cancelled = $code.is_none().then_some(true),
            verdict = verdict.map(|(verdict, _)| verdict.as_str()),
            source = verdict.map(|(_, source)| source.as_str()),
            decided = (decisions > 1).then_some(decisions),
            undecided = Some($line.record.undecided()).filter(|undecided| *undecided > 0),
            database = $line.record.failure().map(|kind| kind.as_str()),
            duration_us = u64::try_from($line.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            "rpc handled"
        )
    }};
}

impl AccessLogLine {
    /// Creates the line of a request; the caller must be identified already.
    pub(super) fn from_request<In>(request: &Request<In>) -> Self {
        let extensions = request.extensions();
        let rpc = rpc_name(request.uri().path());
        let request_id = extensions.get::<RequestId>().cloned();
        let caller = extensions.get::<CallerLabel>().cloned();
        let record = extensions.get::<RpcRecord>().cloned().unwrap_or_default();
        if denials::is_enabled() {
            record.log_denials(DenialLog { rpc, request_id: request_id.clone(), caller: caller.clone() });
        }
        Self {
            rpc,
            path: unknown_path_excerpt(request.uri().path()),
            request_id,
            caller,
            trace_id: extensions.get::<TraceId>().copied(),
            record,
            started: Instant::now(),
        }
    }
}

impl RpcObserver for AccessLogLine {
    type Held = ();

    fn enter(&self) {}

    fn on_data(&mut self, _: &[u8]) {}

    fn on_end(&mut self, code: Option<Code>) {
        let line = self;
        match code {
            // Probes, and lookups of reflection that find nothing.
            Some(Code::Ok | Code::NotFound) if line.rpc.starts_with("grpc.") => event!(debug, line, code),
            // Thousands per second, including denials: metrics count them, and a filter can enable their lines.
            Some(Code::Ok) if is_routine(line.rpc) => event!(debug, line, code),
            Some(Code::Internal | Code::Unknown | Code::DataLoss) => event!(error, line, code),
            Some(
                Code::Unavailable
                | Code::ResourceExhausted
                | Code::DeadlineExceeded
                | Code::Unauthenticated
                | Code::PermissionDenied,
            ) => event!(warn, line, code),
            _ => event!(info, line, code),
        }
    }
}
