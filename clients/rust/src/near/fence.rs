//! What was told about keys, tenants and sessions, against answers that are older.

use std::collections::HashMap;

use crate::Subject;

/// Beyond this many, marks are given up for one revision that stands for all of them.
const MOST_MARKS: usize = 10_000;

/// What a piece of news is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum About {
    /// A key, by its public id.
    Key(String),
    /// All keys and sessions of a tenant.
    Tenant(String),
    /// A session.
    Session(String),
    /// What was found to be nobody's.
    Nobody,
}

impl About {
    pub(crate) fn concerns(&self, subject: &Subject) -> bool {
        match self {
            Self::Key(id) => subject.key_id() == id || subject.presented_key_id() == id,
            Self::Tenant(id) => subject.tenant_id() == id,
            Self::Session(id) => subject.session_id() == Some(id.as_str()),
            Self::Nobody => subject.tenant_id().is_empty(),
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
    marks: HashMap<About, i64>,
    /// An older answer may miss what was told before the stream began, or about what marks were given up for.
    floor: i64,
}

impl Fence {
    /// Changes whenever everything is forgotten: answers to what was asked before are not kept.
    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Notes news at a revision.
    pub(crate) fn mark(&mut self, about: About, revision: i64) {
        if self.marks.len() >= MOST_MARKS && !self.marks.contains_key(&about) {
            self.floor = self.marks.values().copied().fold(self.floor, i64::max);
            self.marks.clear();
        }
        let mark = self.marks.entry(about).or_insert(revision);
        *mark = revision.max(*mark);
    }

    /// Notes that the stream begins at a revision: what was told before it was not heard.
    pub(crate) fn begin(&mut self, revision: i64) {
        self.floor = self.floor.max(revision);
    }

    /// Notes that the log begins anew at a revision, which may be lower than those before.
    pub(crate) fn start_over(&mut self, revision: i64) {
        self.epoch += 1;
        self.marks.clear();
        self.floor = revision;
    }

    /// Notes a change of our own, whose revision nobody told us: whatever is under way may be older.
    pub(crate) fn turn(&mut self) {
        self.epoch += 1;
    }

    /// Whether an answer about somebody is older than what was told about them.
    pub(crate) fn overtakes(&self, subject: &Subject, revision: i64) -> bool {
        let told = |about: About| self.marks.get(&about).is_some_and(|mark| revision < *mark);
        told(About::Key(subject.key_id().to_owned()))
            || told(About::Key(subject.presented_key_id().to_owned()))
            || told(About::Tenant(subject.tenant_id().to_owned()))
            || subject.session_id().is_some_and(|id| told(About::Session(id.to_owned())))
    }

    /// Whether the stream tells of every change that an answer of this revision may be in want of.
    pub(crate) fn follows_up(&self, revision: i64) -> bool {
        revision >= self.floor
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::principal::Facts;

    fn subject() -> Subject {
        Subject::new(Facts {
            tenant_id: "t".to_owned(),
            key_id: "k".to_owned(),
            presented_key_id: "p".to_owned(),
            session_id: Some("s".to_owned()),
            ..Facts::default()
        })
    }

    #[test]
    fn what_is_older_than_the_news_about_it_is_kept_out() {
        for about in [
            About::Key("k".into()),
            About::Key("p".into()),
            About::Tenant("t".into()),
            About::Session("s".into()),
        ] {
            assert!(about.concerns(&subject()));
            let mut fence = Fence::default();
            fence.mark(about.clone(), 5);
            fence.mark(about, 3);
            assert!(fence.overtakes(&subject(), 4));
            assert!(!fence.overtakes(&subject(), 5));
        }
        let mut fence = Fence::default();
        fence.mark(About::Key("t".into()), 5);
        assert!(!fence.overtakes(&subject(), 4));
    }

    #[test]
    fn marks_that_were_given_up_are_stood_for_by_a_floor() {
        let mut fence = Fence::default();
        for number in 0..=MOST_MARKS {
            fence.mark(About::Key(number.to_string()), 7);
        }
        assert_eq!(fence.marks.len(), 1);
        assert!(!fence.follows_up(6) && fence.follows_up(7));
    }

    #[test]
    fn a_log_that_begins_anew_may_count_from_below() {
        let mut fence = Fence::default();
        fence.begin(100);
        fence.mark(About::Key("k".into()), 100);
        let epoch = fence.epoch();
        fence.start_over(3);
        assert_ne!(fence.epoch(), epoch);
        assert!(fence.follows_up(3) && !fence.overtakes(&subject(), 3));
    }
}
