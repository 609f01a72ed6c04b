//! What was told about keys, tenants and sessions, against answers that are older.

use std::collections::HashMap;

use crate::Subject;

/// Beyond this many, marks are given up for one revision that stands for all of them.
const MAX_MARKS: usize = 10_000;

/// What a piece of news is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ChangeSubject {
    /// A key, by its public id.
    Key(String),
    /// All keys and sessions of a tenant.
    Tenant(String),
    /// A session.
    Session(String),
    /// What was found to be nobody's.
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

/// Keeps answers out that are older than the news, however late they arrive.
///
/// Not only those under way when the news came: a replica that has not heard of a change yet may answer with the old
/// state a moment after another replica told us of the change.
#[derive(Debug, Default)]
pub(crate) struct Fence {
    epoch: u64,
    marks: HashMap<ChangeSubject, i64>,
    /// An older answer may miss what was told before the stream began, or about what marks were given up for.
    floor: i64,
}

impl Fence {
    /// Changes whenever everything is forgotten: answers to what was asked before are not kept.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Notes news at a revision.
    pub(crate) fn mark(&mut self, about: ChangeSubject, revision: i64) {
        if self.marks.len() >= MAX_MARKS && !self.marks.contains_key(&about) {
            self.floor = self.marks.values().copied().fold(self.floor, i64::max);
            self.marks.clear();
        }
        let mark = self.marks.entry(about).or_insert(revision);
        *mark = revision.max(*mark);
    }

    /// Notes that the stream begins at a revision: what was told before it was not heard.
    pub(crate) fn start_stream(&mut self, revision: i64) {
        self.floor = self.floor.max(revision);
    }

    /// Notes that the log begins anew at a revision, which may be lower than those before.
    pub(crate) fn reset(&mut self, revision: i64) {
        self.epoch += 1;
        self.marks.clear();
        self.floor = revision;
    }

    /// Notes a change of our own, whose revision nobody told us: whatever is under way may be older.
    pub(crate) fn advance_epoch(&mut self) {
        self.epoch += 1;
    }

    /// Whether an answer about somebody is older than what was told about them.
    pub(crate) fn is_outdated(&self, subject: &Subject, revision: i64) -> bool {
        let told = |about: ChangeSubject| self.marks.get(&about).is_some_and(|mark| revision < *mark);
        told(ChangeSubject::Key(subject.key_id().to_owned()))
            || told(ChangeSubject::Key(subject.presented_key_id().to_owned()))
            || told(ChangeSubject::Tenant(subject.tenant_id().to_owned()))
            || subject.session_id().is_some_and(|id| told(ChangeSubject::Session(id.to_owned())))
    }

    /// Whether the stream tells of every change that an answer of this revision may be in want of.
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
        for about in [
            ChangeSubject::Key("k".into()),
            ChangeSubject::Key("p".into()),
            ChangeSubject::Tenant("t".into()),
            ChangeSubject::Session("s".into()),
        ] {
            assert!(about.matches(&subject()));
            let mut fence = Fence::default();
            fence.mark(about.clone(), 5);
            fence.mark(about, 3);
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
