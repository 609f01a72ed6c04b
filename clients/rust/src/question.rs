//! What is asked.

use tenant_auth_proto::v1;

use crate::{Error, PresentedKey};

/// Far beyond any key, in bytes: the service need not be asked, and a thousand of them fit into a batch.
pub(crate) const MAX_KEY_LEN: usize = 512;
/// The contract's bounds of required scopes: how many, and how long in bytes.
const MAX_SCOPES: usize = 32;
const MAX_SCOPE_LEN: usize = 64;

/// A key to decide about, in a batch or on a stream.
#[derive(Debug)]
pub struct Question {
    /// The key exactly as the customer presented it, without a `Bearer ` in front.
    pub key: PresentedKey,
    /// Scopes the key must hold, all of them; none means that any live key is good.
    pub required_scopes: Vec<String>,
}

impl Question {
    /// Whether a key is live.
    #[must_use]
    pub fn new(key: PresentedKey) -> Self {
        Self { key, required_scopes: Vec::new() }
    }

    /// Whether it holds this scope, too.
    #[must_use]
    pub fn requires(mut self, scope: impl Into<String>) -> Self {
        self.required_scopes.push(scope.into());
        self
    }

    /// The message, unless it could make a whole batch too large. What else may be wrong with it is the service's to say:
    /// that harms no other.
    pub(crate) fn to_batch_message(&self) -> Result<v1::ValidateKeyRequest, Error> {
        if self.key.is_over_max_len() {
            return Err(Error::invalid_field("key", &format!("must have at most {MAX_KEY_LEN} bytes")));
        }
        if self.required_scopes.len() > MAX_SCOPES {
            return Err(Error::invalid_field("required_scopes", &format!("must be at most {MAX_SCOPES}")));
        }
        match self.required_scopes.iter().position(|scope| scope.len() > MAX_SCOPE_LEN) {
            Some(place) => Err(Error::invalid_field(
                &format!("required_scopes[{place}]"),
                &format!("must have at most {MAX_SCOPE_LEN} characters"),
            )),
            None => Ok(self.to_message()),
        }
    }

    pub(crate) fn to_message(&self) -> v1::ValidateKeyRequest {
        v1::ValidateKeyRequest {
            key: self.key.expose().to_owned(),
            required_scopes: self.required_scopes.clone(),
        }
    }
}
