//! The view of `key check`: one key on every replica, side by side.

use std::time::Duration;

use serde::Serialize;
use tenant_auth_client::proto::{self, Source, Verdict};

use super::{key_state::verdict_name, lookups_name, to_moment, to_text};
use crate::{
    failure::ErrorReport,
    output::{self, View},
    time::{Moment, format_coarse},
};

/// The answers, and whether they agree.
#[derive(Debug, Serialize)]
pub(crate) struct CheckView {
    key_id: String,
    /// Whether no answer contradicts another.
    agree: bool,
    /// Whether the database and every replica responded.
    complete: bool,
    database: DatabaseRow,
    replicas: Vec<ReplicaRow>,
}

/// The state of the key in the database.
#[derive(Debug, Default, Serialize)]
pub(crate) struct DatabaseRow {
    /// Absent if the database did not respond. `UNKNOWN`: the key does not exist.
    verdict: Option<String>,
    revoked_at: Option<Moment>,
    expires_at: Option<Moment>,
    error: Option<String>,
}

/// The answer of one replica.
#[derive(Debug, Serialize)]
struct ReplicaRow {
    replica: String,
    /// Whether it agrees with the database and the other replicas; absent if it did not respond.
    agrees: Option<bool>,
    /// The verdict by its cached record or its deny list; absent if it would read the database.
    verdict: Option<String>,
    cached: Option<CachedRow>,
    last_change_revision: Option<i64>,
    last_change_revoked_at: Option<Moment>,
    on_deny_list: bool,
    revision: Option<i64>,
    feed_age_ms: Option<u128>,
    lookups: Option<&'static str>,
    now: Option<Moment>,
    error: Option<String>,
}

/// A cached record.
#[derive(Debug, Serialize)]
struct CachedRow {
    verdict: String,
    source: &'static str,
    age_ms: u128,
    revision: i64,
    expires_at: Option<Moment>,
    revoked_at: Option<Moment>,
    tenant_suspended: bool,
    preloaded: bool,
}

impl DatabaseRow {
    pub(crate) fn new(state: &proto::GetKeyResponse) -> Self {
        let key = state.key.as_ref();
        Self {
            verdict: Some(verdict_name(state.verdict())),
            revoked_at: to_moment(key.and_then(|key| key.revoked_at)),
            expires_at: to_moment(key.and_then(|key| key.expires_at)),
            error: None,
        }
    }

    /// Returns the row for a key that does not exist.
    pub(crate) fn unknown() -> Self {
        Self { verdict: Some(verdict_name(Verdict::Unknown)), ..Self::default() }
    }

    pub(crate) fn unanswered(report: ErrorReport) -> Self {
        Self { error: Some(report.message), ..Self::default() }
    }

    fn is_unknown(&self) -> bool {
        self.verdict.as_deref() == Some("UNKNOWN")
    }
}

impl CheckView {
    pub(crate) fn new(
        key_id: String,
        database: DatabaseRow,
        answers: Vec<(String, Result<proto::InspectKeyResponse, ErrorReport>)>,
    ) -> Self {
        let mut replicas: Vec<_> =
            answers.into_iter().map(|(replica, answer)| ReplicaRow::new(replica, answer)).collect();
        let complete = database.verdict.is_some() && replicas.iter().all(|row| row.error.is_none());
        // Without the database there is no reference: cached verdicts are compared with the first of them.
        let cached = || replicas.iter().find_map(|row| row.verdict.clone());
        let expected = database.verdict.clone().or_else(cached);
        for row in replicas.iter_mut().filter(|row| row.error.is_none()) {
            row.agrees = Some(row.verdict.is_none() || row.verdict == expected);
        }
        let agree = replicas.iter().all(|row| row.agrees != Some(false));
        Self { key_id, agree, complete, database, replicas }
    }

    pub(crate) fn is_consistent(&self) -> bool {
        self.agree
    }

    pub(crate) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Returns whether the key exists neither in the database nor in any cache.
    pub(crate) fn is_key_unknown(&self) -> bool {
        self.database.is_unknown() && self.replicas.iter().all(|row| row.cached.is_none())
    }

