//! The result of an outage, and the expected values.

use std::{io::Write as _, time::Duration};

/// Counts of the answers that callers received.
#[derive(Debug, Default)]
pub(crate) struct AnswerCounts {
    pub(crate) correct: u64,
    pub(crate) unanswered: u64,
    /// Accepted although just revoked, before the first poll of the feed could report it.
    pub(crate) late_allows: u64,
    pub(crate) wrong_allows: u64,
    pub(crate) wrong_denials: u64,
}

impl AnswerCounts {
    pub(crate) fn total(&self) -> u64 {
        self.correct + self.unanswered + self.late_allows + self.wrong_allows + self.wrong_denials
    }

    /// Returns the share of requests that were answered, and not wrongly.
    pub(crate) fn answered_share(&self) -> f64 {
        (self.correct + self.late_allows) as f64 / self.total().max(1) as f64
    }
}

/// The result of an outage.
#[derive(Debug, Default)]
pub(crate) struct Report {
    pub(crate) answers: AnswerCounts,
    /// Answers while no replica could decide: nothing cached, or only entries that are too old.
    pub(crate) answers_without_knowledge: AnswerCounts,
    /// Answers after the repair of replicas that had nothing cached, until all was normal.
    pub(crate) answers_while_recovering: AnswerCounts,
    pub(crate) outage: Duration,
    /// Requests that reached the database while it was broken.
    pub(crate) requests: u64,
    /// Simulated time from the repair until every replica's feed is live and answers are fresh.
    pub(crate) recovery: Duration,
    /// Requests in the two seconds after the repair.
    pub(crate) requests_after: u64,
}

impl Report {
    fn sum(&self, of: impl Fn(&AnswerCounts) -> u64) -> u64 {
        [&self.answers, &self.answers_without_knowledge, &self.answers_while_recovering]
            .into_iter()
            .map(of)
            .sum()
    }

    /// Asserts the expected values. `most_requests` limits the requests while the database is broken.
    pub(crate) fn check(&self, name: &str, most_requests: u64) {
        let (counts, undecided) = (&self.answers, &self.answers_without_knowledge);
        assert_eq!(
            self.sum(|counts| counts.wrong_allows),
            0,
            "{name}: a revoked or expired key was accepted"
        );
        assert_eq!(self.sum(|counts| counts.wrong_denials), 0, "{name}: a valid key was denied");
        assert!(
            counts.answered_share() >= 0.9999,
            "{name}: only {:.4} % answered",
            counts.answered_share() * 100.0
        );
        assert_eq!(undecided.unanswered, undecided.total(), "{name}: answered without a cached record");
        assert!(self.recovery <= Duration::from_secs(2), "{name}: recovery took {:?}", self.recovery);
        assert!(self.requests <= most_requests, "{name}: {} requests", self.requests);
        // A thousand keys on three replicas, 64 keys per statement, and the feed: far fewer than one request
        // per key.
        assert!(self.requests_after <= 300, "{name}: a stampede of {}", self.requests_after);
    }

    pub(crate) fn print_row(&self, name: &str) {
        print_uncaptured(&format!(
            "{name:<18} {:>9} {:>9.4} % {:>6} {:>6} {:>7} {:>6} {:>9} {:>8.2} {:>7.2} s {:>7}\n",
            self.sum(AnswerCounts::total),
            self.answers.answered_share() * 100.0,
            self.sum(|counts| counts.wrong_allows),
            self.sum(|counts| counts.late_allows),
            self.sum(|counts| counts.wrong_denials),
            self.answers_without_knowledge.unanswered + self.answers_while_recovering.unanswered,
            self.requests,
            self.requests as f64 / self.outage.as_secs_f64(),
            self.recovery.as_secs_f64(),
            self.requests_after,
        ));
    }
}

/// "late": accepted before any replica could know of the revocation. "blind": unanswered, and correctly so,
/// because nothing was cached; not counted as answerable requests.
pub(crate) fn print_head() {
    print_uncaptured(
        "\noutage               answers    correct allows   late denials  blind  requests  per sec    normal   after\n",
    );
}

/// Prints past the output capture of passing tests.
pub(crate) fn print_uncaptured(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
