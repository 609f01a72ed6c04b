//! `Debug` for the messages that carry a plaintext key. One line too many in a log must not give a key away.

use std::fmt;

use super::{
    BindSessionRequest, ExplainKeyRequest, IssueKeyResponse, ReportLeakRequest, RotateKeyResponse,
    ValidateKeyRequest, ValidateSessionRequest,
};

/// Stands where the key would be; tells only whether there was one.
fn redacted(secret: &str) -> &'static str {
    if secret.is_empty() { "" } else { "[redacted]" }
}

impl fmt::Debug for ValidateKeyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValidateKeyRequest")
            .field("key", &redacted(&self.key))
            .field("required_scopes", &self.required_scopes)
            .field("client_address", &self.client_address)
            .finish()
    }
}

impl fmt::Debug for ValidateSessionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ValidateSessionRequest")
            .field("session_id", &self.session_id)
            .field("key", &redacted(&self.key))
            .field("required_scopes", &self.required_scopes)
            .field("client_address", &self.client_address)
            .finish()
    }
}

impl fmt::Debug for BindSessionRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BindSessionRequest")
            .field("session_id", &self.session_id)
            .field("key", &redacted(&self.key))
            .field("ttl", &self.ttl)
            .field("expiry", &self.expiry)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for IssueKeyResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IssueKeyResponse")
            .field("key", &self.key)
            .field("plaintext", &redacted(&self.plaintext))
            .finish()
    }
}

impl fmt::Debug for RotateKeyResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RotateKeyResponse")
            .field("key", &self.key)
            .field("plaintext", &redacted(&self.plaintext))
            .field("replaced", &self.replaced)
            .finish()
    }
}

impl fmt::Debug for ExplainKeyRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExplainKeyRequest")
            .field("key_id", &self.key_id)
            .field("plaintext", &redacted(&self.plaintext))
            .field("required_scopes", &self.required_scopes)
            .field("client_address", &self.client_address)
            .finish()
    }
}

impl fmt::Debug for ReportLeakRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReportLeakRequest")
            .field("plaintext", &redacted(&self.plaintext))
            .field("source", &self.source)
            .field("location", &self.location)
            .field("type", &self.r#type)
            .finish_non_exhaustive()
    }
}