    fn summary(&self) -> String {
        let unanswered = self.replicas.iter().filter(|row| row.error.is_some()).count();
        let contradicting = self.replicas.iter().filter(|row| row.agrees == Some(false)).count();
        let cached = self.replicas.iter().filter(|row| row.cached.is_some()).count();
        let total = self.replicas.len();
        let mut parts = vec![format!("{cached} of {total} replicas have it cached")];
        match (contradicting, &self.database.verdict) {
            (0, _) => parts.push("none contradicts".to_owned()),
            (contradicting, Some(_)) => parts.push(format!("{contradicting} CONTRADICT the database")),
            (contradicting, None) => {
                parts.push(format!("{contradicting} CONTRADICT the first cached verdict"))
            }
        }
        if unanswered > 0 {
            parts.push(format!("{unanswered} DID NOT RESPOND"));
        }
        if self.database.verdict.is_none() {
            parts.push("the DATABASE DID NOT RESPOND".to_owned());
        }
        parts.join(", ")
    }
}

impl ReplicaRow {
    fn new(replica: String, answer: Result<proto::InspectKeyResponse, ErrorReport>) -> Self {
        let (answer, error) = match answer {
            Ok(answer) => (Some(answer), None),
            Err(report) => (None, Some(report.message)),
        };
        let lookups = answer.as_ref().map(|answer| lookups_name(answer.lookups()));
        let answer = answer.unwrap_or_default();
        let cached = answer.cached.map(CachedRow::new);
        let denied = answer.on_deny_list.then(|| verdict_name(Verdict::Revoked));
        let change = answer.last_change.as_ref();
        Self {
            replica,
            agrees: None,
            verdict: cached.as_ref().map(|cached| cached.verdict.clone()).or(denied),
            cached,
            last_change_revision: change.map(|change| change.revision).filter(|revision| *revision != 0),
            last_change_revoked_at: to_moment(change.and_then(|change| change.revoked_at)),
            on_deny_list: answer.on_deny_list,
            revision: error.is_none().then_some(answer.revision),
            feed_age_ms: answer.feed_age.map(|age| to_duration(Some(age)).as_millis()),
            lookups,
            now: to_moment(answer.now),
            error,
        }
    }

    fn row(&self) -> Vec<String> {
        let age =
            |millis: u128| format_coarse(Duration::from_millis(u64::try_from(millis).unwrap_or(u64::MAX)));
        let cached = self.cached.as_ref();
        let nothing = || if self.error.is_some() { "no response" } else { "not cached" }.to_owned();
        vec![
            self.replica.clone(),
            match self.agrees {
                Some(true) => "yes".to_owned(),
                Some(false) => "NO".to_owned(),
                None => "?".to_owned(),
            },
            self.verdict.clone().unwrap_or_else(nothing),
            cached.map_or_else(String::new, |cached| cached.source.to_owned()),
            cached.map_or_else(String::new, |cached| age(cached.age_ms)),
            to_text(cached.map(|cached| cached.revision)),
            match (self.last_change_revoked_at, self.last_change_revision) {
                (Some(at), _) => format!("revoked {at}"),
                (None, Some(revision)) => format!("changed at {revision}"),
                (None, None) => String::new(),
            },
            to_text(self.revision),
            to_text(self.feed_age_ms.map(age)),
            to_text(self.lookups),
            to_text(self.error.as_ref()),
        ]
    }
}

impl CachedRow {
    fn new(cached: proto::CachedKey) -> Self {
        let source = match cached.source() {
            Source::Fresh => "fresh",
            Source::Refreshing => "refreshing",
            Source::Stale => "stale",
            Source::Database => "reads first",
            Source::Negative | Source::Unspecified => "unknown",
        };
        Self {
            verdict: verdict_name(cached.verdict()),
            source,
            age_ms: to_duration(cached.age).as_millis(),
            revision: cached.revision,
            expires_at: to_moment(cached.expires_at),
            revoked_at: to_moment(cached.revoked_at),
            tenant_suspended: cached.tenant_suspended,
            preloaded: cached.preloaded,
        }
    }
}

