//! The view of a change, and of the replicas that have applied it.

use std::time::Duration;

use serde::Serialize;
use tenant_auth_client::proto;

use super::{to_moment, to_text};
use crate::{
    failure::ErrorReport,
    output::{self, View},
    time::Moment,
};

/// A change, with the revision that includes it.
#[derive(Debug, Serialize)]
pub(crate) struct ChangeView<V> {
    #[serde(flatten)]
    view: V,
    revision: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    replicas: Option<Vec<Confirmation>>,
}

/// Whether one replica has applied the change.
#[derive(Debug, Serialize)]
pub(crate) struct Confirmation {
    replica: String,
    applied: bool,
    /// Time from the start of the wait to the confirmation.
    applied_in_ms: Option<u128>,
    applied_revision: Option<i64>,
    /// Until when it may still answer as before, by its own clock; absent if it did not respond.
    may_lack_it_until: Option<Moment>,
    error: Option<String>,
}

impl Confirmation {
    pub(crate) fn new(
        replica: String,
        answer: Result<(proto::WaitForRevisionResponse, Duration), ErrorReport>,
    ) -> Self {
        match answer {
            Ok((answer, elapsed)) => {
                let state = answer.replica.unwrap_or_default();
                let max_age = state.max_answer_age.and_then(|age| age.try_into().ok()).unwrap_or_default();
                let until = to_moment(state.now).and_then(|now| now.after(max_age));
                Self {
                    replica,
                    applied: answer.applied,
                    applied_in_ms: answer.applied.then_some(elapsed.as_millis()),
                    applied_revision: Some(state.applied_revision),
                    may_lack_it_until: until.filter(|_| !answer.applied),
                    error: None,
                }
            }
            Err(report) => Self {
                replica,
                applied: false,
                applied_in_ms: None,
                applied_revision: None,
                may_lack_it_until: None,
                error: Some(report.message),
            },
        }
    }

    fn row(&self) -> Vec<String> {
        let applied = if self.applied { "yes" } else { "NO" };
        let until = match (self.applied, self.may_lack_it_until) {
            (true, _) => String::new(),
            (false, Some(until)) => until.to_string(),
            (false, None) => "unknown: at most its outage grace".to_owned(),
        };
        vec![
            self.replica.clone(),
            applied.to_owned(),
            to_text(self.applied_in_ms.map(|millis| format!("{millis} ms"))),
            to_text(self.applied_revision),
            until,
            to_text(self.error.as_ref()),
        ]
    }
}

const HEADER: [&str; 6] = ["REPLICA", "APPLIED", "AFTER", "REVISION", "MAY ANSWER AS BEFORE UNTIL", "ERROR"];

impl<V> ChangeView<V> {
    pub(crate) fn new(view: V, revision: i64, replicas: Option<Vec<Confirmation>>) -> Self {
        Self { view, revision, replicas }
    }

    /// Whether every replica that was asked has applied the change.
    pub(crate) fn is_confirmed(&self) -> bool {
        self.replicas.iter().flatten().all(|replica| replica.applied)
    }

    fn summary(&self, replicas: &[Confirmation]) -> String {
        let applied = replicas.iter().filter(|replica| replica.applied).count();
        let slowest = replicas.iter().filter_map(|replica| replica.applied_in_ms).max();
        let within = slowest.map_or_else(String::new, |millis| format!(" in {millis} ms"));
        format!("applied by {applied} of {}{within}", replicas.len())
    }
}

impl<V: View> View for ChangeView<V> {
    fn text(&self) -> String {
        let text = self.view.text();
        let Some(replicas) = &self.replicas else { return text };
        let summary = self.summary(replicas);
        if self.is_confirmed() {
            return format!("{text}\n\n{summary}");
        }
        format!(
            "{text}\n\n{summary}\n{}",
            output::render_table(&HEADER, replicas.iter().map(Confirmation::row))
        )
    }

    fn note(&self) -> Option<&'static str> {
        self.view.note()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Serialize)]
    struct Nothing;

    impl View for Nothing {
        fn text(&self) -> String {
            "key_1".to_owned()
        }
    }

    fn confirmation(replica: &str, applied: bool) -> Confirmation {
        let state = proto::ReplicaState {
            applied_revision: 7,
            max_answer_age: Some(prost_types::Duration { seconds: 14_400, nanos: 0 }),
            now: Some(prost_types::Timestamp::default()),
            ..Default::default()
        };
        let answer = proto::WaitForRevisionResponse { applied, replica: Some(state) };
        Confirmation::new(replica.to_owned(), Ok((answer, Duration::from_millis(180))))
    }

    #[test]
    fn confirmed_change_is_one_sentence() {
        let replicas = vec![confirmation("a", true), confirmation("b", true)];
        let view = ChangeView::new(Nothing, 7, Some(replicas));
        assert!(view.is_confirmed());
        assert_eq!(view.text(), "key_1\n\napplied by 2 of 2 in 180 ms");
        assert_eq!(ChangeView::new(Nothing, 7, None).text(), "key_1");
    }

    #[test]
    fn unconfirmed_replica_is_named_with_its_limit() {
        let view = ChangeView::new(Nothing, 8, Some(vec![confirmation("a", true), confirmation("b", false)]));
        assert!(!view.is_confirmed());
        let text = view.text();
        assert!(text.contains("applied by 1 of 2 in 180 ms"), "{text}");
        assert!(text.contains("1970-01-01T04:00:00Z"), "{text}");
    }
}
