//! The facts for a person, one line each, at three in the morning.

#[cfg(test)]
mod tests;

use std::time::{Duration, UNIX_EPOCH};

use super::{
    expiry,
    status::{
        FeedStatus, FileStatus, GraceCoverage, GraceStatus, LifecyclePhase, MAX_CLOCK_OFFSET_MILLIS,
        MAX_SCHEDULER_LAG, ServiceStatus, TimeLeft,
    },
};
use crate::domain::{
    clock::{Moment, UnixMillis},
    condition::Condition,
    store::Circuit,
};

/// A line for the process and for each thing that it depends on.
pub(super) fn render(facts: &ServiceStatus) -> String {
    let lines = [
        ("process", process(facts)),
        ("database", database(facts)),
        ("reads", condition(facts, facts.reads)),
        ("writes", writes(facts)),
        ("breaker", breaker(facts)),
        ("feed", feed(facts)),
        ("memory", cache(facts)),
        ("clock", clock(facts)),
        ("cpu", cpu(facts)),
        ("grace", grace(facts)),
        ("files", files(facts.files)),
        ("expiry", expiry::describe_all(&facts.expiries, facts.now.wall)),
        ("denied", denied(facts)),
        ("peppers", peppers(facts)),
    ];
    lines.map(|(name, state)| format!("{name:8}  {state}\n")).concat()
}

/// As RFC 3339 writes a moment, to the second. One before 1970 is shown as 1970, one after 9999 as the end of 9999.
#[must_use]
pub fn format_rfc3339(at: UnixMillis) -> String {
    let at = at.min(UnixMillis::MAX);
    let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(at.0).unwrap_or_default());
    humantime::format_rfc3339_seconds(at).to_string()
}

fn process(facts: &ServiceStatus) -> String {
    let since = format_since(facts, facts.phase_since);
    match facts.phase {
        LifecyclePhase::Waiting => format!("waiting for the database {since}"),
        LifecyclePhase::Ready => format!("ready {since}"),
        LifecyclePhase::Unusable(why) => format!("unusable ({why}) {since}; the log says what to do"),
        LifecyclePhase::Stopping => format!("stopping {since}"),
    }
}

fn condition(facts: &ServiceStatus, condition: Option<Condition>) -> String {
    match condition {
        None => "not tried yet".to_owned(),
        Some(condition) => {
            let since = format_since(facts, condition.since);
            let last = format_duration(facts.now.since(condition.last_call_at));
            match condition.failure {
                None => format!("works {since}; last tried {last} ago"),
                Some(kind) => {
                    let cause = kind.cause().map_or_else(String::new, |cause| format!(": {cause}"));
                    format!("failing ({}) {since}; last tried {last} ago{cause}", kind.as_str())
                }
            }
        }
    }
}

/// Which database it is, and which copy: whether it can be read, and whether it can be written, are lines of their own.
fn database(facts: &ServiceStatus) -> String {
    let doubt = facts.distrust.map(|(doubt, at)| {
        format!(
            "NOT BELIEVED ({}) {}: see `tenantctl database status`",
            doubt.as_str(),
            format_since(facts, at)
        )
    });
    let standstill = facts
        .standstill
        .map(|time| format!("the copy that is read has stood still for {}", format_duration(time)));
    let wrong: Vec<_> = doubt.into_iter().chain(standstill).collect();
    match (wrong.is_empty(), facts.reads) {
        (true, None) => "not read yet".to_owned(),
        (true, Some(_)) => "believed".to_owned(),
        (false, _) => wrong.join("; "),
    }
}

fn clock(facts: &ServiceStatus) -> String {
    match facts.clock_offset {
        None => "not compared with the database's yet".to_owned(),
        Some(offset) if offset.abs() <= MAX_CLOCK_OFFSET_MILLIS => "agrees with the database's".to_owned(),
        Some(offset) => {
            let way = if offset > 0 { "ahead of" } else { "behind" };
            let by = format_duration(Duration::from_millis(offset.unsigned_abs()));
            format!("{by} {way} the database's: keys and sessions end at the wrong moment here")
        }
    }
}

