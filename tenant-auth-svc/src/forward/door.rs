//! The decision about a request that a proxy asks about.

use std::{sync::Arc, time::Duration};

use super::{principal::PrincipalTokens, refusal::Refusal, route::Route};
use crate::{
    domain::{
        key::{BorrowedKey, PresentedKey},
        key_headers::{Credential, CredentialHeaders, KeyHeaders},
        network::ClientAddress,
        store::StoreError,
        unknown_lookup_limiter::LoadContext,
        validate::{KeyQuery, KeySource, Validator},
        verdict::{Decision, Verdict},
    },
    grpc::{context::RpcRecord, denials::DenialSubject},
};

/// Maximum time of a decision: less than the second that the shipped configurations of proxies wait, so that the customer gets
/// the answer of this service.
const MAX_DECISION_TIME: Duration = Duration::from_millis(900);

/// Decides requests. All front doors share it.
#[derive(Debug)]
pub struct FrontDoor<K> {
    validator: Arc<Validator<K>>,
    key_headers: KeyHeaders,
    tokens: Arc<PrincipalTokens>,
    timeout: Duration,
}

/// A request, as a proxy describes it.
#[derive(Debug)]
pub(super) struct DoorRequest<'a> {
    pub(super) credential: Credential<'a>,
    /// The headers that held the credential.
    pub(super) carriers: CredentialHeaders,
    pub(super) route: Route<'a>,
    pub(super) client_address: Option<ClientAddress>,
    /// Whether it is a CORS preflight. Browsers send no key with it.
    pub(super) is_preflight: bool,
}

impl<'a> DoorRequest<'a> {
    /// Reads a request: its method, and the names and values of its headers.
    pub(super) fn new<I: Iterator<Item = (&'a [u8], &'a [u8])>>(
        key_headers: &KeyHeaders,
        method: &str,
        headers: impl Fn() -> I,
        route: Route<'a>,
        client_address: Option<ClientAddress>,
    ) -> Self {
        let has = |wanted: &str| headers().any(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()));
        let is_preflight = method == "OPTIONS" && has("origin") && has("access-control-request-method");
        let (credential, carriers) = key_headers.find(headers());
        Self { credential, carriers, route, client_address, is_preflight }
    }
}

/// An admitted request.
#[derive(Debug)]
pub(super) enum Admission {
    /// Its key is valid.
    Key {
        decision: Decision,
        /// The principal token, if the route has an audience and the service signs tokens.
        principal: Option<Arc<str>>,
    },
    /// It is a CORS preflight without a key.
    Preflight,
}

/// Whether a request is admitted.
pub(super) type Answer = Result<Admission, Refusal>;

impl<K: KeySource> FrontDoor<K> {
    /// Creates a door that reads keys from `key_headers`, decides with `validator` and signs with `tokens`. A decision may take
    /// `timeout`, and 0.9 s at most.
    pub fn new(
        validator: Arc<Validator<K>>,
        key_headers: KeyHeaders,
        tokens: Arc<PrincipalTokens>,
        timeout: Duration,
    ) -> Self {
        Self { validator, key_headers, tokens, timeout: timeout.min(MAX_DECISION_TIME) }
    }

    pub(super) fn key_headers(&self) -> &KeyHeaders {
        &self.key_headers
    }

    pub(super) fn tokens(&self) -> &PrincipalTokens {
        &self.tokens
    }

    /// How long a decision may take.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Decides from the cache; `None` when the decision has to wait.
    pub(super) fn decide_from_cache(&self, request: &DoorRequest<'_>) -> Option<Answer> {
        Some(match request.credential {
            Credential::Absent if request.is_preflight && request.route.admits_preflight => {
                Ok(Admission::Preflight)
            }
            Credential::Absent => Err(Refusal::NoCredentials),
            Credential::Ambiguous => Err(Refusal::Ambiguous),
            Credential::Malformed => self.answer(request, Decision::MALFORMED),
            Credential::Key(key) => {
                let required = &request.route.required_scopes;
                let decision = self.validator.decide_from_cache(key, required, request.client_address)?;
                self.answer(request, decision)
            }
        })
    }

    /// Decides, and waits for the database if that is necessary. Records the decision.
    ///
    /// # Errors
    /// When no decision is possible.
    pub(super) async fn decide(
        &self,
        request: &DoorRequest<'_>,
        context: LoadContext,
        record: &RpcRecord,
    ) -> Result<Answer, StoreError> {
        let answer = match (self.decide_from_cache(request), request.credential) {
            (Some(answer), _) => answer,
            (None, Credential::Key(key)) => {
                let decision = self.validator.decide(&key_query(request, key), context).await;
                let decision = decision.inspect_err(|error| record.add_undecided(error.kind))?;
                self.answer(request, decision)
            }
            (None, _) => Err(Refusal::NoCredentials),
        };
        record_decision(&answer, record);
        Ok(answer)
    }

    fn answer(&self, request: &DoorRequest<'_>, decision: Decision) -> Answer {
        if decision.verdict != Verdict::Valid {
            return Err(Refusal::Denied(decision.into()));
        }
        let principal = match request.route.audience.as_deref() {
            None => None,
            // Without its token, the upstream would deny a valid key.
            Some(_) if !self.tokens.is_enabled() => {
                return Err(Refusal::Misconfigured(
                    "audience: this service signs no principal tokens (TENANT_AUTH_PRINCIPAL_KEYS_FILE)"
                        .to_owned(),
                ));
            }
            Some(audience) => Some(self.tokens.token(&decision, audience).ok_or(Refusal::UNDECIDED)?),
        };
        Ok(Admission::Key { decision, principal })
    }
}

fn key_query(request: &DoorRequest<'_>, key: BorrowedKey<'_>) -> KeyQuery {
    KeyQuery {
        key: PresentedKey::from(key),
        required_scopes: request.route.required_scopes.clone(),
        client_address: request.client_address,
    }
}

/// Returns the decision about the key of a request, if it has one.
pub(super) fn decision_of(answer: &Answer) -> Option<&Decision> {
    match answer {
        Ok(Admission::Key { decision, .. }) => Some(decision),
        Err(Refusal::Denied(decision)) => Some(decision),
        Ok(Admission::Preflight)
        | Err(
            Refusal::NoCredentials
            | Refusal::Ambiguous
            | Refusal::Undecided { .. }
            | Refusal::Misconfigured(_)
            | Refusal::ProxyRejected,
        ) => None,
    }
}

/// Records the decision about the key of a request, for the access log and the metrics.
pub(super) fn record_decision(answer: &Answer, record: &RpcRecord) {
    if let Some(decision) = decision_of(answer) {
        let subject = DenialSubject::for_key(decision.key.as_ref());
        record.add_decision(decision.verdict, decision.provenance.source, subject);
    }
}
