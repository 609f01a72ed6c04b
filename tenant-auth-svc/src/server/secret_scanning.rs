//! The secret scanning endpoint: where its keys come from, and what happens to the keys that were found.

mod published_keys;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use uuid::Uuid;

use self::published_keys::PublishedKeys;
use crate::{
    config::SigningKeysLocation,
    domain::{
        admin::AdminError,
        audit::Actor,
        clock::SharedClock,
        key::KeyHash,
        leak::{LeakKnowledge, LeakReport, Leaks},
        text::{LeakLocation, LeakSource, LeakType},
    },
    ops::secret_scanning::{FoundKey, NotHandled, SecretScanning},
    service_types::{AllCaches, ServiceStore},
};

/// How long the reports of one request may take. The partner waits for 30 s.
const REPORT_TIMEOUT: Duration = Duration::from_secs(20);
/// The caller in the audit log, and the source of the reports.
const SOURCE: &str = "github";

/// Creates the endpoint.
///
/// # Errors
/// When no HTTP client can be created.
pub(super) fn build(
    location: SigningKeysLocation,
    leaks: Arc<Leaks<ServiceStore, AllCaches>>,
    clock: SharedClock,
) -> Result<SecretScanning, String> {
    let keys = Arc::new(PublishedKeys::new(location, clock)?);
    Ok(SecretScanning {
        signing_keys: Arc::new(move |identifier| {
            let keys = Arc::clone(&keys);
            Box::pin(async move { keys.for_identifier(&identifier).await })
        }),
        report: Arc::new(move |found| {
            let leaks = Arc::clone(&leaks);
            Box::pin(async move { report(&leaks, found).await })
        }),
    })
}

/// Reports the keys that exist and were not reported, each once, and returns which findings are keys.
///
/// One key that cannot be reported does not keep the others valid: the error comes after the last one, and the partner
/// sends all of them again.
async fn report(
    leaks: &Leaks<ServiceStore, AllCaches>,
    found: Vec<FoundKey>,
) -> Result<Vec<bool>, NotHandled> {
    let deadline = Instant::now() + REPORT_TIMEOUT;
    let failed = |error: AdminError| NotHandled(error.to_string());
    let hashes: Vec<_> = found.iter().map(|found| leaks.hash(&found.key)).collect();
    let mut first_findings: HashMap<KeyHash, &FoundKey> = HashMap::new();
    for (hash, found) in hashes.iter().zip(&found) {
        if let Some(hash) = hash {
            first_findings.entry(*hash).or_insert(found);
        }
    }
    let (candidates, first_findings): (Vec<_>, Vec<_>) = first_findings.into_iter().unzip();
    let source = LeakSource::stored(SOURCE);
    let knowledge = leaks.find(&candidates, &source, deadline).await.map_err(failed)?;
    let knowledge: HashMap<_, _> = candidates.iter().copied().zip(knowledge).collect();
    let is_key = |hash: &KeyHash| knowledge.get(hash).is_some_and(|known| *known != LeakKnowledge::Unknown);
    let request_id = Uuid::now_v7().simple().to_string();
    let mut first_error = None;
    for (hash, finding) in candidates.iter().zip(first_findings) {
        if knowledge.get(hash) != Some(&LeakKnowledge::Unreported) {
            continue;
        }
        let keys = found.iter().zip(&hashes).filter(|(_, hash)| hash.as_ref().is_some_and(is_key));
        let names_key = keys.into_iter().any(|(other, _)| finding.url.contains(other.key.expose()));
        let actor = Actor { caller: SOURCE.to_owned(), request_id: request_id.clone() };
        if let Err(error) = leaks.report(&leak_report(*hash, finding, names_key), actor, deadline).await {
            first_error.get_or_insert(error);
        }
    }
    match first_error {
        Some(error) => Err(failed(error)),
        None => Ok(hashes.iter().map(|hash| hash.as_ref().is_some_and(is_key)).collect()),
    }
}

/// The texts of a finding come from a public place: what cannot be recorded is left out, and a place that names a key.
fn leak_report(hash: KeyHash, found: &FoundKey, names_key: bool) -> LeakReport {
    let location = if names_key { "" } else { &*found.url };
    LeakReport {
        hash,
        source: LeakSource::stored(SOURCE),
        location: LeakLocation::parse(location).unwrap_or_else(|_| LeakLocation::stored("")),
        kind: LeakType::parse(&found.kind).unwrap_or_else(|_| LeakType::stored("")),
    }
}
