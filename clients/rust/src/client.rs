//! The client of tenant-auth: validation of keys, singly, in batches and on a stream.

use std::{sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _};
use tenant_auth_proto::v1::{
    self, batch_validate_keys_result::Result as Outcome, info_service_client::InfoServiceClient,
    validation_service_client::ValidationServiceClient,
};
use tonic::Request;

use crate::{
    AdminClient, Answers, ClientAddress, ClientBuilder, Error, KeyQuery, NotAdmitted, PresentedKey,
    Principal, PrincipalVerifier, ServerInfo, Validation,
    call::{RpcClient, invalid_reply, required_field},
    guard::GuardRegistry,
    key_query::address_text,
    near::{CacheHandle, Requirements, WatchState, apply_requirements},
    options,
    transport::Transport,
};

/// Maximum keys of one batch that the service accepts.
const MAX_KEYS_PER_BATCH: usize = 1_000;

/// A client of tenant-auth with its connections and its near-cache. Clones share both.
#[derive(Clone, Debug)]
pub struct Client {
    rpc: RpcClient,
    cache: Option<CacheHandle>,
    client_address: Option<ClientAddress>,
    guards: Arc<GuardRegistry>,
}

impl Client {
    /// Starts a builder with an endpoint, such as `http://127.0.0.1:50051`.
    pub fn builder(endpoint: impl Into<String>) -> ClientBuilder {
        ClientBuilder::new(endpoint.into())
    }

    pub(crate) fn new(rpc: RpcClient, cache: Option<CacheHandle>, guards: Arc<GuardRegistry>) -> Self {
        Self { rpc, cache, client_address: None, guards }
    }

    /// Returns the same client with another timeout, for calls that take longer or must be faster; 24 h at
    /// most.
    ///
    /// # Errors
    /// [`Error::Setup`] for zero, or more than 24 h.
    pub fn with_timeout(&self, timeout: Duration) -> Result<Self, Error> {
        let timeout = options::check_duration("timeout", timeout)?;
        Ok(Self { rpc: self.rpc.with_timeout(timeout), ..self.clone() })
    }

    /// Returns the same client for requests of a customer at an address, which keys that are limited to networks need.
    /// `None`: the address is unknown. Queries of batches and streams have an address of their own.
    ///
    /// Take the address from the connection, or from a header of a proxy that you trust; never from a header that the
    /// customer can set. [`AuthenticateLayer`](crate::AuthenticateLayer) does so.
    #[must_use]
    pub fn with_client_address(&self, address: impl Into<Option<ClientAddress>>) -> Self {
        Self { client_address: address.into(), ..self.clone() }
    }

    /// Closes the client and all its clones: new calls fail with [`Error::Closed`]. Calls in flight continue,
    /// and the invalidation stream ends. The connections end when the last clone is dropped. Idempotent.
    pub fn close(&self) {
        self.rpc.transport().close();
        if let Some(handle) = &self.cache {
            handle.close();
        }
    }

    /// Validates one key. It must hold all of `required_scopes`; with none, any live key is valid.
    ///
    /// # Errors
    /// If nothing could be decided. A denial is not an error.
    pub async fn validate(&self, key: &PresentedKey, required_scopes: &[&str]) -> Result<Validation, Error> {
        self.rpc.check_open()?;
        if key.is_over_max_len() {
            return Ok(Validation::malformed(None));
        }
        let required = self.requirements(required_scopes);
        let Some(handle) = &self.cache else {
            return request_key_validation(self.rpc.clone(), validate_key_message(key, required)).await;
        };
        let cache = handle.cache();
        let tag = cache.key_tag(key.expose());
        if let Some(validation) = cache.get(tag, required) {
            return Ok(validation);
        }
        // Without scopes: one response serves all concurrent requests for this key.
        let request = || {
            let message = validate_key_message(key, self.requirements(&[]));
            request_key_validation(self.rpc.ignoring_close(), message)
        };
        let validation = self.with_call_timeout(cache.get_or_request(tag, request)).await?;
        match apply_requirements(validation, required) {
            Some(validation) => Ok(validation),
            // The scopes are invalid: the service reports what is wrong with them.
            None => {
                let message = validate_key_message(key, required);
                request_key_validation(self.rpc.ignoring_close(), message).await
            }
        }
    }

