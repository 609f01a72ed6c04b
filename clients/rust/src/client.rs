//! The client.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _};
use tenant_auth_proto::v1::{
    self, batch_validate_keys_result::Result as Outcome, info_service_client::InfoServiceClient,
    validation_service_client::ValidationServiceClient,
};
use tonic::Request;

use crate::{
    AdminClient, Answers, ClientBuilder, Error, NotAdmitted, PresentedKey, Principal, Question, ServerInfo,
    Validation,
    call::{RpcClient, invalid_reply, required_field},
    near::{CacheHandle, WatchState, apply_required_scopes},
    options,
    transport::Transport,
};

/// What the service takes at once.
const MAX_KEYS_PER_BATCH: usize = 1_000;

/// A connection to tenant-auth, and what it has answered so far. Clones share both.
#[derive(Clone, Debug)]
pub struct Client {
    rpc: RpcClient,
    cache: Option<CacheHandle>,
}

impl Client {
    /// Starts with an endpoint, such as `http://127.0.0.1:50051`.
    pub fn builder(endpoint: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(endpoint.into())
    }

    pub(crate) fn new(caller: RpcClient, memory: Option<CacheHandle>) -> Self {
        Self { rpc: caller, cache: memory }
    }

    /// The same client for calls that may take longer, or must not take as long; 24 h at most.
    ///
    /// # Errors
    /// [`Error::Setup`] for no time at all, or more than that.
    pub fn with_timeout(&self, timeout: Duration) -> Result<Self, Error> {
        let timeout = options::check_duration("timeout", timeout)?;
        Ok(Self { rpc: self.rpc.with_timeout(timeout), cache: self.cache.clone() })
    }

    /// Takes no more calls, from any clone: they fail with [`Error::Closed`]. Those under way go on, and the stream of
    /// invalidations ends. The connections end with the last clone. Idempotent.
    pub fn close(&self) {
        self.rpc.transport().close();
        if let Some(memory) = &self.cache {
            memory.close();
        }
    }

    /// Decides about one key. It must hold all of `required_scopes`; none means that any live key is good.
    ///
    /// # Errors
    /// When nothing could be decided. A denial is not an error.
    pub async fn validate(&self, key: &PresentedKey, required_scopes: &[&str]) -> Result<Validation, Error> {
        self.rpc.check_open()?;
        if key.is_over_max_len() {
            return Ok(Validation::malformed(None));
        }
        let Some(memory) = &self.cache else {
            return request_key_validation(self.rpc.clone(), validate_key_message(key, required_scopes))
                .await;
        };
        let near = memory.cache();
        let tag = near.key_tag(key.expose());
        if let Some(validation) = near.get(tag, required_scopes) {
            return Ok(validation);
        }
        // Without scopes: one answer serves all who ask about this key.
        let question = || request_key_validation(self.rpc.ignoring_close(), validate_key_message(key, &[]));
        let validation = self.with_call_timeout(near.get_or_request(tag, question)).await?;
        match apply_required_scopes(validation, required_scopes) {
            Some(validation) => Ok(validation),
            // What is wrong with these scopes is the service's to say.
            None => {
                request_key_validation(self.rpc.ignoring_close(), validate_key_message(key, required_scopes))
                    .await
            }
        }
    }

    /// Lets a key in that is good for all of `required_scopes`, and nobody else.
    ///
    /// # Errors
    /// [`NotAdmitted::Denied`] with every verdict but [`Verdict::Valid`](crate::Verdict::Valid);
    /// [`NotAdmitted::Undecided`] when nothing could be decided.
    pub async fn require(
        &self,
        key: &PresentedKey,
        required_scopes: &[&str],
    ) -> Result<Principal, NotAdmitted> {
        Ok(self.validate(key, required_scopes).await?.into_principal()?)
    }

