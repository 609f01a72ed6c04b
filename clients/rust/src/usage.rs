//! Usage: what tenants consumed.

use futures::{Stream, TryStreamExt as _, stream};
use tenant_auth_proto::v1::{self, usage_service_client::UsageServiceClient};

use crate::{
    Client, Error,
    call::{invalid_reply, required_field},
};

/// The outcome of recording usage.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct RecordedUsage {
    /// Number of events that are counted.
    pub accepted: usize,
    /// The other events by index, each with the reason why it can never be counted.
    pub rejected: Vec<(usize, Error)>,
    /// Whether an earlier call with this request id recorded them.
    pub already_recorded: bool,
}

impl Client {
    /// Records 1 to 500 events. `Ok` means that each is committed, or can never be counted.
    ///
    /// After a transient error, send the same events with the same request id again, within 35 days (unless
    /// the service is configured otherwise): they are counted once, even if the first call was recorded. A
    /// [`UsageRecorder`](crate::UsageRecorder) does this automatically.
    ///
    /// # Errors
    /// [`Error::AlreadyExists`] if the request id was used for other events. [`Error::Overloaded`] if the
    /// queue is full.
    pub async fn record_usage(
        &self,
        request_id: &str,
        events: Vec<v1::UsageEvent>,
    ) -> Result<RecordedUsage, Error> {
        let count = events.len();
        let message = v1::RecordUsageRequest { request_id: request_id.to_owned(), events };
        let send = async |transport, request| UsageServiceClient::new(transport).record_usage(request).await;
        let reply = self.rpc().call_retried(message, send).await?;
        let number = |number: i32| {
            usize::try_from(number).map_err(|_| invalid_reply("the response has a negative number"))
        };
        let rejected = |event: v1::RejectedUsageEvent| {
            Ok((number(event.index)?, Error::from_item(&required_field(event.error, "error")?)))
        };
        let accepted = number(reply.accepted)?;
        let rejected = reply.rejected.into_iter().map(rejected).collect::<Result<Vec<_>, Error>>()?;
        if accepted + rejected.len() != count {
            let settled = accepted + rejected.len();
            return Err(invalid_reply(format!("the response has {settled} results for {count} events")));
        }
        Ok(RecordedUsage { accepted, rejected, already_recorded: reply.already_recorded })
    }

    /// Returns a stream of the totals of a tenant, ordered by time, then by metric. Pages are read as items
    /// are consumed, starting with the page of the request.
    ///
    /// The stream ends after the first error.
    pub fn query_usage(
        &self,
        request: v1::QueryUsageRequest,
    ) -> impl Stream<Item = Result<v1::UsageSum, Error>> + Send + Unpin + use<> {
        let client = self.clone();
        let next = move |request: Option<v1::QueryUsageRequest>| {
            let client = client.clone();
            async move {
                let Some(request) = request else { return Ok(None) };
                let page = client.query_usage_page(request.clone()).await?;
                let token = Some(page.next_page_token).filter(|token| !token.is_empty());
                let rest = token.map(|page_token| v1::QueryUsageRequest { page_token, ..request });
                Ok::<_, Error>(Some((stream::iter(page.sums.into_iter().map(Ok)), rest)))
            }
        };
        Box::pin(stream::try_unfold(Some(request), next).try_flatten())
    }

    /// Returns one page of the totals.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the tenant does not exist. [`Error::Invalid`] for a page token of another
    /// query.
    pub async fn query_usage_page(
        &self,
        request: v1::QueryUsageRequest,
    ) -> Result<v1::QueryUsageResponse, Error> {
        let send = async |transport, request| UsageServiceClient::new(transport).query_usage(request).await;
        self.rpc().call_hedged(request, send).await
    }
}