    /// Validates one key and returns its principal if it is valid for all of `required_scopes`.
    ///
    /// # Errors
    /// [`NotAdmitted::Denied`] for every verdict except [`Verdict::Valid`](crate::Verdict::Valid);
    /// [`NotAdmitted::Undecided`] if nothing could be decided.
    pub async fn require(
        &self,
        key: &PresentedKey,
        required_scopes: &[&str],
    ) -> Result<Principal, NotAdmitted> {
        Ok(self.validate(key, required_scopes).await?.into_principal()?)
    }

    /// Validates 1 to 1,000 keys in one call. The outcomes keep the order of the queries.
    ///
    /// # Errors
    /// The outer error if the whole batch failed, the inner one if this key could not be decided.
    pub async fn validate_batch(
        &self,
        queries: &[KeyQuery],
    ) -> Result<Vec<Result<Validation, Error>>, Error> {
        if queries.len() > MAX_KEYS_PER_BATCH {
            let message =
                format!("{} keys are too many for one batch: at most {MAX_KEYS_PER_BATCH}", queries.len());
            return Err(Error::Invalid { message, violations: Vec::new() });
        }
        let mut rejected = Vec::with_capacity(queries.len());
        let mut requests = Vec::with_capacity(queries.len());
        for query in queries {
            match query.to_batch_message() {
                Ok(message) => {
                    requests.push(message);
                    rejected.push(None);
                }
                Err(error) => rejected.push(Some(error)),
            }
        }
        let sent = requests.len();
        if sent == 0 && !queries.is_empty() {
            self.rpc.check_open()?;
            return Ok(rejected.into_iter().flatten().map(Err).collect());
        }
        let message = v1::BatchValidateKeysRequest { requests };
        let send = async |transport, request| {
            ValidationServiceClient::new(transport).batch_validate_keys(request).await
        };
        let results = self.rpc.call_hedged(message, send).await?.results;
        // Outcomes are matched by their index: a missing one would give a key the verdict of another.
        if results.len() != sent {
            return Err(invalid_reply(format!("the response has {} results for {sent} keys", results.len())));
        }
        let outcome = |result: v1::BatchValidateKeysResult| match required_field(result.result, "outcome")? {
            Outcome::Response(message) => Validation::from_key_response(message),
            Outcome::Error(item) => Err(Error::from_item(&item)),
        };
        let mut outcomes = results.into_iter().map(outcome);
        let outcome = |rejected: Option<Error>| match rejected {
            Some(error) => Err(error),
            None => outcomes.next().unwrap_or_else(|| Err(invalid_reply("an outcome is missing"))),
        };
        Ok(rejected.into_iter().map(outcome).collect())
    }

    /// Validates keys as they arrive. Each has a correlation id of yours, which is returned with its answer.
    ///
    /// Answers may arrive in another order. Backpressure applies: read answers while you send. When
    /// `queries` ends, the stream ends after the last answer. The timeout limits the opening, not the
    /// stream.
    ///
    /// # Errors
    /// If the stream could not be opened.
    pub async fn validate_stream<S>(&self, queries: S) -> Result<Answers, Error>
    where
        S: Stream<Item = (u64, KeyQuery)> + Send + 'static,
    {
        let messages = queries.map(|(correlation_id, query)| v1::StreamValidateKeysRequest {
            correlation_id,
            request: Some(query.to_message()),
        });
        self.rpc.check_open()?;
        let mut rpc = ValidationServiceClient::new(self.transport());
        // No `grpc-timeout`: it would limit the whole stream, not only its opening.
        let opening = rpc.stream_validate_keys(Request::new(messages));
        match tokio::time::timeout(self.rpc.timeout(), opening).await {
            Ok(reply) => Ok(Answers::new(reply?.into_inner())),
            Err(_) => Err(Error::DeadlineExceeded),
        }
    }

