//! When certificates and tokens expire: part of the status, and logged while there is time to renew them.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use crate::{
    config::{DatabaseConfig, TlsConfig},
    database::hrana::{TokenFile, TokenValidity},
    domain::clock::{SharedClock, UnixMillis},
    instruments::validity::{Validity, ValidityState},
    ops::expiry::{CredentialExpiry, CredentialKind, format_rfc3339},
    transport::tls::{Certificates, FirstToExpire, LoadedTls},
};

/// A credential: its kind, its subject if it is a certificate, and its validity.
type FoundCredential = (CredentialKind, Option<String>, Validity);

/// The credentials in use.
#[derive(Clone, Debug, Default)]
pub(super) struct ExpirySources {
    pub(super) certificates: Option<Arc<Certificates>>,
    /// As it was at startup: the HTTP client of the database reads it once.
    pub(super) database_ca: Option<FirstToExpire>,
    /// That of the URL, and then that of the read replica's.
    pub(super) database_tokens: Vec<Arc<TokenFile>>,
}

impl ExpirySources {
    /// Returns the expiry of each credential, for the status.
    pub(super) fn expiries(&self) -> Vec<CredentialExpiry> {
        self.credentials().into_iter().map(|(kind, _, validity)| credential_expiry(kind, validity)).collect()
    }

    fn credentials(&self) -> Vec<FoundCredential> {
        let loaded = self.certificates.as_ref().map(|certificates| certificates.current());
        let tokens = token_validity(&self.database_tokens);
        collect_credentials(loaded.as_deref(), self.database_ca.as_ref(), tokens)
    }
}

/// Returns the validity of the first token for reads to expire, and of the token for writes, which go to the first server.
fn token_validity(tokens: &[Arc<TokenFile>]) -> TokenValidity {
    let reads = tokens.iter().filter_map(|token| token.validity().reads);
    TokenValidity {
        reads: reads.min_by_key(|validity| validity.not_after),
        writes: tokens.first().and_then(|token| token.validity().writes),
    }
}

fn collect_credentials(
    loaded: Option<&LoadedTls>,
    database_ca: Option<&FirstToExpire>,
    token: TokenValidity,
) -> Vec<FoundCredential> {
    let certificates = [
        (CredentialKind::ServerCertificate, loaded.map(|loaded| &loaded.server)),
        (CredentialKind::ClientCa, loaded.and_then(|loaded| loaded.client_ca.as_ref())),
        (CredentialKind::DatabaseCa, database_ca),
    ];
    let certificates = certificates
        .into_iter()
        .filter_map(|(kind, first)| first.map(|first| (kind, Some(first.subject.clone()), first.validity)));
    let tokens = [(CredentialKind::ReadToken, token.reads), (CredentialKind::WriteToken, token.writes)];
    let tokens = tokens.into_iter().filter_map(|(kind, validity)| Some((kind, None, validity?)));
    certificates.chain(tokens).collect()
}

fn credential_expiry(kind: CredentialKind, validity: Validity) -> CredentialExpiry {
    CredentialExpiry {
        kind,
        not_before: validity.not_before.map(unix_millis),
        not_after: unix_millis(validity.not_after),
    }
}

fn unix_millis(seconds: i64) -> UnixMillis {
    UnixMillis(seconds.saturating_mul(1_000))
}

/// Describes the expiry of a configuration's certificates and tokens, one line each.
#[must_use]
pub fn describe_expiries(tls: &TlsConfig, database: &DatabaseConfig, clock: &SharedClock) -> Vec<String> {
    let loaded = tls.certificates.as_ref().map(|(_, loaded)| loaded);
    let files = database.tokens();
    let tokens = token_validity(&files);
    let mut lines: Vec<_> = collect_credentials(loaded, database.private_roots.as_ref(), tokens)
        .into_iter()
        .map(|(kind, subject, validity)| {
            // The subject is chosen by the issuer: it must not contain terminal control characters.
            let subject = subject.map(|subject| format!(" ({})", subject.escape_debug()));
            format!(
                "{}{}",
                credential_expiry(kind, validity).describe(clock.now()),
                subject.unwrap_or_default()
            )
        })
        .collect();
    if !files.is_empty() && tokens == TokenValidity::default() {
        lines.push("the database token has no expiry".to_owned());
    }
    lines
}

/// Refuses to replace a valid certificate by one that has expired or is not valid yet, because callers would be
/// rejected that are served now. If the current certificate is not valid either, the new one is accepted.
pub(super) fn verify_replacement(
    current: &LoadedTls,
    new: &LoadedTls,
    clock: &SharedClock,
) -> Result<(), String> {
    let now = unix_seconds(clock);
    if new.server.all_valid_at(now) || !current.server.all_valid_at(now) {
        return Ok(());
    }
    let problem =
        credential_expiry(CredentialKind::ServerCertificate, new.server.validity).describe(clock.now());
    let from = format_rfc3339(unix_millis(new.server.all_valid_from));
    Err(format!(
        "{problem}; the new certificate is valid from {from} ({}), and the current one is still valid",
        new.server.subject
    ))
}

fn unix_seconds(clock: &SharedClock) -> i64 {
    clock.now().0.div_euclid(1_000)
}

/// Logs a credential that is about to expire: once when it is first noticed, and again when it has expired.
#[derive(Clone, Debug, Default)]
pub(super) struct ExpiryLog(Arc<Mutex<BTreeMap<&'static str, (Validity, ValidityState)>>>);

impl ExpiryLog {
    /// Checks all credentials and logs each change for the worse.
    pub(super) fn log_changes(&self, sources: &ExpirySources, clock: &SharedClock) {
        let mut logged = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock, so that two concurrent checks do not log the same change twice.
        let now = unix_seconds(clock);
        for (kind, subject, validity) in sources.credentials() {
            let state = validity.state(now);
            if logged.insert(kind.description(), (validity, state)) == Some((validity, state)) {
                continue;
            }
            let expires = format_rfc3339(credential_expiry(kind, validity).not_after);
            let what = kind.description();
            match state {
                ValidityState::Valid => {}
                ValidityState::Expiring => {
                    tracing::warn!(
                        what,
                        subject,
                        expires,
                        "credential expires soon: renew it and replace its file"
                    );
                }
                ValidityState::Expired => {
                    tracing::error!(what, subject, expires, "credential has expired: replace its file");
                }
                ValidityState::NotYetValid => {
                    tracing::error!(
                        what,
                        subject,
                        expires,
                        "credential is not valid yet: check the clock of this machine"
                    );
                }
            }
        }
    }
}
