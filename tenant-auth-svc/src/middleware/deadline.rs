//! How long a request may take: as long as its caller waits, and never for ever.

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

/// What is kept back for the answer's way home: a caller is better off with "the database is down" in time than with
/// its own timer running out.
const MARGIN: Duration = Duration::from_millis(5);

/// How long after its deadline a request is cut off. Its handler ends by the same deadline and knows more to say, so even
/// on a machine that is busy it has to come first; its caller has most likely gone.
const LATE: Duration = Duration::from_millis(500);

/// How long any answer may be in coming, for callers that do not say how long they wait: longer than every limit of the
/// handlers. What is left is a request whose message never arrives, which must not keep its place.
const LONGEST: Duration = Duration::from_secs(15);

/// Turns `grpc-timeout` into a [`Deadline`] that handlers pass on to the database hop, and answers DEADLINE_EXCEEDED for
/// what arrives when its time is over, and for what has no answer in time. Once an answer has begun, as a stream's has
/// at once, it may go on.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeadlineLayer;

impl<S> Layer<S> for DeadlineLayer {
    type Service = WithDeadline<S>;

    fn layer(&self, inner: S) -> Self::Service {
        WithDeadline { inner }
    }
}

/// The service of [`DeadlineLayer`].
#[derive(Clone, Debug)]
pub struct WithDeadline<S> {
    inner: S,
}

impl<S, In, Out> Service<Request<In>> for WithDeadline<S>
where
    S: Service<Request<In>, Response = Response<Out>>,
    Out: Default,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<Ready<Result<S::Response, S::Error>>, Timed<S::Future>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<In>) -> Self::Future {
        let timeout = request.headers().get("grpc-timeout").and_then(|value| value.to_str().ok());
        let timeout = timeout.and_then(parse);
        let now = Instant::now();
        if let Some(timeout) = timeout {
            let kept_back = MARGIN.min(timeout / 10);
            let deadline = Deadline(now + (timeout - kept_back));
            if let Err(expired) = deadline.ahead() {
                return Either::Left(ready(Ok(Status::from(expired).into_http())));
            }
            request.extensions_mut().insert(deadline);
        }
        let until = now + timeout.map_or(LONGEST, |timeout| (timeout + LATE).min(LONGEST));
        Either::Right(Timed { answer: self.inner.call(request), until, timer: None })
    }
}

pin_project! {
    /// The future of [`WithDeadline`].
    pub struct Timed<F> {
        #[pin]
        answer: F,
        until: Instant,
        // Only for an answer that is not there at once: most are.
        timer: Option<Pin<Box<Sleep>>>,
    }
}

impl<F, Out, E> Future for Timed<F>
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
        let until = *this.until;
        let timer = this.timer.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(until.into())));
        timer.as_mut().poll(cx).map(|()| Ok(Status::from(ApiError::CutOff).into_http()))
    }
}

/// Reads `grpc-timeout`: at most eight digits and a unit. What is no such value means no deadline, as if it were
/// absent. Longer than a day is as good as a day, and cannot overflow a clock.
fn parse(text: &str) -> Option<Duration> {
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
    fn every_unit_is_read() {
        assert_eq!(parse("1H"), Some(Duration::from_secs(3_600)));
        assert_eq!(parse("2M"), Some(Duration::from_secs(120)));
        assert_eq!(parse("3S"), Some(Duration::from_secs(3)));
        assert_eq!(parse("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse("9u"), Some(Duration::from_micros(9)));
        assert_eq!(parse("9n"), Some(Duration::from_nanos(9)));
        assert_eq!(parse("99999999H"), Some(Duration::from_secs(86_400)));
    }

    #[test]
    fn anything_else_is_no_deadline() {
        for text in ["", "S", "1", "1x", "-1S", "123456789S", "1.5S", "1é"] {
            assert_eq!(parse(text), None, "{text:?}");
        }
    }

    /// How long a request with this `grpc-timeout` that nothing answers is waited for. The clock is tokio's own, which
    /// jumps to what is waited for.
    fn cut_off_after(timeout: Option<&'static str>) -> Duration {
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
    fn what_is_never_answered_is_cut_off_whatever_its_caller_says() {
        for (timeout, seconds) in [(None, 15), (Some("1H"), 15), (Some("3500m"), 4)] {
            // Deadlines are of the real clock, which goes on a little meanwhile.
            assert_eq!(cut_off_after(timeout).as_secs_f64().round(), f64::from(seconds), "{timeout:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