    /// Decides about 1 to 1,000 keys at once. Outcomes keep the order of the questions.
    ///
    /// # Errors
    /// The outer one when the batch as a whole was not answered, the inner one when this key could not be decided.
    pub async fn validate_batch(
        &self,
        questions: &[Question],
    ) -> Result<Vec<Result<Validation, Error>>, Error> {
        if questions.len() > MAX_KEYS_PER_BATCH {
            let message =
                format!("{} keys are too many for one batch: it takes {MAX_KEYS_PER_BATCH}", questions.len());
            return Err(Error::Invalid { message, violations: Vec::new() });
        }
        let mut refused = Vec::with_capacity(questions.len());
        let mut requests = Vec::with_capacity(questions.len());
        for question in questions {
            match question.to_batch_message() {
                Ok(message) => {
                    requests.push(message);
                    refused.push(None);
                }
                Err(error) => refused.push(Some(error)),
            }
        }
        let asked = requests.len();
        if asked == 0 && !questions.is_empty() {
            self.rpc.check_open()?;
            return Ok(refused.into_iter().flatten().map(Err).collect());
        }
        let message = v1::BatchValidateKeysRequest { requests };
        let send = async |transport, request| {
            ValidationServiceClient::new(transport).batch_validate_keys(request).await
        };
        let results = self.rpc.call_hedged(message, send).await?.results;
        // Outcomes are matched by their place: one too few would give a key the verdict of another.
        if results.len() != asked {
            return Err(invalid_reply(format!(
                "{asked} keys were asked about and {} answered",
                results.len()
            )));
        }
        let outcome = |result: v1::BatchValidateKeysResult| match required_field(result.result, "outcome")? {
            Outcome::Response(message) => Validation::from_key_response(message),
            Outcome::Error(item) => Err(Error::from_item(&item)),
        };
        let mut outcomes = results.into_iter().map(outcome);
        let outcome = |refused: Option<Error>| match refused {
            Some(error) => Err(error),
            None => outcomes.next().unwrap_or_else(|| Err(invalid_reply("an outcome is missing"))),
        };
        Ok(refused.into_iter().map(outcome).collect())
    }

    /// Decides about keys as they come, each with a number of yours that comes back with its answer.
    ///
    /// Answers may overtake each other. A slow reader is held back: read while you send. When `check_key_queries` ends, the
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
            request: Some(question.to_message()),
        });
        self.rpc.check_open()?;
        let mut rpc = ValidationServiceClient::new(self.transport());
        // No `grpc-timeout`: it would end the stream, not only its opening.
        let opening = rpc.stream_validate_keys(Request::new(messages));
        match tokio::time::timeout(self.rpc.timeout(), opening).await {
            Ok(reply) => Ok(Answers::new(reply?.into_inner())),
            Err(_) => Err(Error::DeadlineExceeded),
        }
    }

    /// Describes the process that answers.
    ///
    /// # Errors
    /// When it did not answer.
    pub async fn server_info(&self) -> Result<ServerInfo, Error> {
        let send =
            async |transport, request| InfoServiceClient::new(transport).get_server_info(request).await;
        ServerInfo::from_wire(self.rpc.call_hedged(v1::GetServerInfoRequest {}, send).await?)
    }

    /// What is known from the service's stream of invalidations; `None` without a near-cache.
    #[must_use]
    pub fn watch_state(&self) -> Option<WatchState> {
        self.cache.as_ref().map(|memory| memory.cache().watch_state())
    }

    /// Administration, over the same connection.
    #[must_use]
    pub fn admin(&self) -> AdminClient {
        AdminClient::new(self.rpc.clone(), self.cache.clone())
    }

    /// The connections themselves, for a client of the generated code
    /// (`tenantauth::v1::…_client::…Client::new(client.transport())`): with the endpoints, TLS and caller token of this
    /// client, without its deadlines and retries. What such a call changes is forgotten by the near-cache: everything,
    /// since nobody knows what it is about.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.rpc.transport().raw(self.cache.as_ref().map(|memory| Arc::clone(memory.cache())))
    }

    pub(crate) fn rpc(&self) -> &RpcClient {
        &self.rpc
    }

    pub(crate) fn cache(&self) -> Option<&CacheHandle> {
        self.cache.as_ref()
    }

    /// Waits at most as long as a call may take.
    pub(crate) async fn with_call_timeout<T>(
        &self,
        answer: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(self.rpc.timeout(), answer).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::DeadlineExceeded),
        }
    }
}

fn validate_key_message(key: &PresentedKey, required_scopes: &[&str]) -> v1::ValidateKeyRequest {
    v1::ValidateKeyRequest {
        key: key.expose().to_owned(),
        required_scopes: required_scopes.iter().map(|scope| (*scope).to_owned()).collect(),
    }
}

async fn request_key_validation(
    caller: RpcClient,
    message: v1::ValidateKeyRequest,
) -> Result<Validation, Error> {
    let send = async |transport, request| ValidationServiceClient::new(transport).validate_key(request).await;
    Validation::from_key_response(caller.call_hedged(message, send).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn call_futures_are_send() {
        fn spawnable<T: Send>(_: T) {}
        let client = Client::builder("http://127.0.0.1:1").connect_lazy().unwrap();
        let key = PresentedKey::new("x");
        spawnable(client.validate(&key, &[]));
        spawnable(client.validate_batch(&[]));
        spawnable(client.validate_stream(futures::stream::empty()));
        spawnable(client.record_usage("id", Vec::new()));
        spawnable(client.query_usage_page(v1::QueryUsageRequest::default()));
        spawnable(client.admin().revoke_key("key", "reason"));
    }
}
