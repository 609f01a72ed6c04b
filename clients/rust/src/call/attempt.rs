//! One attempt of a call: on one replica, or on two if the first is slow.

use std::{future::Future, pin::pin, sync::Arc, time::Duration};

use futures::future::{Either, select};
use tokio::time::{Instant, sleep, timeout};
use tonic::{Request, Response, Status};

use super::retry_budget::RetryBudget;
use crate::{
    Error,
    transport::{Route, Transport},
};

pub(super) struct Attempt<'a, M, S> {
    pub(super) transport: &'a Transport,
    pub(super) timeout: Duration,
    pub(super) hedge_after: Duration,
    pub(super) message: &'a M,
    pub(super) send: &'a S,
}

impl<M, S> Attempt<'_, M, S>
where
    M: Clone,
{
    /// Sends the message along a route. If there is no response after `hedge_after`, the connection is
    /// pinged. With a budget for `hedges`, the message is also sent to another replica; the first response
    /// wins.
    pub(super) async fn run<R, F>(&self, route: &Arc<Route>, hedges: Option<&RetryBudget>) -> Result<R, Error>
    where
        S: Fn(Transport, Request<M>) -> F,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let attempt = async {
            let mut first = pin!(self.send_on_route(Arc::clone(route)));
            // Counted from when the request is sent: the wait for a connection does not count.
            let mut due = None;
            let other = loop {
                let due_at = due.or_else(|| Some(route.sent_at()? + self.hedge_after));
                let wait =
                    due_at.map_or(self.hedge_after, |due| due.saturating_duration_since(Instant::now()));
                match select(first.as_mut(), pin!(sleep(wait))).await {
                    Either::Left((outcome, _)) => return outcome,
                    Either::Right(((), _)) => {}
                }
                let now = Instant::now();
                let Some(connection) = route.connection().filter(|_| due_at.is_some_and(|due| due <= now))
                else {
                    continue;
                };
                due = Some(now + self.hedge_after);
                connection.ping();
                let Some(budget) = hedges else { continue };
                if let Some(other) =
                    self.transport.alternative_to(connection).filter(|_| budget.try_withdraw())
                {
                    break other;
                }
            };
            let second = Route::fixed(other);
            let second = pin!(self.send_on_route(Arc::new(second)));
            match select(first, second).await {
                Either::Left((Err(error), second)) if error.is_transient() => second.await,
                Either::Right((Err(error), first)) if error.is_transient() => first.await,
                Either::Left((outcome, _)) | Either::Right((outcome, _)) => outcome,
            }
        };
        // The `grpc-timeout` header alone would limit only the response headers, not the body.
        timeout(self.timeout, attempt).await.unwrap_or(Err(Error::DeadlineExceeded))
    }

    async fn send_on_route<R, F>(&self, route: Arc<Route>) -> Result<R, Error>
    where
        S: Fn(Transport, Request<M>) -> F,
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let mut request = Request::new(self.message.clone());
        // Sends the limit to the service as `grpc-timeout`.
        request.set_timeout(self.timeout);
        Ok((self.send)(self.transport.routed(route), request).await?.into_inner())
    }
}
