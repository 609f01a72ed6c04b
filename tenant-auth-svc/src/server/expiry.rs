//! When certificates and tokens expire: told as facts, and logged while there is time to renew them.

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

/// A certificate or token, and its dates.
type FoundCredential = (CredentialKind, Option<String>, Validity);

/// Where the dates come from.
#[derive(Clone, Debug, Default)]
pub(super) struct ExpirySources {
    pub(super) certificates: Option<Arc<Certificates>>,
    /// As it was at the start: the HTTP client of the database reads it once.
    pub(super) database_ca: Option<FirstToExpire>,
    pub(super) database_token: Option<Arc<TokenFile>>,
}

impl ExpirySources {
    /// For whoever asks how the service fares.
    pub(super) fn expiries(&self) -> Vec<CredentialExpiry> {
        self.credentials().into_iter().map(|(what, _, validity)| credential_expiry(what, validity)).collect()
    }

    fn credentials(&self) -> Vec<FoundCredential> {
        let loaded = self.certificates.as_ref().map(|certificates| certificates.current());
        let token = self.database_token.as_ref().map(|token| token.validity());
        collect_credentials(loaded.as_deref(), self.database_ca.as_ref(), token.unwrap_or_default())
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
        .filter_map(|(what, first)| first.map(|first| (what, Some(first.subject.clone()), first.validity)));
    let tokens = [(CredentialKind::ReadToken, token.reads), (CredentialKind::WriteToken, token.writes)];
    let tokens = tokens.into_iter().filter_map(|(what, validity)| Some((what, None, validity?)));
    certificates.chain(tokens).collect()
}

fn credential_expiry(what: CredentialKind, validity: Validity) -> CredentialExpiry {
    CredentialExpiry {
        kind: what,
        not_before: validity.not_before.map(unix_millis),
        not_after: unix_millis(validity.not_after),
    }
}

fn unix_millis(seconds: i64) -> UnixMillis {
    UnixMillis(seconds.saturating_mul(1_000))
}

/// What a configuration's certificates and tokens say about their expiry; a line each, for people.
#[must_use]
pub fn describe_expiries(tls: &TlsConfig, database: &DatabaseConfig, clock: &SharedClock) -> Vec<String> {
    let loaded = tls.certificates.as_ref().map(|(_, loaded)| loaded);
    let token = database.location.token().map(|token| token.validity());
    let mut lines: Vec<_> =
        collect_credentials(loaded, database.private_roots.as_ref(), token.unwrap_or_default())
            .into_iter()
            .map(|(what, subject, validity)| {
                // Whoever made a certificate chose its subject: nothing in it may move a terminal's cursor.
                let subject = subject.map(|subject| format!(" ({})", subject.escape_debug()));
                format!(
                    "{}{}",
                    credential_expiry(what, validity).describe(clock.now()),
                    subject.unwrap_or_default()
                )
            })
            .collect();
    if token == Some(TokenValidity::default()) {
        lines.push("the database's token names no expiry".to_owned());
    }
    lines
}

/// Refuses a certificate that is expired, or not valid yet, in the place of one that is valid: callers would be refused who are
/// served now. Where the one in force is not valid either, there is nothing to lose.
pub(super) fn verify_replacement(
    in_force: &LoadedTls,
    new: &LoadedTls,
    clock: &SharedClock,
) -> Result<(), String> {
    let now = unix_seconds(clock);
    if new.server.all_valid_at(now) || !in_force.server.all_valid_at(now) {
        return Ok(());
    }
    let what =
        credential_expiry(CredentialKind::ServerCertificate, new.server.validity).describe(clock.now());
    let from = format_rfc3339(unix_millis(new.server.all_valid_from));
    Err(format!(
        "{what}, and is valid from {from} on ({}); the one in force is valid now",
        new.server.subject
    ))
}

fn unix_seconds(clock: &SharedClock) -> i64 {
    clock.now().0.div_euclid(1_000)
}

/// Logs what expires: once when it is first seen to, and once more when it has.
#[derive(Clone, Debug, Default)]
pub(super) struct ExpiryLog(Arc<Mutex<BTreeMap<&'static str, (Validity, ValidityState)>>>);

impl ExpiryLog {
    /// Looks at all of them, and says what has changed for the worse.
    pub(super) fn log_changes(&self, sources: &ExpirySources, clock: &SharedClock) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: two that look at once must not tell the same twice.
        let now = unix_seconds(clock);
        for (what, subject, validity) in sources.credentials() {
            let state = validity.state(now);
            if told.insert(what.description(), (validity, state)) == Some((validity, state)) {
                continue;
            }
            let expires = format_rfc3339(credential_expiry(what, validity).not_after);
            let what = what.description();
            match state {
                ValidityState::Valid => {}
                ValidityState::Expiring => {
                    tracing::warn!(what, subject, expires, "expires soon: renew it and replace its file");
                }
                ValidityState::Expired => {
                    tracing::error!(what, subject, expires, "has expired: replace its file");
                }
                ValidityState::NotYetValid => {
                    tracing::error!(
                        what,
                        subject,
                        expires,
                        "is not valid yet: is this machine's clock right?"
                    );
                }
            }
        }
    }
}
