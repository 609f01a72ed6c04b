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
    ops::expiry::{Dated, Expiry, moment},
    transport::tls::{Certificates, FirstToExpire, LoadedTls},
};

/// A certificate or token, and its dates.
type Found = (Dated, Option<String>, Validity);

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
    pub(super) fn facts(&self) -> Vec<Expiry> {
        self.found().into_iter().map(|(what, _, validity)| fact(what, validity)).collect()
    }

    fn found(&self) -> Vec<Found> {
        let loaded = self.certificates.as_ref().map(|certificates| certificates.in_force());
        let token = self.database_token.as_ref().map(|token| token.validity());
        found(loaded.as_deref(), self.database_ca.as_ref(), token.unwrap_or_default())
    }
}

fn found(
    loaded: Option<&LoadedTls>,
    database_ca: Option<&FirstToExpire>,
    token: TokenValidity,
) -> Vec<Found> {
    let certificates = [
        (Dated::ServerCertificate, loaded.map(|loaded| &loaded.server)),
        (Dated::ClientCa, loaded.and_then(|loaded| loaded.client_ca.as_ref())),
        (Dated::DatabaseCa, database_ca),
    ];
    let certificates = certificates
        .into_iter()
        .filter_map(|(what, first)| first.map(|first| (what, Some(first.subject.clone()), first.validity)));
    let tokens = [(Dated::ReadToken, token.reads), (Dated::WriteToken, token.writes)];
    let tokens = tokens.into_iter().filter_map(|(what, validity)| Some((what, None, validity?)));
    certificates.chain(tokens).collect()
}

fn fact(what: Dated, validity: Validity) -> Expiry {
    Expiry { what, not_before: validity.not_before.map(millis), not_after: millis(validity.not_after) }
}

fn millis(seconds: i64) -> UnixMillis {
    UnixMillis(seconds.saturating_mul(1_000))
}

/// What a configuration's certificates and tokens say about their expiry; a line each, for people.
#[must_use]
pub fn described(tls: &TlsConfig, database: &DatabaseConfig, clock: &SharedClock) -> Vec<String> {
    let loaded = tls.certificates.as_ref().map(|(_, loaded)| loaded);
    let token = database.location.token().map(|token| token.validity());
    let mut lines: Vec<_> = found(loaded, database.roots.as_ref(), token.unwrap_or_default())
        .into_iter()
        .map(|(what, subject, validity)| {
            // Whoever made a certificate chose its subject: nothing in it may move a terminal's cursor.
            let subject = subject.map(|subject| format!(" ({})", subject.escape_debug()));
            format!("{}{}", fact(what, validity).described(clock.now()), subject.unwrap_or_default())
        })
        .collect();
    if token == Some(TokenValidity::default()) {
        lines.push("the database's token names no expiry".to_owned());
    }
    lines
}

/// Refuses a certificate that is expired, or not valid yet, in the place of one that is valid: callers would be refused who are
/// served now. Where the one in force is not valid either, there is nothing to lose.
pub(super) fn may_replace(in_force: &LoadedTls, new: &LoadedTls, clock: &SharedClock) -> Result<(), String> {
    let now = seconds(clock);
    if new.server.all_valid_at(now) || !in_force.server.all_valid_at(now) {
        return Ok(());
    }
    let what = fact(Dated::ServerCertificate, new.server.validity).described(clock.now());
    let from = moment(millis(new.server.all_valid_from));
    Err(format!(
        "{what}, and is valid from {from} on ({}); the one in force is valid now",
        new.server.subject
    ))
}

fn seconds(clock: &SharedClock) -> i64 {
    clock.now().0.div_euclid(1_000)
}

/// Logs what expires: once when it is first seen to, and once more when it has.
#[derive(Clone, Debug, Default)]
pub(super) struct ExpiryLog(Arc<Mutex<BTreeMap<&'static str, (Validity, ValidityState)>>>);

impl ExpiryLog {
    /// Looks at all of them, and says what has changed for the worse.
    pub(super) fn look(&self, sources: &ExpirySources, clock: &SharedClock) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Under the lock: two that look at once must not tell the same twice.
        let now = seconds(clock);
        for (what, subject, validity) in sources.found() {
            let state = validity.state(now);
            if told.insert(what.words(), (validity, state)) == Some((validity, state)) {
                continue;
            }
            let expires = moment(fact(what, validity).not_after);
            let what = what.words();
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
