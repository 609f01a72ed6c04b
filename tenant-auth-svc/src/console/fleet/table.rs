//! The table of the replicas, with what differs between them.

#[cfg(test)]
mod tests;

use std::time::Duration;

use maud::{Markup, html};
use tenant_auth_proto::v1::{self, LookupState};

use super::{Description, Replica, Silence};
use crate::console::html::{duration, id};

/// From this difference on a clock counts as wrong, in milliseconds: the same as against the clock of the database.
const MAX_CLOCK_OFFSET: i64 = crate::ops::status::MAX_CLOCK_OFFSET_MILLIS;
/// A replica that is this many revisions behind has not applied changes that others have: one interval of the feed is less.
const MAX_REVISIONS_BEHIND: i64 = 100;
/// From this age of the feed on it counts as silent.
const MAX_FEED_AGE: Duration = Duration::from_secs(1);
/// The length of a short commit.
const SHORT_COMMIT: usize = 8;

/// What differs from this replica, or from what is right.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Drift {
    version: bool,
    commit: bool,
    schema: bool,
    behind: bool,
    feed: bool,
    lookups: bool,
    clock: bool,
}

impl Drift {
    fn of(replica: &Description, this: Option<&Description>, newest: i64) -> Self {
        let info = &replica.info;
        let differs = |same: fn(&v1::GetServerInfoResponse, &v1::GetServerInfoResponse) -> bool| {
            this.is_some_and(|this| !same(info, &this.info))
        };
        Self {
            version: differs(|one, other| one.version == other.version),
            commit: differs(|one, other| one.commit == other.commit && one.dirty == other.dirty),
            schema: differs(|one, other| one.schema_version == other.schema_version),
            behind: newest - replica.applied_revision() > MAX_REVISIONS_BEHIND,
            feed: feed_age(info).is_some_and(|age| age > MAX_FEED_AGE),
            lookups: lookups(info) == LookupState::BreakerOpen,
            clock: replica.clock_offset.abs() > MAX_CLOCK_OFFSET,
        }
    }

    fn any(self) -> bool {
        self != Self::default()
    }
}

/// The replicas, this one first, and a sentence about all of them.
pub(in crate::console) fn table(replicas: &[Replica]) -> Markup {
    let described = |replica: &Replica| replica.answer.as_ref().ok().cloned();
    let this = replicas.iter().find(|replica| replica.is_this).and_then(described);
    let newest =
        replicas.iter().filter_map(described).map(|known| known.applied_revision()).max().unwrap_or(0);
    let rows: Vec<_> = replicas
        .iter()
        .map(|replica| {
            let answer = replica.answer.as_deref();
            (replica, answer.map(|known| (known, Drift::of(known, this.as_deref(), newest))))
        })
        .collect();
    html! {
        p { (summary(&rows)) }
        div.scroll tabindex="0" role="region" aria-label="Replicas" {
            table {
                thead {
                    tr {
                        th scope="col" { "Replica" } th scope="col" { "Version" } th scope="col" { "Commit" }
                        th.number scope="col" { "Revision" } th scope="col" { "Feed" } th scope="col" { "Lookups" }
                        th scope="col" { "Up for" } th scope="col" { "Clock" }
                    }
                }
                tbody { @for (replica, answer) in &rows { (row(replica, answer.as_ref().ok().copied())) } }
            }
        }
    }
}

type Row<'a> = (&'a Replica, Result<(&'a Description, Drift), &'a Silence>);

