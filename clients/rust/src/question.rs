//! What is asked.

use tenant_auth_proto::v1;

use crate::{Error, PresentedKey};

/// Far beyond any key, in bytes: the service need not be asked, and a thousand of them fit into a batch.
pub(crate) const LONGEST_KEY: usize = 512;
/// The contract's bounds of required scopes: how many, and how long in bytes.
const MOST_SCOPES: usize = 32;
const LONGEST_SCOPE: usize = 64;

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
    pub(crate) fn message_for_batch(&self) -> Result<v1::ValidateKeyRequest, Error> {
        if self.key.is_far_too_long() {
            return Err(Error::field("key", &format!("must have at most {LONGEST_KEY} bytes")));
        }
        if self.required_scopes.len() > MOST_SCOPES {
            return Err(Error::field("required_scopes", &format!("must be at most {MOST_SCOPES}")));
        }
        match self.required_scopes.iter().position(|scope| scope.len() > LONGEST_SCOPE) {
            Some(place) => Err(Error::field(
                &format!("required_scopes[{place}]"),
                &format!("must have at most {LONGEST_SCOPE} characters"),
            )),
            None => Ok(self.message()),
        }
    }

    pub(crate) fn message(&self) -> v1::ValidateKeyRequest {
        v1::ValidateKeyRequest {
            key: self.key.expose().to_owned(),
            required_scopes: self.required_scopes.clone(),
        }
    }
}
