//! The status as text, one line each, for an operator.

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
    known_database::read_route::{ReadSource, RouteStatus},
    store::Circuit,
};

/// Renders a line for the process and for each dependency.
pub(super) fn render(status: &ServiceStatus) -> String {
    describe_parts(status).map(|(name, value)| format!("{name:8}  {value}\n")).concat()
}

/// Describes the process and each dependency: its name, and how it is.
#[must_use]
pub fn describe_parts(status: &ServiceStatus) -> [(&'static str, String); 15] {
    [
        ("process", process(status)),
        ("database", database(status)),
        ("reads", condition(status, status.reads)),
        ("writes", writes(status)),
        ("breaker", breaker(status)),
        ("feed", feed(status)),
        ("cache", cache(status)),
        ("clock", clock(status)),
        ("cpu", cpu(status)),
        ("grace", grace(status)),
        ("files", files(status.files)),
        ("expiry", expiry::describe_all(&status.expiries, status.now.wall)),
        ("denied", denied(status)),
        ("limits", limits(status)),
        ("peppers", peppers(status)),
    ]
}

/// Formats a time as RFC 3339, to the second. Times before 1970 and after 9999 are clamped.
#[must_use]
pub fn format_rfc3339(at: UnixMillis) -> String {
    let at = at.min(UnixMillis::MAX);
    let at = UNIX_EPOCH + Duration::from_millis(u64::try_from(at.0).unwrap_or_default());
    humantime::format_rfc3339_seconds(at).to_string()
}

fn process(status: &ServiceStatus) -> String {
    let since = format_since(status, status.phase_since);
    match status.phase {
        LifecyclePhase::Waiting => format!("waiting for the database {since}"),
        LifecyclePhase::Ready => format!("ready {since}"),
        LifecyclePhase::Unusable(why) => format!("unusable ({why}) {since}; the log says what to do"),
        LifecyclePhase::Stopping => format!("stopping {since}"),
    }
}

fn condition(status: &ServiceStatus, condition: Option<Condition>) -> String {
    match condition {
        None => "not tried yet".to_owned(),
        Some(condition) => {
            let since = format_since(status, condition.since);
            let last = format_duration(status.now.since(condition.last_call_at));
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

/// The identity of the database and the state of its read replica; reads and writes have their own lines.
fn database(status: &ServiceStatus) -> String {
    let distrust = status.distrust.map(|(reason, at)| {
        format!(
            "NOT TRUSTED ({}) {}: see `tenantctl database status`",
            reason.as_str(),
            format_since(status, at)
        )
    });
    let stalled = status
        .read_replica_stalled_for
        .map(|time| format!("the read replica has been stalled for {}", format_duration(time)));
    let problems: Vec<_> = distrust.into_iter().chain(stalled).collect();
    let database = match (problems.is_empty(), status.reads) {
        (true, None) => "not read yet".to_owned(),
        (true, Some(_)) => "trusted".to_owned(),
        (false, _) => problems.join("; "),
    };
    match status.read_route {
        None => database,
        Some(route) => format!("{database}; {}", read_route(&route)),
    }
}

fn read_route(route: &RouteStatus) -> String {
    let server = match route.source {
        ReadSource::ReadReplica => "the read replica",
        ReadSource::Primary => "the primary",
    };
    let unused = route.unused.map_or_else(String::new, |reason| match route.source {
        ReadSource::Primary => format!(", because the read replica is unusable ({})", reason.as_str()),
        ReadSource::ReadReplica => {
            format!(", which is unusable ({}), because the primary does not answer", reason.as_str())
        }
    });
    let (lag, changes) = (format_duration(route.lag), route.lag_positions);
    let behind = format!("the read replica is {lag} and {changes} changes behind");
    format!("reads go to {server}{unused}; {behind}")
}

fn clock(status: &ServiceStatus) -> String {
    match status.clock_offset {
        None => "not compared with the database's yet".to_owned(),
        Some(offset) if offset.abs() <= MAX_CLOCK_OFFSET_MILLIS => "agrees with the database's".to_owned(),
        Some(offset) => {
            let direction = if offset > 0 { "ahead of" } else { "behind" };
            let by = format_duration(Duration::from_millis(offset.unsigned_abs()));
            format!(
                "{by} {direction} the database's: keys and sessions expire at the wrong time on this replica"
            )
        }
    }
}

fn cpu(status: &ServiceStatus) -> String {
    let lag = format_duration(status.scheduler_lag);
    if status.scheduler_lag < MAX_SCHEDULER_LAG {
        return format!("maximum scheduler lag {lag} in the last minute");
    }
    format!(
        "maximum scheduler lag {lag} in the last minute: this replica is starved of CPU, and reads that time out say nothing about the database"
    )
}

fn writes(status: &ServiceStatus) -> String {
    let mut line = condition(status, status.writes.condition);
    let (queued, in_flight) = (status.writes.waiting, status.writes.under_way_for);
    // A write that takes less than a second is not worth reporting.
    if let Some(time) = in_flight.filter(|time| *time >= Duration::from_secs(1)) {
        line.push_str(&format!("; one write has been in flight for {}", format_duration(time)));
    }
    if queued > 0 {
        line.push_str(&format!("; {queued} queued"));
    }
    line
}

fn breaker(status: &ServiceStatus) -> String {
    let open = Circuit::ALL.into_iter().zip(status.open_circuits).filter(|(_, open)| *open);
    let open: Vec<_> = open.map(|(circuit, _)| circuit.as_str()).collect();
    match open.as_slice() {
        [] => "closed".to_owned(),
        open => format!("open for {}: such calls are rejected, except for a periodic probe", open.join(", ")),
    }
}

fn feed(status: &ServiceStatus) -> String {
    match status.feed {
        FeedStatus::Off => "off".to_owned(),
        FeedStatus::NotYetLive => "not live yet".to_owned(),
        FeedStatus::Live(ago) => format!("live, last poll {} ago", format_duration(ago)),
        FeedStatus::SilentSince(at) => format!("silent {}", format_since(status, at)),
    }
}

fn cache(status: &ServiceStatus) -> String {
    match status.oldest_answer {
        None => "no answer in the last minute".to_owned(),
        Some(age) => format!("oldest answer in the last minute: {}", format_duration(age)),
    }
}

fn grace(status: &ServiceStatus) -> String {
    let GraceStatus { in_force, configured, set_until, coverage } = status.grace;
    let mut line = match set_until {
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
    let Some(GraceCoverage { oldest_key: oldest, median_key: median, keys_beyond }) = coverage else {
        return line;
    };
    for (end, key) in [(median, "the median recently used key"), (oldest, "the oldest")] {
        match end {
            None => {}
            Some(TimeLeft::Remaining(left)) => {
                line += &format!("; ends for {key} in {}", format_duration(left))
            }
            Some(TimeLeft::Elapsed(ago)) => {
                line += &format!("; ended for {key} {} ago", format_duration(ago))
            }
        }
    }
    line += &format!("; keys beyond it: {keys_beyond}");
    line
}

fn files(files: FileStatus) -> String {
    let refused: Vec<_> = files.refused().collect();
    if refused.is_empty() {
        return "in effect".to_owned();
    }
    format!(
        "reload refused for {}; the previous content stays in effect; the log says why",
        refused.join(" and ")
    )
}

fn denied(status: &ServiceStatus) -> String {
    match status.denied_entries {
        0 => "no entries in the deny file".to_owned(),
        count => format!("{count} entries in the deny file, denied regardless of the database"),
    }
}

fn limits(status: &ServiceStatus) -> String {
    let Some(condition) = status.limits else { return "no lease exchanged yet".to_owned() };
    let since = format_since(status, condition.since);
    match condition.failure {
        None => format!("leases are exchanged {since}"),
        Some(kind) => format!(
            "leases are NOT exchanged ({}) {since}: what is held is spent, then on_outage of each limit decides",
            kind.as_str()
        ),
    }
}

fn peppers(status: &ServiceStatus) -> String {
    match &status.pepper_missing {
        None => "none is missing".to_owned(),
        Some(id) => format!(
            "{id} is missing here, and live keys are stored under it: keys that are not found are UNAVAILABLE"
        ),
    }
}

fn format_since(status: &ServiceStatus, at: Moment) -> String {
    format!("since {}, {}", format_rfc3339(at.wall), format_duration(status.now.since(at)))
}

/// One unit, so that durations are easy to compare.
fn format_duration(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        seconds => format!("{seconds} s"),
    }
}