    /// Returns the build and the status of the answering process.
    ///
    /// # Errors
    /// If no process answered.
    pub async fn server_info(&self) -> Result<ServerInfo, Error> {
        let send =
            async |transport, request| InfoServiceClient::new(transport).get_server_info(request).await;
        ServerInfo::from_wire(self.rpc.call_hedged(v1::GetServerInfoRequest {}, send).await?)
    }

    /// Waits until the answering replica (no other) has applied a revision, and returns whether it has, with its state.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a revision below 1, or a timeout of more than 10 s.
    pub async fn wait_for_revision(
        &self,
        revision: i64,
        timeout: Duration,
    ) -> Result<v1::WaitForRevisionResponse, Error> {
        let timeout = Some(prost_types::Duration::try_from(timeout).unwrap_or_default());
        let request = v1::WaitForRevisionRequest { revision, timeout };
        let send =
            async |transport, request| InfoServiceClient::new(transport).wait_for_revision(request).await;
        self.rpc.call_once(request, send).await
    }

    /// Returns a verifier of the principal tokens for an audience; keep it, because it holds the keys.
    ///
    /// # Errors
    /// [`Error::Setup`] for an empty audience.
    pub fn principal_verifier(&self, audience: &str) -> Result<PrincipalVerifier, Error> {
        PrincipalVerifier::new(self.clone(), audience)
    }

    /// Returns the state of the invalidation stream; `None` without a near-cache.
    #[must_use]
    pub fn watch_state(&self) -> Option<WatchState> {
        self.cache.as_ref().map(|handle| handle.cache().watch_state())
    }

    /// Returns a client for administration over the same connections.
    #[must_use]
    pub fn admin(&self) -> AdminClient {
        AdminClient::new(self.rpc.clone(), self.cache.clone())
    }

    /// Returns the connections for a client of the generated code
    /// (`tenantauth::v1::…_client::…Client::new(client.transport())`): with the endpoints, TLS and caller
    /// token of this client, without its deadlines and retries. After a call that may change something, the
    /// whole near-cache is cleared, because this client does not know what the call changed.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.rpc.transport().raw(self.cache.as_ref().map(|handle| Arc::clone(handle.cache())))
    }

    /// Returns the requirements of a call: these scopes, and the address of the customer.
    pub(crate) fn requirements<'a>(&self, scopes: &'a [&'a str]) -> Requirements<'a> {
        Requirements { scopes, client_address: self.client_address }
    }

    pub(crate) fn rpc(&self) -> &RpcClient {
        &self.rpc
    }

    pub(crate) fn guards(&self) -> &Arc<GuardRegistry> {
        &self.guards
    }

    pub(crate) fn cache(&self) -> Option<&CacheHandle> {
        self.cache.as_ref()
    }

    /// Limits a future to the timeout of a call.
    pub(crate) async fn with_call_timeout<T>(
        &self,
        call: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        match tokio::time::timeout(self.rpc.timeout(), call).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::DeadlineExceeded),
        }
    }
}

fn validate_key_message(key: &PresentedKey, required: Requirements<'_>) -> v1::ValidateKeyRequest {
    v1::ValidateKeyRequest {
        key: key.expose().to_owned(),
        required_scopes: required.scopes.iter().map(|scope| (*scope).to_owned()).collect(),
        client_address: address_text(required.client_address),
    }
}

async fn request_key_validation(
    rpc: RpcClient,
    message: v1::ValidateKeyRequest,
) -> Result<Validation, Error> {
    let send = async |transport, request| ValidationServiceClient::new(transport).validate_key(request).await;
    Validation::from_key_response(rpc.call_hedged(message, send).await?)
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
        let verifier = client.principal_verifier("billing").unwrap();
        spawnable(verifier.verify("token", &[]));
    }
}
