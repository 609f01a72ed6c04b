//! Rejects answers that are older than an invalidation.

use std::collections::HashMap;

use crate::Subject;

/// Beyond this many, the marks are replaced by one revision (the floor).
const MAX_MARKS: usize = 10_000;

/// The subject of a change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ChangeSubject {
    /// A key, by its public id.
    Key(String),
    /// All keys and sessions of a tenant.
    Tenant(String),
    /// A session.
    Session(String),
    /// Everything cached as unknown or unbound.
    Negative,
}

impl ChangeSubject {
    pub(crate) fn matches(&self, subject: &Subject) -> bool {
        match self {
            Self::Key(id) => subject.key_id() == id || subject.presented_key_id() == id,
            Self::Tenant(id) => subject.tenant_id() == id,
            Self::Session(id) => subject.session_id() == Some(id.as_str()),
            Self::Negative => subject.tenant_id().is_empty(),
        }
    }
}

/// Rejects answers that are older than an invalidation, regardless of when they arrive.
///
/// These are not only answers to requests in flight: a replica that has not applied a change yet may return
/// the old state shortly after another replica has announced the change.
#[derive(Debug, Default)]
pub(crate) struct Fence {
    epoch: u64,
    marks: HashMap<ChangeSubject, i64>,
    /// Answers below this revision may miss changes from before the stream started, or changes whose marks
    /// were dropped.
    floor: i64,
}

impl Fence {
    /// Returns the epoch. It changes when the cache is cleared: answers to earlier requests are not stored.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Records a change at a revision.
    pub(crate) fn mark(&mut self, subject: ChangeSubject, revision: i64) {
        if self.marks.len() >= MAX_MARKS && !self.marks.contains_key(&subject) {
            self.floor = self.marks.values().copied().fold(self.floor, i64::max);
            self.marks.clear();
        }
        let mark = self.marks.entry(subject).or_insert(revision);
        *mark = revision.max(*mark);
    }

    /// Records that the stream starts at a revision: earlier changes were not received.
    pub(crate) fn start_stream(&mut self, revision: i64) {
        self.floor = self.floor.max(revision);
    }

    /// Records that the change log restarts at a revision, which may be lower than earlier ones.
    pub(crate) fn reset(&mut self, revision: i64) {
        self.epoch += 1;
        self.marks.clear();
        self.floor = revision;
    }

    /// Records a change by this client, whose revision is unknown: answers in flight may be older.
    pub(crate) fn advance_epoch(&mut self) {
        self.epoch += 1;
    }

    /// Returns whether a change of a subject after a revision was recorded.
    pub(crate) fn has_changed_since(&self, subject: &ChangeSubject, revision: i64) -> bool {
        self.marks.get(subject).is_some_and(|mark| revision < *mark)
    }

    /// Returns whether an answer is older than a change of its subject.
    pub(crate) fn is_outdated(&self, subject: &Subject, revision: i64) -> bool {
        let is_before = |changed: ChangeSubject| self.has_changed_since(&changed, revision);
        is_before(ChangeSubject::Key(subject.key_id().to_owned()))
            || is_before(ChangeSubject::Key(subject.presented_key_id().to_owned()))
            || is_before(ChangeSubject::Tenant(subject.tenant_id().to_owned()))
            || subject.session_id().is_some_and(|id| is_before(ChangeSubject::Session(id.to_owned())))
    }

    /// Returns whether the stream announces every change that an answer of this revision may lack.
    pub(crate) fn is_covered_by_stream(&self, revision: i64) -> bool {
        revision >= self.floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::SubjectFields;

    fn subject() -> Subject {
        Subject::new(SubjectFields {
            tenant_id: "t".to_owned(),
            key_id: "k".to_owned(),
            presented_key_id: "p".to_owned(),
            session_id: Some("s".to_owned()),
            ..SubjectFields::default()
        })
    }

    #[test]
    fn answer_older_than_a_change_is_rejected() {
        for changed in [
            ChangeSubject::Key("k".into()),
            ChangeSubject::Key("p".into()),
            ChangeSubject::Tenant("t".into()),
            ChangeSubject::Session("s".into()),
        ] {
            assert!(changed.matches(&subject()));
            let mut fence = Fence::default();
            fence.mark(changed.clone(), 5);
            fence.mark(changed, 3);
            assert!(fence.is_outdated(&subject(), 4));
            assert!(!fence.is_outdated(&subject(), 5));
        }
        let mut fence = Fence::default();
        fence.mark(ChangeSubject::Key("t".into()), 5);
        assert!(!fence.is_outdated(&subject(), 4));
    }

    #[test]
    fn evicted_marks_are_replaced_by_a_floor() {
        let mut fence = Fence::default();
        for number in 0..=MAX_MARKS {
            fence.mark(ChangeSubject::Key(number.to_string()), 7);
        }
        assert_eq!(fence.marks.len(), 1);
        assert!(!fence.is_covered_by_stream(6) && fence.is_covered_by_stream(7));
    }

    #[test]
    fn restarted_log_may_use_lower_revisions() {
        let mut fence = Fence::default();
        fence.start_stream(100);
        fence.mark(ChangeSubject::Key("k".into()), 100);
        let epoch = fence.epoch();
        fence.reset(3);
        assert_ne!(fence.epoch(), epoch);
        assert!(fence.is_covered_by_stream(3) && !fence.is_outdated(&subject(), 3));
    }
}
