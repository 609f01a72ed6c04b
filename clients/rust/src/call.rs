//! What every call has in common: a limit in time, and replies that are read with care.

use std::time::{Duration, SystemTime};

use tonic::{Code, Request, Response, Status};

use crate::Error;

/// Sends a message and waits for the reply, at most `limit`. The service is told the limit.
pub(crate) async fn within<M, R>(
    limit: Duration,
    message: M,
    send: impl AsyncFnOnce(Request<M>) -> Result<Response<R>, Status>,
) -> Result<R, Error> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    // The header alone would bound the reply's beginning only, not its body.
    match tokio::time::timeout(limit, send(request)).await {
        Ok(reply) => Ok(reply?.into_inner()),
        Err(_) => Err(Error::DeadlineExceeded),
    }
}

/// A part of a reply that the contract promises.
pub(crate) fn present<T>(part: Option<T>, name: &str) -> Result<T, Error> {
    part.ok_or_else(|| broken(format!("the reply holds no {name}")))
}

/// A moment in a reply.
pub(crate) fn time(message: impl TryInto<SystemTime>) -> Result<SystemTime, Error> {
    let time = message.try_into();
    time.map_err(|_| broken("the reply holds a time outside this machine's range"))
}

/// A span of time in a reply.
pub(crate) fn duration(message: impl TryInto<Duration>) -> Result<Duration, Error> {
    let duration = message.try_into();
    duration.map_err(|_| broken("the reply holds a negative duration"))
}

/// A reply that breaks the contract.
pub(crate) fn broken(message: impl Into<String>) -> Error {
    Error::Other { code: Code::Internal, message: message.into() }
}