fn summary(rows: &[Row<'_>]) -> String {
    let asked = rows.iter().filter(|(_, answer)| matches!(answer, Err(Silence::Asked))).count();
    let silent = rows.iter().filter(|(_, answer)| matches!(answer, Err(Silence::Failed(_)))).count();
    let drifting = rows.iter().filter(|(_, answer)| answer.is_ok_and(|(_, drift)| drift.any())).count();
    if let [_] = rows {
        return "Only this replica is known here: TENANT_AUTH_CONSOLE_PEERS names others.".to_owned();
    }
    let mut text = format!("{} replicas", rows.len());
    match (silent, drifting) {
        (0, 0) if asked == 0 => text += ", all alike.",
        (0, 0) => text += ".",
        (_, 0) => text += &format!(", {silent} without an answer."),
        (0, _) => text += &format!(", {drifting} that should be looked at."),
        (_, _) => text += &format!(", {silent} without an answer, {drifting} that should be looked at."),
    }
    if asked > 0 {
        text += " Some are being asked.";
    }
    text
}

fn row(replica: &Replica, answer: Option<(&Description, Drift)>) -> Markup {
    let name = html! {
        th scope="row" {
            @if replica.is_this {
                "this replica" @if !replica.address.is_empty() { " " (id(&replica.address)) }
            } @else { (id(&replica.address)) }
        }
    };
    let Some((described, drift)) = answer else {
        return html! {
            tr {
                (name)
                td colspan="7" {
                    @match &replica.answer {
                        Err(Silence::Failed(why)) => { span.tag.bad { "no answer" } " " (why) }
                        Err(Silence::Asked) | Ok(_) => span.none { "is being asked …" }
                    }
                }
            }
        };
    };
    let Description { info, clock_offset } = described;
    let commit = info.commit.get(..SHORT_COMMIT).unwrap_or(&info.commit);
    let uptime = info.uptime.and_then(|uptime| Duration::try_from(uptime).ok());
    html! {
        tr {
            (name)
            td {
                (info.version) (mark(drift.version, "differs"))
                @if drift.schema { " " span.tag.bad { "schema " (info.schema_version) } }
            }
            td {
                @if commit.is_empty() { span.none { "unknown" } } @else { code title=(info.commit) { (commit) } }
                @if info.dirty { " " span.tag { "dirty" } } (mark(drift.commit, "differs"))
            }
            td.number { (described.applied_revision()) (mark(drift.behind, "behind")) }
            td { (feed(info)) }
            td {
                @match lookups(info) {
                    LookupState::Healthy => "work",
                    LookupState::FeedSilent => "work, feed silent",
                    LookupState::BreakerOpen => span.tag.bad { "breaker open" },
                    LookupState::Unspecified => span.none { "unknown" },
                }
            }
            td { (uptime.map_or_else(|| "unknown".to_owned(), coarse)) }
            td { @if drift.clock { span.tag.bad { (offset(*clock_offset)) } } @else { "agrees" } }
        }
    }
}

fn mark(drifts: bool, what: &str) -> Markup {
    html! { @if drifts { " " span.tag.bad { (what) } } }
}

fn feed_age(info: &v1::GetServerInfoResponse) -> Option<Duration> {
    let age = info.replica.as_ref()?.feed_age?;
    Duration::try_from(age).ok()
}

/// The age itself changes with every look, and says nothing while the feed is live.
fn feed(info: &v1::GetServerInfoResponse) -> Markup {
    html! {
        @match feed_age(info) {
            None => span.none { "off, or not live yet" },
            Some(age) if age > MAX_FEED_AGE => span.tag.bad { "silent for " (duration(age)) },
            Some(_) => "live",
        }
    }
}

fn lookups(info: &v1::GetServerInfoResponse) -> LookupState {
    info.replica.as_ref().map_or(LookupState::Unspecified, v1::ReplicaState::lookups)
}

fn offset(millis: i64) -> String {
    let by = duration(Duration::from_millis(millis.unsigned_abs()));
    if millis > 0 { format!("{by} ahead") } else { format!("{by} behind") }
}

/// A duration in its largest unit, so that the table does not change with every look.
fn coarse(time: Duration) -> String {
    let seconds = time.as_secs();
    let unit = [86_400, 3_600, 60].into_iter().find(|unit| seconds >= *unit);
    match unit {
        Some(unit) => duration(Duration::from_secs(seconds - seconds % unit)),
        None => "less than 1 min".to_owned(),
    }
}
