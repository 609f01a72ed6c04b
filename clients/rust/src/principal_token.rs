//! Principal tokens: statements about an admitted key, which a proxy in front of a service passes on in `x-tenant-principal`.

mod error;
mod keys;
#[allow(dead_code, reason = "the service uses more of this file")]
#[path = "../../../tenant-auth-svc/src/forward/principal/provider.rs"]
mod provider;
mod token;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tenant_auth_proto::v1::{self, info_service_client::InfoServiceClient};

pub use self::error::PrincipalRejected;
use self::{
    keys::KeyStore,
    token::{Claims, TokenHeader},
};
use crate::{Client, Error, call::RpcClient, clock::SystemClock, options::setup_error};

/// What a principal token says.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifiedPrincipal {
    /// The id of the tenant.
    pub tenant_id: String,
    /// The public id of the key; safe to log.
    pub key_id: String,
    /// The plan of the tenant, an opaque label.
    pub plan: String,
    /// The scopes of the key; see `omitted_scopes`.
    pub scopes: Vec<String>,
    /// How many scopes of the key did not fit into the token.
    pub omitted_scopes: u32,
    /// The change-log revision that the token reflects.
    pub revision: i64,
    /// When it was signed.
    pub issued_at: SystemTime,
    /// When it expires: at most 60 s later.
    pub expires_at: SystemTime,
}

/// Verifies principal tokens for one audience. Clones share the public keys.
///
/// It gets the keys from the service, and keeps them through an outage. A token is refused as outdated once the
/// near-cache has received a change of its key or its tenant. Without a near-cache, or while its stream is interrupted, a token
/// is honoured until it expires: for at most 60 s.
#[derive(Clone)]
pub struct PrincipalVerifier {
    client: Client,
    audience: Arc<str>,
    keys: Arc<KeyStore>,
    now: Arc<dyn Fn() -> SystemTime + Send + Sync>,
}

impl fmt::Debug for PrincipalVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PrincipalVerifier").field("audience", &self.audience).finish_non_exhaustive()
    }
}

impl PrincipalVerifier {
    /// # Errors
    /// [`Error::Setup`] for an empty audience.
    pub(crate) fn new(client: Client, audience: &str) -> Result<Self, Error> {
        provider::install();
        if audience.is_empty() {
            return Err(setup_error("audience: must not be empty".to_owned()));
        }
        let keys = Arc::new(KeyStore::new(Arc::new(SystemClock)));
        Ok(Self { client, audience: audience.into(), keys, now: Arc::new(SystemTime::now) })
    }

    /// Returns the same verifier with another source of the time of day, for tests.
    #[must_use]
    pub fn with_time(self, now: impl Fn() -> SystemTime + Send + Sync + 'static) -> Self {
        Self { now: Arc::new(now), ..self }
    }

    /// Verifies a token, which must have all of `required_scopes`.
    ///
    /// # Errors
    /// [`PrincipalRejected`]. It never contains the token.
    pub async fn verify(
        &self,
        token: &str,
        required_scopes: &[&str],
    ) -> Result<VerifiedPrincipal, PrincipalRejected> {
        let header = TokenHeader::parse(token)?;
        let fetch = || fetch_keys(self.client.rpc().clone());
        let (issuer, key) = self.keys.key(&header.key_id, fetch).await?;
        let claims = header.verify(token, &key, (&issuer, &self.audience), (self.now)())?;
        if let Some(handle) = self.client.cache()
            && handle.cache().has_changed_since(&claims.key_id, &claims.sub, claims.rev)
        {
            return Err(PrincipalRejected::Outdated);
        }
        principal(claims, required_scopes)
    }
}

async fn fetch_keys(rpc: RpcClient) -> Result<v1::GetPrincipalKeysResponse, Error> {
    let send = async |transport, request| InfoServiceClient::new(transport).get_principal_keys(request).await;
    rpc.call_hedged(v1::GetPrincipalKeysRequest {}, send).await
}

fn principal(claims: Claims, required_scopes: &[&str]) -> Result<VerifiedPrincipal, PrincipalRejected> {
    let scopes: Vec<_> = claims.scope.split_ascii_whitespace().map(str::to_owned).collect();
    let is_missing = |required: &&str| !scopes.iter().any(|scope| scope == required);
    let missing: Vec<_> = required_scopes.iter().copied().filter(is_missing).map(str::to_owned).collect();
    if !missing.is_empty() {
        return Err(match claims.scope_omitted {
            0 => PrincipalRejected::MissingScopes(missing),
            // The key may hold them: the token cannot say.
            _ => PrincipalRejected::Undecided(Error::Unavailable {
                message: "the token has not all scopes of its key: require the scopes at the proxy"
                    .to_owned(),
                reason: Some("SCOPES_OMITTED".to_owned()),
                retry_after: None,
            }),
        });
    }
    let time =
        |seconds: i64| SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
    Ok(VerifiedPrincipal {
        tenant_id: claims.sub,
        key_id: claims.key_id,
        plan: claims.plan,
        scopes,
        omitted_scopes: claims.scope_omitted,
        revision: claims.rev,
        issued_at: time(claims.iat),
        expires_at: time(claims.exp),
    })
}

#[cfg(test)]
mod tests;
