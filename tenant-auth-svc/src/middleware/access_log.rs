//! Writes one log line per RPC when it ends: when the last byte is sent, or when the caller disconnects. Of
//! many similar lines, the log writes some and the number of the others.

use std::time::Instant;

use http::Request;
use tonic::Code;

use super::{
    metrics::{UNKNOWN_RPC, rpc_name},
    rpc_observer::RpcObserver,
    trace::TraceId,
};
use crate::{
    grpc::{
        MalformedRequest,
        context::{CallerLabel, RequestId, RpcRecord},
        denials::{self, DenialLog},
    },
    telemetry::logging::RPC_TARGET,
};

/// What tells unknown paths apart, for a person. Paths are made up by callers, and may be as long as a request's head.
fn unknown_path_excerpt(path: &str) -> Option<String> {
    (rpc_name(path) == UNKNOWN_RPC).then(|| MalformedRequest::escaped_excerpt(path.as_bytes()))
}

/// Whether an RPC belongs to the daily traffic, of which a line for each would bury everything else.
fn is_routine(rpc: &str) -> bool {
    ["ValidationService/", "SessionService/", "UsageService/RecordUsage"]
        .iter()
        .any(|routine| rpc.strip_prefix("tenantauth.v1.").is_some_and(|rpc| rpc.starts_with(routine)))
}

/// The line of one RPC.
#[derive(Debug)]
pub struct AccessLogLine {
    rpc: &'static str,
    /// The beginning of a path that leads to no RPC.
    path: Option<String>,
    request_id: Option<RequestId>,
    caller: Option<CallerLabel>,
    trace_id: Option<TraceId>,
    record: RpcRecord,
    started: Instant,
}

/// The level has to be a constant where an event is written.
macro_rules! event {
    ($level:ident, $line:ident, $code:expr) => {{
        let verdict = $line.record.verdict();
        let decisions = $line.record.decisions();
        tracing::$level!(
            target: RPC_TARGET,
            rpc = $line.rpc,
            path = $line.path,
            request_id = $line.request_id.as_ref().map(|id| &*id.0),
            caller = $line.caller.as_ref().map(|caller| &*caller.0),
            trace_id = $line.trace_id.map(|TraceId(id)| tracing::field::display(id)),
            code = $code,
            verdict = verdict.map(|(verdict, _)| verdict.as_str()),
            source = verdict.map(|(_, source)| source.as_str()),
            decided = (decisions > 1).then_some(decisions),
            undecided = Some($line.record.undecided()).filter(|undecided| *undecided > 0),
            database = $line.record.failure().map(|kind| kind.as_str()),
            duration_us = u64::try_from($line.started.elapsed().as_micros()).unwrap_or(u64::MAX),
            "rpc"
        )
    }};
}

impl AccessLogLine {
    /// That of a request whose caller is known.
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

    fn on_message(&mut self) {}

    fn on_end(&mut self, code: Option<Code>) {
        let line = self;
        // Given up before its trailers: the caller did not wait for the end.
        let name = code.map_or("Cancelled(by caller)".to_owned(), |code| format!("{code:?}"));
        match code {
            // What probes and tools ask all the time, and what reflection answers in the course of things.
            Some(Code::Ok | Code::NotFound) if line.rpc.starts_with("grpc.") => event!(debug, line, name),
            // Thousands a second, denials among them: metrics count them, and a filter shows them when they are wanted.
            Some(Code::Ok) if is_routine(line.rpc) => event!(debug, line, name),
            Some(Code::Internal | Code::Unknown | Code::DataLoss) => event!(error, line, name),
            Some(
                Code::Unavailable
                | Code::ResourceExhausted
                | Code::DeadlineExceeded
                | Code::Unauthenticated
                | Code::PermissionDenied,
            ) => event!(warn, line, name),
            _ => event!(info, line, name),
        }
    }
}
