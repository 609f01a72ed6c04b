//! What can be wrong with a replica, the worst first.

use std::time::Duration;

use super::{super::super::history::Answered, Sentence};
use crate::{
    console::html::duration,
    domain::{
        condition::Condition,
        identity::DistrustReason,
        store::{Circuit, FailureKind},
    },
    ops::status::{
        FeedStatus, GraceCoverage, LifecyclePhase, MAX_CLOCK_OFFSET_MILLIS, MAX_SCHEDULER_LAG, ServiceStatus,
        TimeLeft,
    },
};

/// A write in flight for this long delays the others noticeably.
const LONG_WRITE: Duration = Duration::from_secs(5);
/// How long after the start the change feed may take to be live.
const FEED_START: Duration = Duration::from_secs(5);
/// Below this many answered of 10,000 requests, requests that are not answered are a problem of their own.
const MIN_ANSWERED: u64 = 9_990;

/// A problem.
#[derive(Debug)]
pub(super) struct Problem {
    /// In a sentence without times.
    pub(super) what: String,
    /// Since when, why, and what customers feel.
    pub(super) sentence: Sentence,
}

/// Returns all problems.
pub(super) fn find(status: &ServiceStatus, answered: Answered) -> Vec<Problem> {
    let outage = outage(status, answered);
    let is_outage = outage.is_some();
    [
        outage,
        pepper(status),
        (!is_outage).then(|| unanswered(answered)).flatten(),
        starved(status),
        writes(status),
        (!is_outage).then(|| feed(status)).flatten(),
        limits(status),
        breaker(status, is_outage),
        clock(status),
        files(status),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn problem(what: &str, sentence: &str) -> Problem {
    Problem { what: what.to_owned(), sentence: Sentence::of(sentence) }
}

/// Whatever keeps this replica from reading the database that it trusts.
fn outage(status: &ServiceStatus, answered: Answered) -> Option<Problem> {
    let for_time = duration(status.now.since(status.phase_since));
    let failing = status.reads.filter(|reads| !reads.is_healthy());
    let cause = failing.and_then(|reads| reads.failure).map(|kind| format!(" ({})", name(kind)));
    let cause = cause.unwrap_or_default();
    match status.phase {
        LifecyclePhase::Stopping => {
            let text = format!(
                "This replica has been stopping for {for_time}. It answers the requests that still reach it."
            );
            return Some(problem("This replica stops.", &text));
        }
        LifecyclePhase::Unusable(why) => {
            let why = why.replace('_', " ");
            let text = format!(
                "This replica has been unable to use its database for {for_time} ({why}). The log says what to do. It answers no \
                 request."
            );
            return Some(problem("This replica cannot use its database.", &text));
        }
        LifecyclePhase::Waiting => {
            let text = format!(
                "This replica has been waiting for its database for {for_time}{cause}. It is not ready: load balancers send it \
                 nothing, and it has no copies to answer from."
            );
            return Some(problem("This replica waits for its database.", &text));
        }
        LifecyclePhase::Ready => {}
    }
    let (what, text) = if let Some((reason, since)) = status.distrust {
        let time = duration(status.now.since(since));
        let why = match reason {
            DistrustReason::Another => "it is another database than before",
            DistrustReason::Empty => "it has no tables",
            DistrustReason::RolledBack => "it lacks changes that it had before",
        };
        (
            "Database not trusted.",
            format!(
                "Database not trusted for {time}: {why}. Bring the known one back, or accept this one: tenantctl database status \
                 says how. Changes are refused."
            ),
        )
    } else if let Some(reads) = failing {
        let time = duration(status.now.since(reads.since));
        match reads.failure {
            Some(FailureKind::Unreachable | FailureKind::TimedOut) | None => {
                ("Database unreachable.", format!("Database unreachable for {time}{cause}."))
            }
            Some(kind) => (
                "Reads of the database fail.",
                format!("Reads of the database have failed for {time}{cause}.{}", remedy(kind)),
            ),
        }
    } else if let Some(time) = status.read_replica_stalled_for {
        let time = duration(time);
        (
            "Read replica stalled.",
            format!("The read replica of the database has been stalled for {time}: it shows no new changes."),
        )
    } else if is_open(status, Circuit::Lookups) && answered.all > 0 {
        // The next lookup closes it, or not: where nobody asks for any, nobody is refused.
        let text =
            "Lookups in the database are rejected at once, except for a periodic probe (breaker open).";
        ("Lookups are rejected.", text.to_owned())
    } else {
        return None;
    };
    let sentence = Sentence::of(&text).then(&share(status, answered));
    let sentence = sentence.then(" Keys not seen before are refused with UNAVAILABLE.");
    Some(Problem { what: what.to_owned(), sentence: copies(status, sentence) })
}

/// How many requests are answered, and how old the answers are.
fn share(status: &ServiceStatus, answered: Answered) -> String {
    let Some(share) = answered.per_10_000() else { return " No request came in the last minute.".to_owned() };
    let age = status.oldest_answer.map(|age| format!(", from copies up to {} old", duration(age)));
    match share {
        0 => " No request is answered.".to_owned(),
        share => format!(" {} of requests are answered{}.", percent(share), age.unwrap_or_default()),
    }
}

/// When copies expire.
fn copies(status: &ServiceStatus, sentence: Sentence) -> Sentence {
    let Some(GraceCoverage { oldest_key, median_key, keys_beyond }) = status.grace.coverage else {
        return sentence;
    };
    let now = status.now.wall;
    let at = |left: Duration| now.plus(left);
    let beyond = format!("; {keys_beyond} are refused already");
    let beyond = if keys_beyond > 0 { &*beyond } else { "" };
    match (oldest_key, median_key) {
        (None, _) | (_, None) => sentence.then(" No key that was used recently has a copy here."),
        (_, Some(TimeLeft::Elapsed(ago))) => {
            let sentence = sentence.then(" Half of the copies have expired since ");
            sentence.near(status.now.before(ago).wall, now).then(&format!("{beyond}."))
        }
        (Some(TimeLeft::Elapsed(_)), Some(TimeLeft::Remaining(half))) => {
            let sentence = sentence.then(" Copies expire; half of them by ");
            sentence.near(at(half), now).then(&format!("{beyond}."))
        }
        (Some(TimeLeft::Remaining(first)), Some(TimeLeft::Remaining(half))) => {
            let sentence = sentence.then(" Copies expire at ").near(at(first), now);
            let is_at_once = half.saturating_sub(first) < Duration::from_secs(60);
            let sentence = match is_at_once {
                true => sentence,
                false => sentence.then(", half of them by ").near(at(half), now),
            };
            sentence.then(&format!("{beyond}."))
        }
    }
}

fn pepper(status: &ServiceStatus) -> Option<Problem> {
    let id = status.pepper_missing.as_deref()?;
    let text = format!(
        "Pepper {id} is missing on this replica, and live keys are stored under it. Keys that are not found are refused with \
         UNAVAILABLE."
    );
    Some(problem("A pepper is missing.", &text))
}

fn unanswered(answered: Answered) -> Option<Problem> {
    let share = answered.per_10_000().filter(|share| *share < MIN_ANSWERED)?;
    let text = format!(
        "{} of the requests of the last minute were not answered. The plot of requests says why.",
        percent(10_000 - share)
    );
    Some(problem("Requests are not answered.", &text))
}

fn starved(status: &ServiceStatus) -> Option<Problem> {
    let lag = Some(status.scheduler_lag).filter(|lag| *lag >= MAX_SCHEDULER_LAG)?;
    let text = format!(
        "This replica gets too little CPU: a thread waited {} for it in the last minute. Reads that time out say nothing about the \
         database.",
        duration(lag)
    );
    Some(problem("This replica gets too little CPU.", &text))
}

fn writes(status: &ServiceStatus) -> Option<Problem> {
    const FELT: &str = "Changes, new sessions and usage";
    let failing = status.writes.condition.filter(|writes| is_failing(status, *writes));
    if let Some((writes, kind)) = failing.and_then(|writes| Some((writes, writes.failure?))) {
        let time = duration(status.now.since(writes.since));
        let text = format!(
            "Writes to the database have failed for {time} ({}).{} {FELT} are refused with UNAVAILABLE; keys are validated all the \
             same.",
            name(kind),
            remedy(kind)
        );
        return Some(problem("Writes to the database fail.", &text));
    }
    let time = status.writes.under_way_for.filter(|time| *time >= LONG_WRITE)?;
    let text = format!(
        "A write to the database has been in flight for {}. {FELT} wait for it; keys are validated all the same.",
        duration(time)
    );
    Some(problem("A write to the database takes long.", &text))
}

fn feed(status: &ServiceStatus) -> Option<Problem> {
    let silent_for = match status.feed {
        FeedStatus::SilentSince(at) => status.now.since(at),
        FeedStatus::NotYetLive => {
            Some(status.now.since(status.phase_since)).filter(|time| *time > FEED_START)?
        }
        FeedStatus::Off | FeedStatus::Live(_) => return None,
    };
    let text = format!(
        "The change log has not been read for {}. Answers that are no longer fresh are looked up again first: they take longer, and \
         stay right.",
        duration(silent_for)
    );
    Some(problem("The change log is not read.", &text))
}

fn limits(status: &ServiceStatus) -> Option<Problem> {
    let failing = status.limits.filter(|limits| is_failing(status, *limits))?;
    let text = format!(
        "Leases of limits have not been exchanged for {} ({}). What is held is spent; then on_outage of each limit decides.",
        duration(status.now.since(failing.since)),
        name(failing.failure?)
    );
    Some(problem("Leases of limits are not exchanged.", &text))
}

/// Open circuits that no other problem explains.
fn breaker(status: &ServiceStatus, is_outage: bool) -> Option<Problem> {
    let writes_fail = status.writes.condition.is_some_and(|writes| !writes.is_healthy());
    let is_explained = |circuit: Circuit| match circuit {
        Circuit::Lookups => true,
        Circuit::Writes => writes_fail,
        Circuit::Sessions | Circuit::Usage | Circuit::Admin | Circuit::Maintenance => is_outage,
    };
    let open =
        Circuit::ALL.into_iter().filter(|circuit| is_open(status, *circuit) && !is_explained(*circuit));
    let open: Vec<_> = open.map(Circuit::as_str).collect();
    if open.is_empty() {
        return None;
    }
    let text = format!(
        "Calls of the database for {} are rejected at once, except for a periodic probe (breaker open).",
        open.join(" and ")
    );
    Some(problem("Calls of the database are rejected.", &text))
}

fn clock(status: &ServiceStatus) -> Option<Problem> {
    let offset = status.clock_offset.filter(|offset| offset.abs() > MAX_CLOCK_OFFSET_MILLIS)?;
    let direction = if offset > 0 { "ahead of" } else { "behind" };
    let text = format!(
        "The clock of this replica is {} {direction} the database's. Keys and sessions expire at the wrong time here.",
        duration(Duration::from_millis(offset.unsigned_abs()))
    );
    Some(problem("The clock is wrong.", &text))
}

fn files(status: &ServiceStatus) -> Option<Problem> {
    let refused: Vec<_> = status.files.refused().collect();
    if refused.is_empty() {
        return None;
    }
    let text = format!(
        "The new content of {} is refused. The previous content stays in effect; the log says why.",
        refused.join(" and ")
    );
    Some(problem("A file is refused.", &text))
}

/// Whether calls fail now. A failure from before the database could be read again says nothing about now: a replica that has
/// nothing to write does not try.
fn is_failing(status: &ServiceStatus, condition: Condition) -> bool {
    let read_again = status.reads.filter(Condition::is_healthy).map(|reads| reads.since.monotonic);
    !condition.is_healthy() && read_again.is_none_or(|at| at < condition.last_call_at.monotonic)
}

fn is_open(status: &ServiceStatus, wanted: Circuit) -> bool {
    Circuit::ALL.into_iter().zip(status.open_circuits).any(|(circuit, open)| open && circuit == wanted)
}

fn name(kind: FailureKind) -> String {
    match kind {
        FailureKind::Unreachable => "no connection".to_owned(),
        kind => kind.as_str().replace('_', " "),
    }
}

/// The cause and the remedy as a sentence.
fn remedy(kind: FailureKind) -> String {
    let Some(cause) = kind.cause() else { return String::new() };
    let mut chars = cause.chars();
    let first: String = chars.next().map(|first| first.to_uppercase().collect()).unwrap_or_default();
    format!(" {first}{}.", chars.as_str())
}

/// Rounds neither up to all nor down to none.
fn percent(per_10_000: u64) -> String {
    match per_10_000 {
        10_000 => "100 %".to_owned(),
        share => format!("{}.{:02} %", share / 100, share % 100),
    }
}