fn to_duration(duration: Option<prost_types::Duration>) -> Duration {
    duration.and_then(|duration| duration.try_into().ok()).unwrap_or_default()
}

const HEADER: [&str; 11] = [
    "REPLICA",
    "AGREES",
    "VERDICT",
    "SOURCE",
    "AGE",
    "REVISION",
    "LAST CHANGE",
    "LOG READ TO",
    "LOG AGE",
    "LOOKUPS",
    "ERROR",
];

impl View for CheckView {
    fn text(&self) -> String {
        let database = match (&self.database.verdict, self.database.revoked_at) {
            (Some(_), _) if self.database.is_unknown() => "UNKNOWN: the key does not exist".to_owned(),
            (Some(verdict), Some(at)) => format!("{verdict}, revoked {at}"),
            (Some(verdict), None) => verdict.clone(),
            (None, _) => format!("no response: {}", to_text(self.database.error.as_ref())),
        };
        let summary = output::details(&[
            ("key", self.key_id.clone()),
            ("database", database),
            ("replicas", self.summary()),
        ]);
        format!("{summary}\n\n{}", output::render_table(&HEADER, self.replicas.iter().map(ReplicaRow::row)))
    }
}

#[cfg(test)]
#[expect(clippy::result_large_err, reason = "answers are kept with their errors")]
mod tests {
    use super::*;

    fn cached(verdict: Verdict) -> Result<proto::InspectKeyResponse, ErrorReport> {
        let mut cached = proto::CachedKey::default();
        cached.set_verdict(verdict);
        Ok(proto::InspectKeyResponse { cached: Some(cached), ..Default::default() })
    }

    fn nothing() -> Result<proto::InspectKeyResponse, ErrorReport> {
        Ok(proto::InspectKeyResponse::default())
    }

    fn unanswered() -> ErrorReport {
        crate::failure::Failure::Unexpected("no response".to_owned()).local_report()
    }

    fn database(verdict: Verdict) -> DatabaseRow {
        let mut state = proto::GetKeyResponse::default();
        state.set_verdict(verdict);
        DatabaseRow::new(&state)
    }

    fn check(
        database: DatabaseRow,
        answers: Vec<Result<proto::InspectKeyResponse, ErrorReport>>,
    ) -> (bool, bool, Vec<Option<bool>>) {
        let answers = answers.into_iter().map(|answer| ("r".to_owned(), answer)).collect();
        let view = CheckView::new("key_1".to_owned(), database, answers);
        (view.agree, view.complete, view.replicas.iter().map(|row| row.agrees).collect())
    }

    #[test]
    fn contradicting_replica_is_marked() {
        let answers = vec![cached(Verdict::Revoked), cached(Verdict::Valid), nothing()];
        let expected = (false, true, vec![Some(true), Some(false), Some(true)]);
        assert_eq!(check(database(Verdict::Revoked), answers), expected);
        // Also if only one replica is compared with the database.
        assert!(!check(database(Verdict::Revoked), vec![cached(Verdict::Valid)]).0);
        assert!(!check(DatabaseRow::unknown(), vec![cached(Verdict::Valid)]).0);
    }

    #[test]
    fn unanswered_replica_neither_agrees_nor_contradicts() {
        let answers = vec![cached(Verdict::Valid), Err(unanswered())];
        assert_eq!(check(database(Verdict::Valid), answers), (true, false, vec![Some(true), None]));
        let answers = vec![cached(Verdict::Valid), nothing(), cached(Verdict::Revoked)];
        let expected = (false, false, vec![Some(true), Some(true), Some(false)]);
        assert_eq!(check(DatabaseRow::unanswered(unanswered()), answers), expected);
    }

    #[test]
    fn deny_list_counts_when_nothing_is_cached() {
        let listed = || Ok(proto::InspectKeyResponse { on_deny_list: true, ..Default::default() });
        assert!(check(database(Verdict::Revoked), vec![listed()]).0);
        assert!(!check(database(Verdict::Valid), vec![listed(), nothing()]).0);
    }
}
