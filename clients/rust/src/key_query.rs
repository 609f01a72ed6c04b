//! A key to validate in a batch or on a stream.

use tenant_auth_proto::v1;

use crate::{ClientAddress, Error, PresentedKey};

/// Maximum key length in bytes, far beyond any real key. Longer keys are not sent, and a thousand of this
/// length fit in a batch.
pub(crate) const MAX_KEY_LEN: usize = 512;
/// Limits of the contract for required scopes: how many, and how long in bytes.
const MAX_SCOPES: usize = 32;
const MAX_SCOPE_LEN: usize = 64;

/// A key to validate, in a batch or on a stream.
#[derive(Debug)]
pub struct KeyQuery {
    /// The key exactly as the customer presented it, without a leading `Bearer `.
    pub key: PresentedKey,
    /// The scopes that the key must hold; with none, any live key is valid.
    pub required_scopes: Vec<String>,
    /// The address of the customer, if it is known.
    pub client_address: Option<ClientAddress>,
}

impl KeyQuery {
    /// Creates a query without required scopes: is the key live?
    #[must_use]
    pub fn new(key: PresentedKey) -> Self {
        Self { key, required_scopes: Vec::new(), client_address: None }
    }

    /// Sets the address of the customer, which keys that are limited to networks need.
    #[must_use]
    pub fn from_address(mut self, address: impl Into<ClientAddress>) -> Self {
        self.client_address = Some(address.into());
        self
    }

    /// Adds a scope that the key must hold.
    #[must_use]
    pub fn requires(mut self, scope: impl Into<String>) -> Self {
        self.required_scopes.push(scope.into());
        self
    }

    /// Returns the message, unless it could make the whole batch too large. The service reports other errors
    /// per key, without harm to the other keys.
    pub(crate) fn to_batch_message(&self) -> Result<v1::ValidateKeyRequest, Error> {
        if self.key.is_over_max_len() {
            return Err(Error::invalid_field("key", &format!("must have at most {MAX_KEY_LEN} bytes")));
        }
        if self.required_scopes.len() > MAX_SCOPES {
            return Err(Error::invalid_field("required_scopes", &format!("must be at most {MAX_SCOPES}")));
        }
        match self.required_scopes.iter().position(|scope| scope.len() > MAX_SCOPE_LEN) {
            Some(index) => Err(Error::invalid_field(
                &format!("required_scopes[{index}]"),
                &format!("must have at most {MAX_SCOPE_LEN} characters"),
            )),
            None => Ok(self.to_message()),
        }
    }

    pub(crate) fn to_message(&self) -> v1::ValidateKeyRequest {
        v1::ValidateKeyRequest {
            key: self.key.expose().to_owned(),
            required_scopes: self.required_scopes.clone(),
            client_address: address_text(self.client_address),
        }
    }
}

/// Returns the address as the contract writes it: empty if it is unknown.
pub(crate) fn address_text(address: Option<ClientAddress>) -> String {
    address.as_ref().map(ToString::to_string).unwrap_or_default()
}
