//! What is asked.

use tenant_auth_proto::v1;

use crate::PresentedKey;

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

    pub(crate) fn message(&self) -> v1::ValidateKeyRequest {
        v1::ValidateKeyRequest {
            key: self.key.expose().to_owned(),
            required_scopes: self.required_scopes.clone(),
        }
    }
}
