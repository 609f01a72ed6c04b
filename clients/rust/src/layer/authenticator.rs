//! Decides whether the key of a request is valid; shared by the layers.

use std::{future::Future, sync::Arc};

use http::{Extensions, HeaderMap, HeaderName, header::AUTHORIZATION};

use super::{
    Rejection,
    client_address::ClientAddressSource,
    credential::Credential,
    log::{LimitedLog, loggable_request_id},
};
use crate::{Client, ClientAddress, Error, NotAdmitted, PresentedKey, Principal};

/// Where the key of a request is read, and how it is validated.
#[derive(Clone, Debug)]
pub(crate) struct Authenticator {
    pub(crate) client: Client,
    pub(crate) key_headers: Vec<HeaderName>,
    pub(crate) client_address: ClientAddressSource,
    pub(crate) log: Arc<LimitedLog>,
}

/// A valid key and its owner.
pub(crate) struct Admitted {
    pub(crate) principal: Principal,
    pub(crate) key: PresentedKey,
    /// The client for the rest of the request, with the address of the customer.
    pub(crate) client: Client,
}

impl Authenticator {
    pub(crate) fn new(client: Client) -> Self {
        let (key_headers, client_address) = (vec![AUTHORIZATION], ClientAddressSource::default());
        Self { client, key_headers, client_address, log: Arc::default() }
    }

    /// Validates the key of a request. It reads the request before the first await: the headers of a request need not be
    /// shareable between threads.
    pub(crate) fn admit<'a>(
        &'a self,
        headers: &HeaderMap,
        extensions: &Extensions,
        required_scopes: &'a [String],
    ) -> impl Future<Output = Result<Admitted, Rejection>> + Send + use<'a> {
        let credential = Credential::read(headers, &self.key_headers);
        let request_id = loggable_request_id(headers);
        let address = self.client_address.read(extensions, headers);
        self.validate(credential, request_id, address, required_scopes)
    }

    async fn validate(
        &self,
        credential: Credential,
        request_id: Option<String>,
        address: Option<ClientAddress>,
        required_scopes: &[String],
    ) -> Result<Admitted, Rejection> {
        let key = match credential {
            Credential::Key(key) => key,
            Credential::None => return Err(Rejection::NoCredentials),
            Credential::Ambiguous => return Err(Rejection::Ambiguous),
            Credential::Malformed => return Err(Rejection::Malformed),
        };
        let scopes: Vec<_> = required_scopes.iter().map(String::as_str).collect();
        let client = self.client.with_client_address(address);
        match client.require(&key, &scopes).await {
            Ok(principal) => Ok(Admitted { principal, key, client }),
            Err(not_admitted) => Err(self.rejection(not_admitted, request_id.as_deref())),
        }
    }

    /// Returns the rejection for a key, and logs it if nothing was decided.
    pub(crate) fn rejection(&self, not_admitted: NotAdmitted, request_id: Option<&str>) -> Rejection {
        match not_admitted {
            NotAdmitted::Denied(denied) => Rejection::Denied(denied),
            // A key that breaks the contract is the customer's error; any other error is on this side.
            NotAdmitted::Undecided(Error::Invalid { violations, .. })
                if violations.iter().any(|violation| violation.field == "key") =>
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
