//! The client.

use std::time::Duration;

use futures::{Stream, StreamExt as _};
use tenant_auth_proto::v1::{
    self, batch_validate_keys_result::Result as Outcome, info_service_client::InfoServiceClient,
    validation_service_client::ValidationServiceClient,
};
use tonic::{Request, transport::Channel};

use crate::{
    AdminClient, Answers, ClientBuilder, Error, PresentedKey, Question, ServerInfo, Validation,
    call::{broken, present, within},
};

/// A connection to tenant-auth. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    channel: Channel,
    timeout: Duration,
}

impl Client {
    /// Starts with an endpoint, such as `http://127.0.0.1:50051`.
    pub fn builder(endpoint: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(endpoint.into())
    }

    pub(crate) fn new(channel: Channel, timeout: Duration) -> Self {
        Self { channel, timeout }
    }

    /// Decides about one key. It must hold all of `required_scopes`; none means that any live key is good.
    ///
    /// # Errors
    /// When nothing could be decided. A denial is not an error.
    pub async fn validate(&self, key: &PresentedKey, required_scopes: &[&str]) -> Result<Validation, Error> {
        let message = v1::ValidateKeyRequest {
            key: key.expose().to_owned(),
            required_scopes: required_scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        };
        let mut rpc = self.validation();
        let send = async move |request| rpc.validate_key(request).await;
        Validation::from_wire(within(self.timeout, message, send).await?)
    }

    /// Decides about 1 to 1,000 keys at once. Outcomes keep the order of the questions.
    ///
    /// # Errors
    /// The outer one when the batch as a whole was not answered, the inner one when this key could not be decided.
    pub async fn validate_batch(
        &self,
        questions: &[Question],
    ) -> Result<Vec<Result<Validation, Error>>, Error> {
        let message =
            v1::BatchValidateKeysRequest { requests: questions.iter().map(Question::message).collect() };
        let mut rpc = self.validation();
        let send = async move |request| rpc.batch_validate_keys(request).await;
        let results = within(self.timeout, message, send).await?.results;
        // Outcomes are matched by their place: one too few would give a key the verdict of another.
        if results.len() != questions.len() {
            return Err(broken(format!(
                "{} keys were asked about and {} answered",
                questions.len(),
                results.len()
            )));
        }
        let outcome = |result: v1::BatchValidateKeysResult| match present(result.result, "outcome")? {
            Outcome::Response(message) => Validation::from_wire(message),
            Outcome::Error(item) => Err(Error::from_item(&item)),
        };
        Ok(results.into_iter().map(outcome).collect())
    }

    /// Decides about keys as they come, each with a number of yours that comes back with its answer.
    ///
    /// Answers may overtake each other. A slow reader is held back: read while you send. When `questions` ends, the
    /// answers end after the last one is out. The timeout bounds the opening, not the stream.
    ///
    /// # Errors
    /// When the stream could not be opened.
    pub async fn validate_stream<S>(&self, questions: S) -> Result<Answers, Error>
    where
        S: Stream<Item = (u64, Question)> + Send + 'static,
    {
        let messages = questions.map(|(correlation_id, question)| v1::StreamValidateKeysRequest {
            correlation_id,
            request: Some(question.message()),
        });
        let mut rpc = self.validation();
        // No `grpc-timeout`: it would end the stream, not only its opening.
        let opening = rpc.stream_validate_keys(Request::new(messages));
        match tokio::time::timeout(self.timeout, opening).await {
            Ok(reply) => Ok(Answers::new(reply?.into_inner())),
            Err(_) => Err(Error::DeadlineExceeded),
        }
    }

    /// Describes the process that answers.
    ///
    /// # Errors
    /// When it did not answer.
    pub async fn server_info(&self) -> Result<ServerInfo, Error> {
        let mut rpc = InfoServiceClient::new(self.channel.clone());
        let send = async move |request| rpc.get_server_info(request).await;
        let reply = within(self.timeout, v1::GetServerInfoRequest {}, send).await?;
        ServerInfo::from_wire(reply)
    }

    /// Administration, over the same connection.
    #[must_use]
    pub fn admin(&self) -> AdminClient {
        AdminClient::new(self.channel.clone(), self.timeout)
    }

    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    pub(crate) fn timeout(&self) -> Duration {
        self.timeout
    }

    fn validation(&self) -> ValidationServiceClient<Channel> {
        ValidationServiceClient::new(self.channel.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn calls_can_be_spawned() {
        fn spawnable<T: Send>(_: T) {}
        let client = Client::builder("http://127.0.0.1:1").connect_lazy().unwrap();
        let key = PresentedKey::new("x");
        spawnable(client.validate(&key, &[]));
        spawnable(client.validate_batch(&[]));
        spawnable(client.validate_stream(futures::stream::empty()));
        spawnable(client.record_usage("id", Vec::new()));
        spawnable(client.query_usage(v1::QueryUsageRequest::default()));
        spawnable(client.admin().revoke_key("key", "reason"));
    }
}
