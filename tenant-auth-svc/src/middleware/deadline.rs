//! Limits the time of a request: to the caller's deadline, and always to a maximum.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures::future::{Either, Ready, ready};
use http::{Request, Response};
use pin_project_lite::pin_project;
use tokio::time::Sleep;
use tonic::Status;
use tower::{Layer, Service};

use crate::grpc::{ApiError, context::Deadline};

/// The time reserved for the response on the network: the caller gets "the database is down" in time, instead
/// of its own timeout.
const RESPONSE_MARGIN: Duration = Duration::from_millis(5);

/// The delay between the deadline of a request and its forced end. The handler ends by the same deadline with
/// a more exact error, so it must come first even on a busy machine. By then the caller has most likely
/// disconnected.
const CUTOFF_DELAY: Duration = Duration::from_millis(500);

/// The maximum time to a response, also for callers without a deadline. It is longer than every limit of the
/// handlers, so it only ends requests whose message never arrives, which must not keep their permits.
const MAX_RESPONSE_DELAY: Duration = Duration::from_secs(15);

/// Converts `grpc-timeout` to a [`Deadline`], which handlers pass to the database client. Responds
/// DEADLINE_EXCEEDED to a request that arrives after its deadline, and to a request without a response in
/// time. A response that has started, as that of a stream at once, is not limited.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = EnforceDeadline<S>;

    fn layer(&self, inner: S) -> Self::Service {
        EnforceDeadline { inner }
    }
}

/// The service of [`DeadlineLayer`].
#[derive(Clone, Debug)]
pub struct EnforceDeadline<S> {
    inner: S,
}

impl<S, In, Out> Service<Request<In>> for EnforceDeadline<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
    Out: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<Ready<Result<S::Response, S::Error>>, DeadlineFuture<S::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<In>) -> Self::Future {
        let timeout = request.headers().get("grpc-timeout").and_then(|value| value.to_str().ok());
        let timeout = timeout.and_then(parse_grpc_timeout);
        let now = Instant::now();
        if let Some(timeout) = timeout {
            let margin = RESPONSE_MARGIN.min(timeout / 10);
            let deadline = Deadline(now + (timeout - margin));
            if let Err(expired) = deadline.ensure_not_passed() {
                return Either::Left(ready(Ok(Status::from(expired).into_http())));
            }
            request.extensions_mut().insert(deadline);
        }
        let cutoff = now
            + timeout.map_or(MAX_RESPONSE_DELAY, |timeout| (timeout + CUTOFF_DELAY).min(MAX_RESPONSE_DELAY));
        Either::Right(DeadlineFuture { answer: self.inner.call(request), cutoff, timer: None })
    }
}

pin_project! {
    /// The future of [`EnforceDeadline`].
    pub struct DeadlineFuture<F> {
        #[pin]
        answer: F,
        cutoff: Instant,
        // Set only if the response is not ready at once, which is rare.
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<F, Out, E> Future for DeadlineFuture<F>
where
    F: Future<Output = Result<Response<Out>, E>>,
    Out: Default,
{
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        if let Poll::Ready(answer) = this.answer.poll(cx) {
            return Poll::Ready(answer);
        }
        let cutoff = *this.cutoff;
        let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(cutoff.into())));
        timer.as_mut().poll(cx).map(|()| Ok(Status::from(ApiError::RequestTimedOut).into_http()))
    }
}

/// Parses `grpc-timeout`: at most eight digits and a unit. An invalid value counts as no deadline. Values are
/// capped at a day, so that no clock overflows.
fn parse_grpc_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    let timeout = match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    };
    Some(timeout.min(Duration::from_secs(86_400)))
}

#[cfg(test)]
mod tests {
    use std::{convert::Infallible, future::pending};

    use http::HeaderValue;
    use proptest::prelude::*;
    use tonic::Code;

    use super::*;

    #[test]
    fn every_grpc_timeout_unit_is_parsed() {
        assert_eq!(parse_grpc_timeout("1H"), Some(Duration::from_secs(3_600)));
        assert_eq!(parse_grpc_timeout("2M"), Some(Duration::from_secs(120)));
        assert_eq!(parse_grpc_timeout("3S"), Some(Duration::from_secs(3)));
        assert_eq!(parse_grpc_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse_grpc_timeout("9u"), Some(Duration::from_micros(9)));
        assert_eq!(parse_grpc_timeout("9n"), Some(Duration::from_nanos(9)));
        assert_eq!(parse_grpc_timeout("99999999H"), Some(Duration::from_secs(86_400)));
    }

    #[test]
    fn invalid_grpc_timeout_is_ignored() {
        for text in ["", "S", "1", "1x", "-1S", "123456789S", "1.5S", "1é"] {
            assert_eq!(parse_grpc_timeout(text), None, "{text:?}");
        }
    }

    /// Returns the time until the layer ends a request with this `grpc-timeout` that the handler never
    /// answers. Uses tokio's paused clock, which jumps to the next timer.
    fn time_to_cutoff(timeout: Option<&'static str>) -> Duration {
        let clock = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        clock.unwrap().block_on(async {
            let never = tower::service_fn(|_: Request<()>| pending::<Result<Response<()>, Infallible>>());
            let mut request = Request::new(());
            if let Some(timeout) = timeout {
                request.headers_mut().insert("grpc-timeout", HeaderValue::from_static(timeout));
            }
            let before = tokio::time::Instant::now();
            let answer = DeadlineLayer.layer(never).call(request).await.unwrap();
            assert_eq!(Status::from_header_map(answer.headers()).unwrap().code(), Code::DeadlineExceeded);
            before.elapsed()
        })
    }

    #[test]
    fn unanswered_request_is_cut_off_at_the_limit() {
        for (timeout, seconds) in [(None, 15), (Some("1H"), 15), (Some("3500m"), 4)] {
            // Deadlines use the real clock, which advances a little meanwhile.
            assert_eq!(time_to_cutoff(timeout).as_secs_f64().round(), f64::from(seconds), "{timeout:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_grpc_timeout_never_panics(text in any::<String>()) {
            let _ = parse_grpc_timeout(&text);
        }
    }
}