fn cpu(facts: &ServiceStatus) -> String {
    let lag = format_duration(facts.scheduler_lag);
    if facts.scheduler_lag < MAX_SCHEDULER_LAG {
        return format!("late by {lag} at most in the last minute");
    }
    format!(
        "late by {lag} in the last minute: this replica is starved of CPU, and reads that run out of time say nothing about the database"
    )
}

fn writes(facts: &ServiceStatus) -> String {
    let mut line = condition(facts, facts.writes.condition);
    let (waiting, under_way) = (facts.writes.waiting, facts.writes.under_way_for);
    // One that is answered in a moment is no news.
    if let Some(time) = under_way.filter(|time| *time >= Duration::from_secs(1)) {
        line.push_str(&format!("; one has been under way for {}", format_duration(time)));
    }
    if waiting > 0 {
        line.push_str(&format!("; {waiting} waiting for their turn"));
    }
    line
}

fn breaker(facts: &ServiceStatus) -> String {
    let open = Circuit::ALL.into_iter().zip(facts.open_circuits).filter(|(_, open)| *open);
    let open: Vec<_> = open.map(|(circuit, _)| circuit.as_str()).collect();
    match open.as_slice() {
        [] => "closed".to_owned(),
        open => format!(
            "open for {}: one such call is sent now and then, to see whether it gets through",
            open.join(", ")
        ),
    }
}

fn feed(facts: &ServiceStatus) -> String {
    match facts.feed {
        FeedStatus::Off => "off".to_owned(),
        FeedStatus::NotYetLive => "not heard yet".to_owned(),
        FeedStatus::Live(ago) => format!("heard {} ago", format_duration(ago)),
        FeedStatus::SilentSince(at) => format!("silent {}", format_since(facts, at)),
    }
}

fn cache(facts: &ServiceStatus) -> String {
    match facts.oldest_answer {
        None => "no answer in the last minute".to_owned(),
        Some(age) => format!("oldest answer in the last minute: {}", format_duration(age)),
    }
}

fn grace(facts: &ServiceStatus) -> String {
    let GraceStatus { in_force, configured, set_until, coverage } = facts.grace;
    let mut told = match set_until {
        None => format_duration(in_force),
        Some(until) => {
            format!(
                "{} until {}, {} after that",
                format_duration(in_force),
                format_rfc3339(until),
                format_duration(configured)
            )
        }
    };
    let Some(GraceCoverage { oldest_key: oldest, median_key: median, keys_beyond: beyond }) = coverage else {
        return told;
    };
    for (end, whose) in [(median, "the median key in use"), (oldest, "the oldest")] {
        match end {
            None => {}
            Some(TimeLeft::Remaining(left)) => {
                told += &format!("; ends for {whose} in {}", format_duration(left))
            }
            Some(TimeLeft::Elapsed(ago)) => {
                told += &format!("; ended for {whose} {} ago", format_duration(ago))
            }
        }
    }
    told += &format!("; keys beyond it: {beyond}");
    told
}

fn files(files: FileStatus) -> String {
    let refused = [
        (files.callers_refused, "callers"),
        (files.certificates_refused, "certificates"),
        (files.deny_list_refused, "deny list"),
        (files.database_token_refused, "database token"),
    ];
    let refused: Vec<_> = refused.iter().filter(|(refused, _)| *refused).map(|(_, what)| *what).collect();
    if refused.is_empty() {
        return "in force".to_owned();
    }
    format!("the new {} cannot be used, the old ones stay; the log says why", refused.join(" and "))
}

fn denied(facts: &ServiceStatus) -> String {
    match facts.denied_entries {
        0 => "nothing by file".to_owned(),
        count => format!("{count} entries by file, whatever the database says"),
    }
}

fn peppers(facts: &ServiceStatus) -> String {
    match &facts.pepper_missing {
        None => "none is missing".to_owned(),
        Some(id) => format!(
            "{id} is missing here, and live keys are stored under it: keys that are not found are UNAVAILABLE"
        ),
    }
}

fn format_since(facts: &ServiceStatus, at: Moment) -> String {
    format!("since {}, {}", format_rfc3339(at.wall), format_duration(facts.now.since(at)))
}

/// In one unit, so that two of them can be compared at a glance.
fn format_duration(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        seconds => format!("{seconds} s"),
    }
}
