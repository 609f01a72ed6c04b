//! Decides whether the key of a request is valid; shared by the layers.

use std::{future::Future, sync::Arc};

use http::{HeaderName, header::AUTHORIZATION, request::Parts};

use super::{
    Rejection,
    client_address::ClientAddressSource,
    costs::Costs,
    credential::Credential,
    log::{LimitedLog, loggable_request_id},
};
use crate::{
    Client, ClientAddress, ConsumeRequest, Cost, Error, KeyQuery, Limits, NotAdmitted, PresentedKey,
    Principal,
};

/// The paths of the key in requests to validate it, and to take from its limits.
const KEY_FIELDS: [&str; 2] = ["key", "credential.key.key"];

/// Where the key of a request is read, and how it is validated.
#[derive(Clone, Debug)]
pub(crate) struct Authenticator {
    pub(crate) client: Client,
    pub(crate) key_headers: Vec<HeaderName>,
    pub(crate) client_address: ClientAddressSource,
    /// What requests cost; `None`: keys are only validated.
    pub(crate) costs: Option<Costs>,
    pub(crate) log: Arc<LimitedLog>,
}

/// A valid key and its owner.
pub(crate) struct Admitted {
    pub(crate) principal: Principal,
    pub(crate) key: PresentedKey,
    /// The client for the rest of the request, with the address of the customer.
    pub(crate) client: Client,
    /// What the limits said, if the request has costs.
    pub(crate) limits: Option<Limits>,
}

/// A request to admit.
struct Applicant<'a> {
    credential: Credential,
    request_id: Option<String>,
    address: Option<ClientAddress>,
    costs: Vec<Cost>,
    required_scopes: &'a [String],
}

impl Authenticator {
    pub(crate) fn new(client: Client) -> Self {
        let (key_headers, client_address) = (vec![AUTHORIZATION], ClientAddressSource::default());
        Self { client, key_headers, client_address, costs: None, log: Arc::default() }
    }

    /// Validates the key of a request, and takes its costs from the limits. It reads the request before the first await.
    pub(crate) fn admit<'a>(
        &'a self,
        request: &Parts,
        required_scopes: &'a [String],
    ) -> impl Future<Output = Result<Admitted, Rejection>> + Send + use<'a> {
        self.decide(Applicant {
            credential: Credential::read(&request.headers, &self.key_headers),
            request_id: loggable_request_id(&request.headers),
            address: self.client_address.read(&request.extensions, &request.headers),
            costs: self.costs.as_ref().map(|costs| costs.read(request)).unwrap_or_default(),
            required_scopes,
        })
    }

    async fn decide(&self, applicant: Applicant<'_>) -> Result<Admitted, Rejection> {
        let Applicant { credential, request_id, address, costs, required_scopes } = applicant;
        let key = match credential {
            Credential::Key(key) => key,
            Credential::None => return Err(Rejection::NoCredentials),
            Credential::Ambiguous => return Err(Rejection::Ambiguous),
            Credential::Malformed => return Err(Rejection::Malformed),
        };
        let client = self.client.with_client_address(address);
        let not_admitted = if costs.is_empty() {
            let scopes: Vec<_> = required_scopes.iter().map(String::as_str).collect();
            match client.require(&key, &scopes).await {
                Ok(principal) => return Ok(Admitted { principal, key, client, limits: None }),
                Err(not_admitted) => not_admitted,
            }
        } else {
            let query = KeyQuery { key, required_scopes: required_scopes.to_vec(), client_address: address };
            match consume(&client, query, costs).await {
                Ok((principal, key, limits)) => {
                    return Ok(Admitted { principal, key, client, limits: Some(limits) });
                }
                Err(not_admitted) => not_admitted,
            }
        };
        Err(self.rejection(not_admitted, request_id.as_deref()))
    }

    /// Returns the rejection for a key, and logs it if nothing was decided.
    pub(crate) fn rejection(&self, not_admitted: NotAdmitted, request_id: Option<&str>) -> Rejection {
        match not_admitted {
            NotAdmitted::Denied(denied) => Rejection::Denied(denied),
            // A key that breaks the contract is the customer's error; any other error is on this side.
            NotAdmitted::Undecided(Error::Invalid { violations, .. })
                if violations.iter().any(|violation| KEY_FIELDS.contains(&violation.field.as_str())) =>
            {
                Rejection::Malformed
            }
            NotAdmitted::Undecided(error) => {
                self.log.log_undecided(&error, request_id);
                Rejection::Undecided { retry_after_seconds: error.retry_after() }
            }
        }
    }
}

/// Takes the costs from the limits of a key, and returns its owner.
async fn consume(
    client: &Client,
    query: KeyQuery,
    costs: Vec<Cost>,
) -> Result<(Principal, PresentedKey, Limits), NotAdmitted> {
    let request = ConsumeRequest::new(query).costs(costs);
    let consumption = client.consume(&request).await?;
    let limits = consumption.limits.clone();
    Ok((consumption.into_principal()?, request.into_key(), limits))
}
